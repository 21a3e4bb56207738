"""Bugs that somebody could put into the product, each of which the histories must find.

Each takes one check, one compare or one duty away, and says which promise then falls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest

from collective.daemon.addresses import change, readdress
from collective.daemon.certificates import replacement, trust_round, turn
from collective.daemon.certificates.replacement import Replacement, record_only
from collective.daemon.certificates.trust_round import TrustRound
from collective.daemon.joining import sponsor
from collective.daemon.lifecycle import changeover, return_check
from collective.daemon.lifecycle.changeover import Verdict
from collective.daemon.lifecycle.return_check import ReturnCheck
from collective.daemon.listeners import peer_api as door
from collective.daemon.member import etcd_trust, recognition
from collective.daemon.member.access import MEMBERS
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.member_trust import MemberTrust
from collective.daemon.member.recorded import certificates_of
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import changes, demotion, learner, reconciler, removal
from collective.daemon.membership.reconciler import Reconciler
from collective.errors import InvitationError
from collective.etcd import record_store
from collective.etcd.api import EtcdMember
from collective.etcd.record_store import RecordStore
from collective.model import changes as changes_of_voters
from collective.model.records import Change, ChangeKind, Invitation, MemberRecord, Role
from collective.model.view import CHANGE_KEY, TURN_KEY, View, invitation_key, member_key
from collective.pki import Certificate
from collective.policy import addressing, admission, membership
from collective.policy.returning import Report
from collective.protocol import messages


@dataclass(frozen=True)
class Bug:
    """One change for the worse.

    Attributes:
        promise: the promises of which one falls.
        puts: what to put where, as ``(owner, name, replacement)``.
        renamed: whether it matters only where a server joins by another name meanwhile.
        first: the seed to begin with, for a bug that few histories meet: one that did. Where that
            has changed, since the product takes other steps now, it is looked for from there on.
    """

    promise: tuple[str, ...]
    puts: tuple[tuple[Any, str, Any], ...]
    renamed: bool = False
    first: int = 1

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        """Put it in."""
        for owner, name, stand_in in self.puts:
            patch.setattr(owner, name, stand_in)


def _nothing(*_arguments: Any) -> None:
    return None


def _begin_anyway(_last: Change | None, *what: Any) -> Change:
    """Begin a change whatever is under way."""
    return changes_of_voters.begin(None, *what)


def _without(kept: Callable[[str], bool]) -> Callable[..., Any]:
    """Return a ``RecordStore._write`` that compares only some keys."""
    real = RecordStore._write

    def write(
        self: RecordStore, view: View, unchanged: tuple[str, ...], *rest: Any, **more: Any
    ) -> bool:
        return real(self, view, tuple(key for key in unchanged if kept(key)), *rest, **more)

    return write


def _only_in(method: str, kept: Callable[[str], bool]) -> tuple[Any, str, Any]:
    """Have one method of the store compare only some keys."""
    real, write = getattr(RecordStore, method), _without(kept)

    class Careless(RecordStore):
        def __init__(self, other: RecordStore) -> None:
            self._gateway = other._gateway

        _write = write

    def careless(self: RecordStore, *arguments: Any) -> Any:
        return real(Careless(self), *arguments)

    return RecordStore, method, careless


def _steal(invitation: Invitation | None, proof: admission.Proof) -> Invitation:
    """Let a second certificate claim what the first one has claimed."""
    fresh = invitation if invitation is None else replace(invitation, claimed_by=None)
    return admission.judge(fresh, proof)


def _claim_for_ever(self: RecordStore, view: View, invitation: Invitation) -> bool:
    """Take an invitation off its lease by claiming it."""
    key = invitation_key(invitation.name)
    return self._write(view, (key,), {key: invitation})


def _claimed_by_anybody(view: View, candidate: Any) -> None:
    if candidate.name not in view.invitations:
        raise InvitationError("it is no longer good")


def _remove_any(self: Reconciler, member: int) -> None:
    self._progress.pop(member, None)


def _lost_by_address(view: View, members: Sequence[EtcdMember]) -> frozenset[str]:
    urls = {url for member in members for url in member.peer_urls}
    learners = [m for m in view.members.values() if m.role is Role.LEARNER]
    return frozenset(m.name for m in learners if m.url not in urls)


def _finish_without(what: str) -> Callable[..., bool]:
    real = RecordStore.finish_change

    def finish(self: RecordStore, view: View, change: Change, when: float) -> bool:
        if change.kind is not ChangeKind.REMOVE:
            return real(self, view, change, when)
        member = view.members.get(change.name)
        keys = (CHANGE_KEY, member_key(change.name))
        puts: dict[str, Any] = {CHANGE_KEY: replace(change, done=True)}
        deletes: tuple[str, ...] = ()
        if member is not None and member.member_id == change.member_id:
            if what != "revoke":
                puts |= record_store._revoked(member.name, member.fingerprints, when)
            deletes = tuple(
                key
                for key, name in (
                    (member_key(change.name), "record"),
                    (invitation_key(change.name), "invitation"),
                )
                if name != what
            )
        return self._write(view, keys, puts, deletes=deletes)

    return finish


def _at_once(*_arguments: Any) -> Iterator[None]:
    return iter(())


def _wants_all(self: MemberTrust) -> dict[str, Certificate]:
    """Let servers without a vote in at etcd's door, too."""
    own, view = self._credentials.identity, self._view
    return {own.fingerprint: own, **certificates_of(view.members.values(), view.revoked)}


