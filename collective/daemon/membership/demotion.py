"""Take the vote of a member: decide, write it down, see it through.

``changes.finish`` carries it to its end, also when the server that began it is lost; what the
demoted server does is in ``changeover``.

Invariants:
  * Refused means that nothing was changed.
  * It is written down before etcd is asked for it, and is never taken back.
  * It is carried out by another server than the one that it is about.
"""

from __future__ import annotations

import logging

from collective.daemon.clock import elapsed
from collective.daemon.member.quorum import has_begun, may_have_begun, needs_quorum
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.changes import finish
from collective.daemon.membership.confirming import Deleted, confirm
from collective.daemon.membership.removal import take_leadership_from
from collective.daemon.nonvoting.voters import Emit
from collective.daemon.retries import until_written
from collective.errors import UnreachableError
from collective.failpoints import Step, reached
from collective.model.changes import begin
from collective.model.records import Change, ChangeKind, Role
from collective.policy.membership import (
    Observed,
    check_demote,
    check_no_change_under_way,
)

log = logging.getLogger(__name__)

_READY_SECONDS = 30.0
_POLL_SECONDS = 0.05


def demote(runtime: MemberRuntime, name: str, by: str, emit: Emit) -> Deleted:
    """Make a voter a server that does not vote; returns when it takes part as such.

    It says who knows of it, and which invitations are pending still.

    Args:
        runtime: this server, which is not the one to demote.
        name: whom to demote.
        by: who asked, for the record.
        emit: gets each step.

    Raises:
        InputError: there is no such member.
        RefusedError: a rule forbids it.
        QuorumError: there is no quorum, or it would be lost.
        PendingError: it has begun, or is done and not yet known to all.
        UnreachableError: it is done, but the server does not answer.
    """
    with needs_quorum(runtime, f"demote {name}"):
        change = _begin(runtime, name, by)
        if change is not None:
            emit("begin", f"{name} is to lose its vote")
            with has_begun(f"demote {name}"):
                finish(runtime, change)
            emit("remove", f"etcd does not count {name} any more")
    # What it had to do at the doors of etcd as a voter it has no more.
    confirmed = confirm(runtime, f"{name} does not vote any more", name)
    _wait_until_ready(runtime, name)
    emit("ready", f"{name} takes part; it does not vote")
    return confirmed


def _begin(runtime: MemberRuntime, name: str, by: str) -> Change | None:
    """Decide and write it down; None if it is done already."""

    def attempt() -> Change | bool | None:
        observed = runtime.observe()
        under_way = observed.view.change_under_way
        if under_way is not None and _is_this(under_way, name):
            return under_way
        if _is_done(observed, name):
            return True
        check_demote(observed, name)
        check_no_change_under_way(observed.view)
        member = observed.view.members[name]
        take_leadership_from(runtime, member)
        change = begin(observed.view.change, ChangeKind.DEMOTE, member, by)
        with may_have_begun(f"demote {name}"):
            return change if runtime.store.begin_change(observed.view, change) else None

    change = until_written(f"demote {name}", attempt)
    if not isinstance(change, Change):
        return None
    reached(Step.DEMOTE_BEGIN)
    return change


def _is_this(change: Change, name: str) -> bool:
    return change.kind is ChangeKind.DEMOTE and change.name == name


def _is_done(observed: Observed, name: str) -> bool:
    member = observed.view.members.get(name)
    return member is not None and member.role is Role.NONVOTING and member.target is not Role.VOTER


def _wait_until_ready(runtime: MemberRuntime, name: str) -> None:
    deadline = elapsed() + _READY_SECONDS
    while elapsed() < deadline:
        answer = runtime.detector.answers(1.0, since=elapsed()).get(name)
        if answer is not None and answer.status is not None:
            status = answer.status
            if status.nonvoting and status.healthy:
                return
        if runtime.stopping.wait(_POLL_SECONDS):
            break
    raise UnreachableError(
        f"{name} does not vote any more, but did not answer within {_READY_SECONDS:.0f} s",
        f"see 'collective show' on {name}",
    )
