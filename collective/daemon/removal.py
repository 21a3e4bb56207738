"""Put a member out: decide, write it down, and see that the others know; and leave.

``duties.finish`` carries a removal to its end, also when the server that began it is lost.

Invariants:
  * Refused means that nothing was changed.
  * A removal is written down before etcd is asked for it, and is never taken back: whoever leads
    finishes it if this server dies.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from collective.daemon.duties import finish
from collective.daemon.node import Node, hex_id
from collective.daemon.quorum import needs_quorum
from collective.daemon.retries import until_written
from collective.errors import CollectiveError, EtcdError, QuorumError, RefusedError
from collective.failpoints import Step, reached
from collective.model.names import natural_key
from collective.model.records import Change, ChangeKind, MemberRecord
from collective.policy.membership import (
    Observed,
    Strength,
    check_delete,
    check_no_change_under_way,
    removal_of,
)
from collective.protocol import messages

log = logging.getLogger(__name__)

_SYNC_SECONDS = 3.0
_LEAVE_SECONDS = 10.0


@dataclass(frozen=True)
class Deleted:
    """The outcome of a removal.

    Attributes:
        name: who was removed.
        after: voters and answering voters now.
        confirmed: members that refuse the server from now on.
        unconfirmed: members that did not answer; they learn it before they take part again.
    """

    name: str
    after: Strength
    confirmed: tuple[str, ...]
    unconfirmed: tuple[str, ...]


def delete(node: Node, name: str, force: bool, by: str) -> Deleted:
    """Remove a member, revoke its certificates, and see that the others know.

    Args:
        node: this server, which is not the one to remove.
        name: whom to remove.
        force: also if it answers.
        by: who asked, for the record.

    Raises:
        InputError: there is no such member.
        RefusedError: a rule forbids it.
        QuorumError: there is no quorum, or the removal would cost it.
    """
    with needs_quorum(node, f"delete {name}"):
        change = begin_removal(node, name, force, by)
        finish(node, change)
    return _confirm(node, name)


def begin_removal(node: Node, name: str, force: bool, by: str) -> Change:
    """Decide on a removal and write it down; from then on it is made, whoever dies.

    Returns:
        The change, already under way or done where the same removal was asked for before.

    Raises:
        InputError, RefusedError, QuorumError: as ``delete``.
    """

    def attempt() -> Change | None:
        observed = node.observe()
        begun = removal_of(observed.view, name)
        if begun is not None:
            return begun
        check_delete(observed, name, force)
        check_no_change_under_way(observed.view)
        member = observed.view.members[name]
        if not member.member_id:
            raise RefusedError(
                f"cannot delete {name}: it is just being taken in", "try again in a few seconds"
            )
        _take_leadership_from(node, member)
        change = Change(ChangeKind.REMOVE, name, member.member_id, by, done=False)
        return change if node.store.begin_change(observed.view, change) else None

    change = until_written(f"delete {name}", attempt)
    reached(Step.DELETE_BEGIN)
    return change


def _take_leadership_from(node: Node, member: MemberRecord) -> None:
    """Have a leader that is to be removed hand over first: writes go on, and so do we.

    A leader that is removed takes the news of its own removal with it; the others would only
    learn it after an election.
    """
    if hex_id(node.status().leader) != member.member_id:
        return
    peer = node.peer(member)
    try:
        peer.call("POST", messages.HAND_OVER, {"format": messages.FORMAT}, _SYNC_SECONDS)
    except CollectiveError as error:
        log.info("the leader to be removed did not hand over: %s name=%s", error, member.name)
    finally:
        peer.close()


def _confirm(node: Node, name: str) -> Deleted:
    """Wait until each member that answers has taken the revocation up."""
    try:
        observed = node.observe()
    except EtcdError as error:
        log.warning("the deletion is made, but nobody could be asked about it: %s", error)
        return Deleted(name, Strength(0, 0), (), tuple(node.replica.view.members.keys() - {name}))
    revision = observed.view.revision
    others = [m for n, m in observed.view.members.items() if n != node.name]
    here = node.replica.wait_for(revision, _SYNC_SECONDS) and node.refuses_all_revoked
    with ThreadPoolExecutor(max(1, len(others)), "confirm") as pool:
        done = list(pool.map(lambda m: _has_confirmed(node, m, revision), others))
    outcome = {m.name: good for m, good in zip(others, done, strict=True)} | {node.name: here}
    ordered = sorted(outcome, key=natural_key)
    return Deleted(
        name,
        observed.strength(),
        tuple(n for n in ordered if outcome[n]),
        tuple(n for n in ordered if not outcome[n]),
    )


def _has_confirmed(node: Node, member: MemberRecord, revision: int) -> bool:
    peer = node.peer(member)
    body = {"format": messages.FORMAT, "revision": revision}
    try:
        return bool(peer.call("POST", messages.SYNC, body, _SYNC_SECONDS).get("synced"))
    except CollectiveError as error:
        log.warning("a member did not confirm: %s name=%s", error, member.name)
        return False
    finally:
        peer.close()


def leave(node: Node) -> str:
    """Ask another member to remove this server; return that member's name.

    When this returns the removal is written down, and will be made; it may not be made yet.

    Raises:
        RefusedError: this is the only voter, or a rule forbids it.
        QuorumError: there is no quorum, or leaving would cost it.
    """
    with needs_quorum(node, f"delete {node.name}"):
        observed = node.observe()
        check_delete(observed, node.name, force=False)
        sponsor = _who_removes_us(observed)
        node.hand_over()
        peer = node.peer(sponsor)
        try:
            peer.call("POST", messages.LEAVE, {"format": messages.FORMAT}, _LEAVE_SECONDS)
        finally:
            peer.close()
        reached(Step.LEAVE_ASKED)
        return sponsor.name


def _who_removes_us(observed: Observed) -> MemberRecord:
    able = sorted((observed.view.voters.keys() & observed.answering) - {observed.here})
    if not able:
        raise QuorumError(
            f"cannot delete {observed.here}: no other voter answers",
            "start another server of the collective first",
        )
    return observed.view.members[able[0]]
