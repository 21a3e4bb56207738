"""The judgement on an invitation: promise P3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InvitationError
from collective.model.records import Invitation, Role
from collective.policy.admission import Proof, judge

NOW = 1000.0
INVITATION = Invitation("mgt2", Role.VOTER, "aa" * 32, "mgt1", 500.0, 1500.0)


def proof(**changes: Any) -> Proof:
    """Return a proof that fits the invitation, but for the changes."""
    fits: dict[str, Any] = {
        "name": "mgt2",
        "role": "voter",
        "csr_key_id": "c1",
        "signed_by": lambda key: key == INVITATION.public_key,
    }
    return Proof(**{**fits, **changes})


def test_invitation_that_fits_is_claimed_for_the_csr() -> None:
    """It comes back with the one key that may go on with it, otherwise as it was."""
    assert judge(INVITATION, proof(), NOW) == replace(INVITATION, claimed_by="c1")


def test_join_that_goes_on_is_judged_good_again() -> None:
    """The key that claimed an invitation may claim it again, as often as it likes."""
    claimed = judge(INVITATION, proof(), NOW)
    assert judge(claimed, proof(), NOW + 1) == claimed


@pytest.mark.parametrize("role", [Role.VOTER, Role.NONVOTING])
def test_joiner_may_leave_its_role_to_the_invitation(role: Role) -> None:
    """It signed that it takes what the token makes of it."""
    invitation = replace(INVITATION, role=role)
    assert judge(invitation, proof(role="invited"), NOW).role is role


@pytest.mark.parametrize(
    ("invitation", "shown", "now", "says"),
    [
        (None, proof(), NOW, "there is no invitation for mgt2"),
        (INVITATION, proof(), 1500.0, "expired"),
        (INVITATION, proof(), 1e12, "expired"),
        (replace(INVITATION, expires=NOW), proof(), NOW, "expired"),
        (replace(INVITATION, name="mgt3"), proof(), NOW, "does not fit"),
        (INVITATION, proof(name="mgt3"), NOW, "does not fit"),
        (INVITATION, proof(signed_by=lambda _key: False), NOW, "does not fit"),
        (replace(INVITATION, public_key="bb" * 32), proof(), NOW, "does not fit"),
        (replace(INVITATION, claimed_by="c2"), proof(), NOW, "claimed by another"),
        (replace(INVITATION, claimed_by="c1"), proof(csr_key_id="c2"), NOW, "claimed by another"),
        (replace(INVITATION, claimed_by=""), proof(), NOW, "claimed by another"),
        (INVITATION, proof(role="nonvoting"), NOW, "is for a voter, not a nonvoting"),
        (INVITATION, proof(role=""), NOW, "is for a voter"),
        (INVITATION, proof(role="VOTER"), NOW, "is for a voter"),
        (replace(INVITATION, role=Role.NONVOTING), proof(), NOW, "is for a nonvoting"),
    ],
)
def test_every_single_deviation_is_refused(
    invitation: Invitation | None, shown: Proof, now: float, says: str
) -> None:
    """One thing that differs is enough, and the refusal says which it was."""
    with pytest.raises(InvitationError, match=says):
        judge(invitation, shown, now)


def test_expiry_is_the_first_moment_that_is_too_late() -> None:
    """Before it, and only before it, the invitation is good."""
    judge(INVITATION, proof(), INVITATION.expires - 0.001)
    with pytest.raises(InvitationError):
        judge(INVITATION, proof(), INVITATION.expires)


def test_stranger_learns_nothing_about_who_claimed() -> None:
    """Who cannot sign is told only that the token does not fit, claimed or not."""
    unsigned = proof(signed_by=lambda _key: False)
    messages = set()
    for invitation in (INVITATION, replace(INVITATION, claimed_by="c2")):
        with pytest.raises(InvitationError) as caught:
            judge(invitation, unsigned, NOW)
        messages.add(caught.value.message)
    assert len(messages) == 1


@given(
    name=st.sampled_from(["mgt2", "mgt3"]),
    role=st.sampled_from(["voter", "nonvoting", "learner"]),
    csr=st.sampled_from(["c1", "c2"]),
    claimed=st.sampled_from([None, "c1", "c2"]),
    signs=st.booleans(),
    now=st.floats(0, 3000),
)
def test_accepted_means_every_condition_holds(
    name: str, role: str, csr: str, claimed: str | None, signs: bool, now: float
) -> None:
    """The safety property, for every combination."""
    invitation = replace(INVITATION, claimed_by=claimed)
    shown = proof(name=name, role=role, csr_key_id=csr, signed_by=lambda _key: signs)
    good = name == "mgt2" and role == "voter" and claimed in (None, csr) and signs and now < 1500.0
    if good:
        assert judge(invitation, shown, now) == replace(invitation, claimed_by=csr)
        return
    with pytest.raises(InvitationError) as caught:
        judge(invitation, shown, now)
    assert INVITATION.public_key not in str(caught.value)
