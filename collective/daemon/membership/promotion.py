"""Make a voter of a server that does not vote: what the voters do for it.

The command writes down what the server is to become. The server sees that and asks to be made a
learner (``promotee``); the rest is as in a join. Whoever leads takes a promotion back that does
not get anywhere, and the server stays what it was.

Invariants:
  * Nothing of etcd's members changes before the server's peer port was reached.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from collective.daemon.clock import elapsed, epoch
from collective.daemon.member.quorum import needs_quorum
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.dial_back import knock
from collective.daemon.membership.learner import enter, others_turn, until_it_may_enter
from collective.daemon.nonvoting.voters import Emit
from collective.daemon.retries import until_written
from collective.errors import RefusedError, UnreachableError
from collective.etcd.api import hex_id
from collective.etcd.record_store import RecordStore
from collective.failpoints import Step, reached
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.policy.membership import check_promote
from collective.protocol.messages import Learner

log = logging.getLogger(__name__)

_MARGIN_SECONDS = 30.0
_POLL_SECONDS = 0.5
_SYNC_SECONDS = 3.0


def promote(runtime: MemberRuntime, name: str, learner_timeout: float, emit: Emit) -> None:
    """Make a server that does not vote a voter; returns when it votes.

    Args:
        runtime: this server.
        name: whom to promote.
        learner_timeout: how long it may take to catch up, in seconds.
        emit: gets each step.

    Raises:
        InputError: there is no such member.
        RefusedError: a rule forbids it, or it was given up.
        QuorumError: there is no quorum.
        UnreachableError: it is under way, but not done in time.
    """
    with needs_quorum(runtime, f"promote {name}"):
        revision = until_written(f"promote {name}", lambda: _begin(runtime, name))
    reached(Step.PROMOTE_TARGET)
    runtime.records_view.wait_for(revision, _SYNC_SECONDS)
    _wait(runtime, name, learner_timeout + _MARGIN_SECONDS, emit)
    reached(Step.PROMOTE_DONE)
    emit("ready", f"{name} votes")


def _begin(runtime: MemberRuntime, name: str) -> int | None:
    """Write down that a server is to vote, if it is not; return a revision that has it."""
    observed = runtime.observe()
    view = observed.view
    member = view.members.get(name)
    if member is not None and (member.role is Role.VOTER or member.fallback is not None):
        return view.newest
    check_promote(observed, name)
    member = view.members[name]
    if member.target is Role.VOTER:
        return view.newest
    written = runtime.store.put_member(view, replace(member, target=Role.VOTER), epoch())
    return view.revision + 1 if written else None


def _wait(runtime: MemberRuntime, name: str, limit: float, emit: Emit) -> None:
    deadline = elapsed() + limit
    told: set[Role] = set()
    while elapsed() < deadline and not runtime.stopping.is_set():
        member = runtime.records_view.view.members.get(name)
        if member is None:
            raise RefusedError(f"{name} was deleted while it was promoted")
        if member.role is Role.VOTER:
            return
        if member.target is not Role.VOTER:
            raise RefusedError(
                f"{name} was not promoted: it did not get ready in time, and stays what it was",
                f"see the log of collectived on {name}",
            )
        if member.role not in told:
            told.add(member.role)
            step, said = _STEPS[member.role]
            emit(step, said.format(name))
        runtime.records_view.wait_until(partial(_has_changed, member), _POLL_SECONDS)
    raise UnreachableError(
        f"{name} is being promoted, but does not vote after {limit:.0f} s",
        "it goes on by itself; run the same command again to wait for it",
    )


def _has_changed(member: MemberRecord, view: View) -> bool:
    return view.members.get(member.name) != member


_STEPS = {
    Role.NONVOTING: ("target", "{} is to vote"),
    Role.LEARNER: ("learner", "etcd on {} catches up"),
}


def make_learner(runtime: MemberRuntime, member: MemberRecord) -> Learner:
    """Make the member that asks a learner of etcd, when every voter that answers lets it in.

    Raises:
        RefusedError: nobody promotes it, or another server is just being taken in.
        UnreachableError: its peer port is not open.
        EtcdError: etcd refused it.
    """
    _check_wanted(member)
    knock(runtime.name, member.name, member.address, member.peer_port)
    recorded = _record(runtime.store, member.name, member.member_id).members[member.name]
    # In the middle of a change it shows one of two; a learner's are not changed any more.
    for fingerprint in recorded.fingerprints:
        for _ in until_it_may_enter(
            runtime,
            fingerprint,
            member.url,
            lambda: _record(runtime.store, member.name, member.member_id),
        ):
            pass
    if others_turn(runtime.gateway, member.url):
        raise RefusedError(f"{member.name} must wait: another server is being taken in")
    entered = enter(
        runtime,
        member.name,
        member.url,
        lambda member_id: _record(runtime.store, member.name, member_id),
        lambda: _undo(runtime.store, member.name),
    )
    if entered is None:
        raise RefusedError(f"{member.name} must wait: another server is being taken in")
    reached(Step.PROMOTE_LEARNER)
    member_id, initial_cluster = entered
    return Learner(runtime.plan.cluster_token, hex_id(member_id), initial_cluster)


def _check_wanted(member: MemberRecord) -> None:
    begun = member.role is Role.LEARNER and member.fallback is Role.NONVOTING
    if member.target is not Role.VOTER or not (member.role is Role.NONVOTING or begun):
        raise RefusedError(f"{member.name} is not being promoted")


def _record(store: RecordStore, name: str, member_id: str) -> View:
    def attempt() -> View | None:
        view = store.read()
        member = view.members.get(name)
        if member is None:
            raise RefusedError(f"{name} was deleted while it was promoted")
        _check_wanted(member)
        learner = replace(
            member,
            role=Role.LEARNER,
            fallback=Role.NONVOTING,
            member_id=member_id,
            joined=epoch(),
        )
        return view if store.put_learner(view, learner) else None

    return until_written(f"promote {name}", attempt)


def _undo(store: RecordStore, name: str) -> None:
    """Let the server be what it was, but still to be promoted: it asks again."""
    view = store.read()
    member = view.members.get(name)
    if member is not None and member.role is Role.LEARNER and not member.member_id:
        store.put_learner(view, replace(member.as_nonvoting(), target=Role.VOTER))
