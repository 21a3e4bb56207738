"""Between voting and not voting: what the end of this server's etcd means.

An etcd ends with code 0 when its member was removed. That is so for a server that was deleted,
for a learner that was given up, and for one that was demoted: so a member is asked which it was
before this server gives up what it is. It does so, too, when what it sends gets to another member
than the one that it means (rafthttp takes a 403 for a removal).

Invariants:
  * No server takes the end of its etcd for a deletion while a member says otherwise, nor one that
    knows that it may stay without a vote. Where nobody answers for ``PATIENCE_SECONDS`` etcd is
    started again; that of a removed member ends each time, before it answers.
"""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, Any

from collective.daemon.clock import elapsed, utc_now
from collective.daemon.lifecycle import lives
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import AccessError, CollectiveError, RemovedError
from collective.failpoints import Step, reached
from collective.model.plan import Plan
from collective.model.records import ChangeKind, MemberRecord, Role, from_json
from collective.policy.transitions import Event, apply
from collective.protocol import messages

if TYPE_CHECKING:
    from collective.daemon.lifecycle.server import CollectiveServer

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
_SURE_ENDS = 2
_CALL_SECONDS = 2.0
_POLL_SECONDS = 0.1


class Verdict(enum.Enum):
    """What a member says of us."""

    REMOVED = "removed"
    NONVOTING = "nonvoting"
    PENDING = "pending"


def is_removed(server: CollectiveServer, runtime: MemberRuntime) -> bool:
    """Find out why etcd ended; begin the life of a server that does not vote, if that is why.

    Returns:
        Whether this server was deleted, or given up, and is to rest.
    """
    deadline, is_member = elapsed() + PATIENCE_SECONDS, False
    while server.runtime is runtime and not server.stopped.is_set():
        verdict = ask(runtime)
        if verdict is Verdict.NONVOTING:
            become_nonvoting(server, runtime)
            return False
        if verdict is Verdict.REMOVED:
            return True
        is_member = is_member or verdict is Verdict.PENDING
        if elapsed() > deadline:
            known = is_member or _may_stay(server.plan, runtime)
            return runtime.etcd.ends >= _SURE_ENDS and not known
        server.stopped.wait(_POLL_SECONDS)
    return False


def become_nonvoting(server: CollectiveServer, runtime: MemberRuntime) -> None:
    """Go on without an etcd: this server does not vote any more, or does not come to vote."""
    with server.life:
        if server.runtime is not runtime or server.stopped.is_set():
            return
        log.warning("this server does not vote: its etcd is no member")
        server.end_life(hand_over=False)
        plan = apply(server.plan, Event.DEMOTED)
        server.save(plan)
        reached(Step.DEMOTED_PLAN)
        trouble: CollectiveError | None = None
        try:
            plan = lives.shed_vote(server.layout, server.state, plan, utc_now())
        except CollectiveError as error:
            log.error("this server stays between two lives: %s", error)
            trouble = error
        reached(Step.DEMOTED_ASIDE)
        server.live(plan, trouble)


def look_after(server: CollectiveServer, runtime: MemberRuntime) -> None:
    """Go on without a vote where a voter says so, and etcd here cannot hear of it any more.

    That is one that was off, or lost its network, when it was demoted: the others' etcds refuse
    its certificate by now, so its own never learns that its member was removed.
    """
    if not runtime.votes or _follows(runtime.etcd):
        return
    # Without anybody who has a quorum nobody can say.
    if not runtime.detector.answering(0.0) & runtime.records_view.view.voters.keys():
        return
    if runtime.etcd.doubts.is_due(elapsed()) and ask(runtime) is Verdict.NONVOTING:
        become_nonvoting(server, runtime)


def _follows(etcd: EtcdSupervisor) -> bool:
    try:
        return bool(etcd.status().leader)
    except CollectiveError:
        return False


def become_learner(server: CollectiveServer, runtime: MemberRuntime, **fields: Any) -> None:
    """Begin the life of a learner, whom the others have made one already.

    Args:
        server: this server.
        runtime: its life until now.
        fields: of its plan, as the others gave them.
    """
    with server.life:
        if server.runtime is not runtime or server.stopped.is_set():
            return
        plan = apply(server.plan, Event.PROMOTED, **fields)
        server.save(plan)
        reached(Step.PROMOTE_JOINING)
        server.end_life(hand_over=False)
        server.live(plan)


def _may_stay(plan: Plan, runtime: MemberRuntime) -> bool:
    own = runtime.records_view.view.members.get(runtime.name)
    demoted = own is not None and own.target is Role.NONVOTING
    return demoted or plan.fallback is Role.NONVOTING


def ask(runtime: MemberRuntime) -> Verdict | None:
    """Ask the voters what this server is; None when none of them can say."""
    for member in map(runtime.locate, runtime.records_view.view.voters_but(runtime.name)):
        peer = runtime.peers.client(member)
        try:
            raw = peer.call("GET", messages.SELF, None, _CALL_SECONDS)
            return _verdict(messages.Myself.from_wire(raw))
        except (RemovedError, AccessError):
            return Verdict.REMOVED
        except CollectiveError as error:
            log.debug("a voter does not say what we are: %s name=%s", error, member.name)
            # Who is no member any more is let in as a stranger alone.
            if runtime.peers.ask_as_stranger(member).deleted:
                return Verdict.REMOVED
        finally:
            peer.close()
    return None


def _verdict(told: messages.Myself) -> Verdict:
    record = from_json(MemberRecord, told.record)
    if record.role is Role.NONVOTING:
        return Verdict.NONVOTING
    if told.change == ChangeKind.REMOVE.value:
        return Verdict.REMOVED
    return Verdict.PENDING
