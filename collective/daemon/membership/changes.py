"""Carry a change of the voters to its end: a removal, or a demotion.

It does not decide on one and does not begin it; ``removal`` and ``demotion`` do. Whoever leads
finishes one whose server died (``reconciler``).

Invariants:
  * Doing it twice, or late, is harmless: a change names a member id, which etcd never uses again.
"""

from __future__ import annotations

import logging

from collective.daemon.clock import epoch
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.retries import until_written
from collective.errors import CollectiveError, EtcdError
from collective.etcd.api import EtcdApi, hex_id
from collective.etcd.deadline import within
from collective.failpoints import Step, reached
from collective.model.records import Change, ChangeKind
from collective.model.view import member_key
from collective.protocol.messages import SYNC, Sync

log = logging.getLogger(__name__)

_CALL_SECONDS = 2.0
_REMOVE_TRIES = 4
# While another change of its members is not applied, raft drops a second one without a word
# (raft.go, pendingConfIndex), and etcd then waits for it in vain: so ask for little, and again.
CHANGE_SECONDS = 1.0


def finish(runtime: MemberRuntime, change: Change) -> None:
    """Carry a removal or a demotion to its end. Safe to repeat.

    A removal: out of etcd, revoked, records gone. A demotion: out of etcd, and its record says
    that it does not vote; its server is told before, so that it knows what its etcd's end means.

    Raises:
        EtcdError: etcd did not do it, or did not say so; it stays under way.
    """
    if change.done:
        return
    if change.kind is ChangeKind.DEMOTE:
        _tell(runtime, change)
        reached(Step.DEMOTE_TOLD)
    _remove(runtime, change)
    if change.kind is ChangeKind.DEMOTE:
        reached(Step.DEMOTE_REMOVE)
    else:
        reached(Step.DELETE_REMOVE)

    def attempt() -> bool | None:
        view = runtime.store.read()
        if view.change != change:
            return False
        return runtime.store.finish_change(view, change, epoch()) or None

    if until_written(f"{change.kind.value} {change.name}", attempt):
        log.debug("%sd name=%s id=%s", change.kind.value, change.name, change.member_id)
        if change.kind is ChangeKind.DEMOTE:
            reached(Step.DEMOTE_FINISH)
        else:
            reached(Step.DELETE_FINISH)


def _tell(runtime: MemberRuntime, change: Change) -> None:
    """Let a server that is to be demoted keep the record that says so, if it answers."""
    view = runtime.store.read()
    member = view.members.get(change.name)
    if member is None or change.name == runtime.name:
        return
    peer = runtime.peers.client(member)
    body = Sync(view.mod_revision(member_key(change.name))).to_wire()
    try:
        peer.call("POST", SYNC, body, _CALL_SECONDS)
    except CollectiveError as error:
        log.info("a server to be demoted could not be told: %s name=%s", error, change.name)
    finally:
        peer.close()


def _remove(runtime: MemberRuntime, change: Change) -> None:
    """Take a member out of etcd, if it is not out already."""
    for left in reversed(range(_REMOVE_TRIES)):
        try:
            with within(CHANGE_SECONDS):
                runtime.gateway.remove(int(change.member_id, 16))
            break
        except EtcdError:
            if _is_gone(runtime.gateway, change.member_id):
                break
            if not left:
                raise


def _is_gone(gateway: EtcdApi, member_id: str) -> bool:
    with within(_CALL_SECONDS):
        return member_id not in {hex_id(m.id) for m in gateway.members()}
