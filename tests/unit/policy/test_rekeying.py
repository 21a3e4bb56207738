"""The phases of a re-keying: no server shows what another one does not trust."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from collective.model.records import Change, ChangeKind, MemberRecord, Phase, Rekey, Role
from collective.policy.rekeying import (
    Keys,
    has_done,
    is_orphaned,
    is_wanted,
    issuers_differ,
    next_phase,
    reason_to_begin,
    waiting_for,
)

OLD, NEW = "old", "new"
FRESH = Keys(frozenset({OLD}), OLD, frozenset({OLD}))
TRUSTING = Keys(frozenset({OLD, NEW}), OLD, frozenset({OLD, NEW}))
ISSUED = Keys(frozenset({OLD, NEW}), NEW, frozenset({NEW}))
DROPPED = Keys(frozenset({NEW}), NEW, frozenset({NEW}))


def member(name: str, role: Role = Role.VOTER) -> MemberRecord:
    """Return a record."""
    return MemberRecord(name, "1", role, "10.0.0.1", 13002, 13003, (), (), 0.0)


@pytest.mark.parametrize(
    ("phase", "keys", "done"),
    [
        (Phase.TRUST, FRESH, False),
        (Phase.TRUST, TRUSTING, True),
        (Phase.TRUST, Keys(TRUSTING.trusts, OLD, frozenset({OLD})), False),
        (Phase.ISSUE, TRUSTING, False),
        (Phase.ISSUE, ISSUED, True),
        (Phase.DROP, ISSUED, False),
        (Phase.DROP, DROPPED, True),
        (Phase.DROP, Keys(DROPPED.trusts, OLD, frozenset({NEW})), False),
        (Phase.DONE, DROPPED, True),
    ],
)
def test_part_of_a_phase_is_done_when_the_server_says_so(
    phase: Phase, keys: Keys, done: bool
) -> None:
    """A voter has the new key before anybody uses it, so no loss of a server loses the CA."""
    assert has_done(phase, NEW, Role.VOTER, keys) is done


def test_nonvoting_server_needs_no_key() -> None:
    """It never gets one."""
    keys = Keys(TRUSTING.trusts, OLD, frozenset())
    assert has_done(Phase.TRUST, NEW, Role.NONVOTING, keys)
    assert not has_done(Phase.TRUST, NEW, Role.VOTER, keys)


def test_silent_member_and_learner_are_waited_for() -> None:
    """Who was off could not come back, and a learner gets its key when it votes."""
    members = {"a": member("a"), "b": member("b"), "c": member("c", Role.LEARNER)}
    reported = {"a": TRUSTING, "b": None, "c": TRUSTING}
    assert waiting_for(Phase.TRUST, NEW, members, reported) == ("b", "c")
    del reported["b"]
    assert waiting_for(Phase.TRUST, NEW, members, reported) == ("b", "c")


def test_new_ca_is_lost_only_before_anybody_uses_it() -> None:
    """From ISSUE on every voter has its key."""
    assert is_orphaned(Phase.TRUST, NEW, {"a": FRESH, "b": None})
    assert not is_orphaned(Phase.TRUST, NEW, {"a": FRESH, "b": TRUSTING})
    assert not is_orphaned(Phase.ISSUE, NEW, {"a": FRESH})


@pytest.mark.parametrize("order", [*itertools.permutations("abc")])
def test_no_certificate_is_ever_shown_to_who_does_not_trust_it(order: tuple[str, ...]) -> None:
    """In every order of the servers, each interrupted between any two phases."""
    members = {name: member(name) for name in "abc"}
    keys = dict.fromkeys("abc", FRESH)
    part = {Phase.TRUST: TRUSTING, Phase.ISSUE: ISSUED, Phase.DROP: DROPPED}
    phase = Phase.TRUST
    while phase is not Phase.DONE:
        for name in order:
            assert name in waiting_for(phase, NEW, members, keys)
            keys[name] = part[phase]
            for shown, asking in itertools.product(keys.values(), repeat=2):
                assert shown.issuer in asking.trusts
        assert waiting_for(phase, NEW, members, keys) == ()
        phase = next_phase(phase)
    assert set(keys.values()) == {DROPPED}


def removal(**fields: Any) -> Change:
    """Return the removal of c, made."""
    made = Change(ChangeKind.REMOVE, "c", "3", "a", done=True, rekey=True, kept_key=True)
    return replace(made, **fields)


def rekeying(phase: Phase, again: bool = False) -> Rekey:
    """Return one, begun for the deletion of b."""
    return Rekey(1, phase, "PEM", "a", "b was deleted", 0.0, again)


@pytest.mark.parametrize(
    ("change", "rekey", "begins", "wanted"),
    [
        (None, None, None, False),
        (removal(rekey=False), None, None, False),
        (removal(), None, "c was deleted", True),
        (removal(done=False), None, None, True),
        (removal(kind=ChangeKind.DEMOTE), None, "a server was deleted", True),
        (None, rekeying(Phase.TRUST), None, True),
        (None, rekeying(Phase.DONE), None, False),
        (None, rekeying(Phase.DONE, again=True), "b was deleted", True),
        (None, rekeying(Phase.DROP, again=True), None, True),
        (removal(), rekeying(Phase.ISSUE), "c was deleted", True),
        (removal(done=False), rekeying(Phase.DONE, again=True), "b was deleted", True),
    ],
)
def test_rekeying_is_begun_when_the_change_that_wants_it_is_made(
    change: Change | None, rekey: Rekey | None, begins: str | None, wanted: bool
) -> None:
    """What wants one is never forgotten, also while another one is under way."""
    assert reason_to_begin(change, rekey) == begins
    assert is_wanted(change, rekey) is wanted


@pytest.mark.parametrize(
    ("change", "rekey", "differ"),
    [
        (None, None, False),
        (removal(), None, True),
        (None, rekeying(Phase.TRUST), True),
        (None, rekeying(Phase.ISSUE), True),
        (None, rekeying(Phase.DROP), False),
        (None, rekeying(Phase.DROP, again=True), True),
        (removal(), rekeying(Phase.DROP), True),
        (removal(), rekeying(Phase.DONE), True),
        (None, rekeying(Phase.DONE), False),
    ],
)
def test_token_fits_every_member_when_all_show_the_same_ca(
    change: Change | None, rekey: Rekey | None, differ: bool
) -> None:
    """Between the first new certificate and the last there are two; before that, there will be."""
    assert issuers_differ(change, rekey) is differ