def _retired_first(runtime: MemberRuntime, following: Certificate, emit: Any) -> None:
    """Revoke the former certificate before the next one is shown."""
    if runtime.votes:
        trust_round.wait_for_round(runtime, following.fingerprint)
        record_only(runtime.store, runtime.name, following.fingerprint)
    runtime.use_next()


def _without_strength(observed: membership.Observed, name: str) -> None:
    """Demote a server whoever is left."""


def _any_address(view: View, name: str, address: str, gone: Collection[str] = ()) -> MemberRecord:
    """Let a learner have another address, too."""
    member = view.members[name]
    return member if member.role is Role.LEARNER else _check_readdress(view, name, address, gone)


def _grant_to_learners(
    runtime: MemberRuntime, wish: readdress.Wish, gone: Collection[str] = ()
) -> None:
    """Tell etcd the new URL of whoever has a member id."""
    moved = readdress._record(runtime.store, wish, gone)
    trust_round.wait_for_round(runtime, wish.certificate.fingerprint)
    if moved.member_id:
        runtime.gateway.update_member(int(moved.member_id, 16), moved.url)


_check_readdress = addressing.check_readdress
_READDRESS = ("POST", messages.READDRESS)
_OPEN_DOOR = {
    **door.ROUTES, _READDRESS: replace(door.ROUTES[_READDRESS], callers=MEMBERS),
}  # fmt: skip


def _record_alone(self: Reconciler, view: View, learner: EtcdMember) -> int | None:
    """Write a promotion down that etcd was not asked for."""
    record = view.by_member_id(f"{learner.id:016x}")
    if record is not None:
        self._record_promotion(record)
    return 0


def _take_turn(self: RecordStore, view: View, turn: Any, seconds: int) -> bool:
    """Take the turn, whoever has it."""
    lease = self._gateway.grant_lease(seconds)
    return self._write(view, (), {TURN_KEY: turn}, lease=lease)


def _refuse_nobody(self: EtcdTrust, wanted: Mapping[str, Certificate]) -> None:
    """Leave the revocation list empty."""
    getattr(etcd_trust, "write_atomically")(self.crl_file, b"")  # noqa: B009 - it is simulated


def _believe_one(known: View, here: str, reports: Mapping[str, Report]) -> View | None:
    """Take up what the first voter says, whoever it is."""
    return next((report.view for report in reports.values()), None)


_NO_CHECK = (learner, "check_claim", _nothing), (sponsor, "check_claim", _nothing)

