"""Bugs that somebody could put into the product, each of which the histories must find.

Each takes one check, one compare or one duty away, and says which promise then falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from collective.daemon.joining import learner, sponsor
from collective.daemon.membership import changes, duties, removal
from collective.daemon.membership.duties import Duties
from collective.errors import InvitationError
from collective.etcd import store
from collective.etcd.calls import EtcdMember
from collective.etcd.store import Store
from collective.model.records import Change, Invitation, Role
from collective.model.view import CHANGE_KEY, View, invitation_key, member_key
from collective.policy import admission, membership


@dataclass(frozen=True)
class Bug:
    """One change for the worse.

    Attributes:
        promise: the promises of which one falls.
        puts: what to put where, as ``(owner, name, replacement)``.
    """

    promise: tuple[str, ...]
    puts: tuple[tuple[Any, str, Any], ...]

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        """Put it in."""
        for owner, name, replacement in self.puts:
            patch.setattr(owner, name, replacement)


def _nothing(*_arguments: Any) -> None:
    return None


def _without(kept: Callable[[str], bool]) -> Callable[..., Any]:
    """Return a ``Store._write`` that compares only some keys."""
    real = Store._write

    def write(
        self: Store, view: View, unchanged: tuple[str, ...], *rest: Any, **more: Any
    ) -> bool:
        return real(self, view, tuple(key for key in unchanged if kept(key)), *rest, **more)

    return write


def _only_in(method: str, kept: Callable[[str], bool]) -> tuple[Any, str, Any]:
    """Have one method of the store compare only some keys."""
    real, write = getattr(Store, method), _without(kept)

    class Careless(Store):
        def __init__(self, other: Store) -> None:
            self._gateway = other._gateway

        _write = write

    def careless(self: Store, *arguments: Any) -> Any:
        return real(Careless(self), *arguments)

    return Store, method, careless


def _never_expires(
    invitation: Invitation | None, proof: admission.Proof, now: float
) -> Invitation:
    return admission.judge(invitation, proof, 0.0)


def _steal(invitation: Invitation | None, proof: admission.Proof, now: float) -> Invitation:
    """Let a second key claim what the first one has claimed."""
    fresh = invitation if invitation is None else replace(invitation, claimed_by=None)
    return admission.judge(fresh, proof, now)


def _claimed_for_ever(view: View, candidate: Any) -> None:
    invitation = view.invitations.get(candidate.name)
    if invitation is None or invitation.claimed_by != candidate.csr_key_id:
        raise InvitationError("it is no longer good")


def _remove_any(self: Duties, member: int) -> None:
    self._progress.pop(member, None)


def _lost_by_address(view: View, members: Sequence[EtcdMember]) -> frozenset[str]:
    urls = {url for member in members for url in member.peer_urls}
    learners = [m for m in view.members.values() if m.role is Role.LEARNER]
    return frozenset(m.name for m in learners if m.url not in urls)


def _finish_without(what: str) -> Callable[..., bool]:
    def finish(self: Store, view: View, change: Change, when: float) -> bool:
        member = view.members.get(change.name)
        keys = (CHANGE_KEY, member_key(change.name))
        puts: dict[str, Any] = {CHANGE_KEY: replace(change, done=True)}
        deletes: tuple[str, ...] = ()
        if member is not None and member.member_id == change.member_id:
            if what != "revoke":
                puts |= store._revoked(member.name, member.serials, when)
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


_NO_CHECK = (learner, "check_claim", _nothing), (sponsor, "check_claim", _nothing)

BUGS: Mapping[str, Bug] = {
    "two changes at once, unchecked": Bug(
        ("P1",), ((removal, "check_no_change_under_way", _nothing),)
    ),
    "two changes at once, raced": Bug(
        ("P1",), (_only_in("begin_change", lambda key: key != CHANGE_KEY),)
    ),
    "a deletion does not count": Bug(("P1",), ((membership, "_check_strength", _nothing),)),
    "a learner is promoted unheard": Bug(("P2",), ((Duties, "_ask", lambda *_: 1),)),
    "a claim can be stolen": Bug(("P3",), ((sponsor, "judge", _steal),)),
    "an invitation never expires": Bug(
        ("P3",),
        (
            (sponsor, "judge", _never_expires),
            (sponsor, "check_claim", _claimed_for_ever),
            (learner, "check_claim", _claimed_for_ever),
        ),
    ),
    "an invitation is looked at once": Bug(("P3", "P4"), _NO_CHECK),
    "an admission does not compare the invitation": Bug(
        ("P3", "P4"),
        (_only_in("admit_member", lambda key: key.startswith(member_key(""))),),
    ),
    "a deletion revokes nothing": Bug(
        ("P4",), ((Store, "finish_removal", _finish_without("revoke")),)
    ),
    "a deletion leaves the record": Bug(
        ("P4",), ((Store, "finish_removal", _finish_without("record")),)
    ),
    "a deletion leaves the invitation": Bug(
        ("P4",), ((Store, "finish_removal", _finish_without("invitation")),)
    ),
    "a deletion that failed counts as done": Bug(
        ("P4",), ((changes, "_is_gone", lambda *_: True),)
    ),
    "nobody finishes a deletion": Bug(("P5",), ((Duties, "_take_over", _nothing),)),
    "nobody puts a stuck learner out": Bug(("P5",), ((Duties, "_evict", _remove_any),)),
    "nobody settles records": Bug(("P5",), ((Duties, "_settle_records", _nothing),)),
    "nobody drops the record of who did not come": Bug(("P5",), ((Duties, "_drop", _nothing),)),
    "an address is taken for a learner": Bug(
        ("P5",), ((duties, "lost_learners", _lost_by_address),)
    ),
}
