"""Put a member out: decide, and write it down; and leave.

``confirming`` sees that the others know. ``reconciler.finish`` carries a removal to its end, also
when the server that began it is lost.

Invariants:
  * Refused means that nothing was changed.
  * A removal is written down before etcd is asked for it, and is never taken back: whoever leads
    finishes it if this server dies.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from collective.daemon.clock import epoch
from collective.daemon.member.peers import Peers
from collective.daemon.member.quorum import has_begun, may_have_begun, needs_quorum
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.changes import finish
from collective.daemon.membership.confirming import Deleted, confirm
from collective.daemon.retries import until_written
from collective.errors import (
    CollectiveError,
    QuorumError,
    RefusedError,
    UnreachableError,
)
from collective.etcd.api import hex_id
from collective.failpoints import Step, reached
from collective.model.changes import begin
from collective.model.records import Change, ChangeKind, MemberRecord, Role
from collective.policy import forecast
from collective.policy.forecast import Forecast
from collective.policy.membership import (
    Observed,
    check_delete,
    check_no_change_under_way,
    removal_of,
)
from collective.protocol.messages import HAND_OVER, LEAVE, Message

log = logging.getLogger(__name__)

_HAND_OVER_SECONDS = 3.0
_LEAVE_SECONDS = 10.0


def delete(runtime: MemberRuntime, name: str, force: bool, by: str) -> Deleted:
    """Remove a member, revoke its certificates, and see that the others know.

    Args:
        runtime: this server, which is not the one to remove.
        name: whom to remove.
        force: also if it answers.
        by: who asked, for the record.

    Raises:
        InputError: there is no such member.
        RefusedError: a rule forbids it.
        QuorumError: there is no quorum, or the removal would cost it.
        PendingError: the removal has begun, or may have, or is made and not yet known to all.
    """
    with needs_quorum(runtime, f"delete {name}"):
        if not is_out(runtime, name) and not put_out(runtime, name, force):
            change = begin_removal(runtime, name, force, by)
            with has_begun(f"delete {name}"):
                finish(runtime, change)
    return confirm(runtime, f"{name} is deleted", name)


def foretell(runtime: MemberRuntime, name: str, force: bool) -> Forecast:
    """Return what a removal, or leaving, would do; refuse what ``delete`` or ``leave`` would.

    Raises:
        InputError, RefusedError, QuorumError: as those.
    """
    with needs_quorum(runtime, f"delete {name}"):
        observed = runtime.observe()
    check_delete(observed, name, force)
    if _may_be_in_etcd(observed.view.members[name]):
        check_no_change_under_way(observed.view)
        _refuse_half_member(observed.view.members[name])
    if name == runtime.name:
        _who_may_remove_us(observed)
    if name not in observed.voters:
        return forecast.without_nonvoting(observed.strength(), name)
    return forecast.without_voter(observed.strength(), name, name in observed.answering)


def is_out(runtime: MemberRuntime, name: str) -> bool:
    """Tell whether a server was deleted before: who asks again, after a cut, is told so."""
    if name in runtime.records_view.view.members:
        return False
    view = runtime.store.read()
    if name in view.members or name in view.invitations or removal_of(view, name) is not None:
        return False
    return any(revocation.name == name for revocation in view.revoked.values())


def put_out(runtime: MemberRuntime, name: str, force: bool) -> bool:
    """Remove a member that etcd has none of: it does not vote, or never got that far.

    That changes no quorum, so it is one transaction.

    Returns:
        False, and nothing was changed, if etcd has or may have a member of that name.

    Raises:
        InputError, RefusedError, QuorumError: as ``delete``.
    """

    def attempt() -> bool | None:
        observed = runtime.observe()
        member = observed.view.members.get(name)
        if member is None or _may_be_in_etcd(member):
            return False
        check_delete(observed, name, force)
        with may_have_begun(f"delete {name}"):
            return runtime.store.put_out(observed.view, member, epoch()) or None

    known = runtime.records_view.view.members.get(name)
    if known is None or _may_be_in_etcd(known):
        return False
    done = until_written(f"delete {name}", attempt)
    if done:
        log.debug("removed name=%s", name)
        reached(Step.DELETE_NONVOTING)
    return done


def _may_be_in_etcd(member: MemberRecord) -> bool:
    joins = member.role is Role.LEARNER and member.target is Role.VOTER
    return bool(member.member_id) or member.role is Role.VOTER or joins


def begin_removal(runtime: MemberRuntime, name: str, force: bool, by: str) -> Change:
    """Decide on a removal and write it down; from then on it is made, whoever dies.

    Returns:
        The change, already under way or done where the same removal was asked for before.

    Raises:
        InputError, RefusedError, QuorumError: as ``delete``.
    """

    def attempt() -> Change | None:
        observed = runtime.observe()
        begun = removal_of(observed.view, name)
        if begun is not None:
            return begun
        check_delete(observed, name, force)
        check_no_change_under_way(observed.view)
        member = observed.view.members[name]
        _refuse_half_member(member)
        take_leadership_from(runtime, member)
        change = begin(observed.view.change, ChangeKind.REMOVE, member, by)
        with may_have_begun(f"delete {name}"):
            return change if runtime.store.begin_change(observed.view, change) else None

    change = until_written(f"delete {name}", attempt)
    reached(Step.DELETE_BEGIN)
    return change


def _refuse_half_member(member: MemberRecord) -> None:
    if not member.member_id:
        raise RefusedError(
            f"cannot delete {member.name}: it is just being taken in",
            "try again in a few seconds",
        )


def take_leadership_from(runtime: MemberRuntime, member: MemberRecord) -> None:
    """Have a leader that is to be removed hand over first: writes go on, and so do we.

    A leader that is removed takes the news of its own removal with it; the others would only
    learn it after an election.
    """
    if hex_id(runtime.etcd.status().leader) != member.member_id:
        return
    peer = runtime.peers.client(member)
    try:
        peer.call("POST", HAND_OVER, Message().to_wire(), _HAND_OVER_SECONDS)
    except CollectiveError as error:
        log.info("the leader to be removed did not hand over: %s name=%s", error, member.name)
    finally:
        peer.close()


def leave(runtime: MemberRuntime) -> str:
    """Ask another member to remove this server; return that member's name.

    When this returns the removal is written down, and will be made; it may not be made yet.

    Args:
        runtime: this server.

    Raises:
        RefusedError: this is the only voter, or a rule forbids it.
        QuorumError: there is no quorum, or leaving would cost it.
    """
    with needs_quorum(runtime, f"delete {runtime.name}"):
        observed = runtime.observe()
        check_delete(observed, runtime.name, force=False)
        sponsors = _who_may_remove_us(observed)
        runtime.etcd.hand_over()
        sponsor = _ask_to_remove_us(runtime.peers, sponsors)
        reached(Step.LEAVE_ASKED)
        return sponsor


def _ask_to_remove_us(peers: Peers, sponsors: Sequence[MemberRecord]) -> str:
    """Ask one after the other; return who does it.

    Raises:
        CollectiveError: nobody does; what the last one said.
    """
    refusal: CollectiveError | None = None
    for sponsor in sponsors:
        peer = peers.client(sponsor)
        try:
            peer.call("POST", LEAVE, Message().to_wire(), _LEAVE_SECONDS)
            return sponsor.name
        except (RefusedError, UnreachableError) as error:
            # It may still be joining, or dying; another one finds a removal that it has begun.
            log.info("not removed by %s: %s", sponsor.name, error)
            refusal = error
        finally:
            peer.close()
    assert refusal is not None
    raise refusal


def _who_may_remove_us(observed: Observed) -> list[MemberRecord]:
    able = sorted((observed.view.voters.keys() & observed.answering) - {observed.here})
    if not able:
        raise QuorumError(
            f"cannot delete {observed.here}: no other voter answers",
            "start another server of the collective first",
        )
    return [observed.view.members[name] for name in able]