BUGS: Mapping[str, Bug] = {
    "two changes at once, unchecked": Bug(
        ("P1",),
        ((removal, "check_no_change_under_way", _nothing), (removal, "begin", _begin_anyway)),
    ),
    "two changes at once, raced": Bug(
        ("P1",), (_only_in("begin_change", lambda key: key != CHANGE_KEY),), first=261
    ),
    "a deletion does not count": Bug(("P1",), ((membership, "_check_strength", _nothing),)),
    "a learner is promoted unheard": Bug(("P2",), ((Reconciler, "_ask", lambda *_: 1),)),
    "a claim can be stolen": Bug(("P3",), ((sponsor, "judge", _steal),)),
    "a claim makes an invitation last": Bug(("P3",), ((RecordStore, "claim", _claim_for_ever),)),
    "a claim is anybody's": Bug(
        ("P3",),
        tuple((module, "check_claim", _claimed_by_anybody) for module in (sponsor, learner)),
    ),
    "an invitation is looked at once": Bug(("P3", "P4"), _NO_CHECK),
    "an admission does not compare the invitation": Bug(
        ("P3", "P4"),
        (_only_in("admit_member", lambda key: key.startswith(member_key(""))),),
        first=344,
    ),
    "a deletion revokes nothing": Bug(
        ("P4",), ((RecordStore, "finish_change", _finish_without("revoke")),)
    ),
    "a deletion leaves the record": Bug(
        ("P4",), ((RecordStore, "finish_change", _finish_without("record")),)
    ),
    "a deletion leaves the invitation": Bug(
        ("P4",), ((RecordStore, "finish_change", _finish_without("invitation")),)
    ),
    "a deletion that failed counts as done": Bug(
        ("P4",), ((changes, "_is_gone", lambda *_: True),), first=580
    ),
    "nobody finishes a deletion": Bug(("P5",), ((Reconciler, "_take_over", _nothing),)),
    "nobody puts a stuck learner out": Bug(("P5",), ((Reconciler, "_evict", _remove_any),)),
    "nobody settles records": Bug(("P5",), ((Reconciler, "_settle_records", _nothing),)),
    "nobody drops the record of who did not come": Bug(
        ("P5",), ((Reconciler, "_drop", _nothing),)
    ),
    "an address is taken for a learner": Bug(
        ("P5",), ((reconciler, "lost_learners", _lost_by_address),), renamed=True
    ),
    "a joiner is added before it is let in": Bug(
        ("P2",), ((learner, "until_taken_up", _at_once),)
    ),
    "nobody takes certificates up": Bug(("P5",), ((TrustRound, "_round", _nothing),)),
    "a turn is not waited for": Bug(
        ("P1",), ((trust_round, "turn", lambda *_, **__: nullcontext()),)
    ),
    "a turn is taken from another": Bug(
        ("P1",),
        (
            (turn, "_others_turn", _nothing),
            (RecordStore, "take_turn", _take_turn),
        ),
    ),
    "who restarts is not waited for": Bug(("P1",), ((turn, "_SPARE_SECONDS", -1.0),)),
    "who was cut off does not catch up": Bug(
        ("P4", "P5"), ((ReturnCheck, "catch_up", _nothing),), first=5246
    ),
    "a certificate is shown before it is let in": Bug(
        ("P1",), ((replacement, "wait_for_round", _nothing),)
    ),
    "a certificate is shown when all that answer let it in": Bug(
        ("P1", "P5"), ((trust_round, "quorum", lambda _: 0),), first=4167
    ),
    "a former certificate is never retired": Bug(
        ("P5",), ((replacement, "retire_others", _nothing), (change, "retire_others", _nothing))
    ),
    "a former certificate is retired too early": Bug(
        ("P5",), ((replacement, "_carry_out", _retired_first),)
    ),
    "a change of certificate is not gone on with": Bug(
        ("P5",), ((Replacement, "_go_on", _nothing),)
    ),
    "a changed certificate is not recognised": Bug(
        ("P5",), ((recognition, "_recognise", lambda *_: ""),)
    ),
    "nobody is put on the revocation list": Bug(
        ("P4",), ((EtcdTrust, "refuse_others", _refuse_nobody),)
    ),
    "who is demoted is not put on the revocation list": Bug(
        ("P4", "P5"), ((MemberTrust, "wanted_peers", _wants_all),)
    ),
    "a returning server believes one report": Bug(
        ("P4",), ((return_check, "newest_agreed", _believe_one),), first=2162
    ),
    "a demotion does not count": Bug(("P1",), ((demotion, "check_demote", _without_strength),)),
    "a demoted server takes itself for deleted": Bug(
        ("P5",), ((changeover, "ask", lambda *_: Verdict.REMOVED),)
    ),
    "a demoted server that was off is not told": Bug(
        ("P5",), ((changeover, "look_after", _nothing),)
    ),
    "a learner's address is changed": Bug(
        ("P1", "P2", "P5"),
        (
            (door, "ROUTES", _OPEN_DOOR),
            (readdress, "check_readdress", _any_address),
            (change, "check_readdress", _any_address),
            (readdress, "grant", _grant_to_learners),
        ),
    ),
    "a promotion is recorded and not made": Bug(
        ("P2",), ((Reconciler, "_try_promotion", _record_alone),)
    ),
}
