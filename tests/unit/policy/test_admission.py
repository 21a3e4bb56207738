"""The judgement on an invitation: promise P3."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InvitationError
from collective.model.records import Invitation, Role
from collective.policy.admission import Proof, judge

INVITATION = Invitation("mgt2", Role.VOTER, "aa" * 32, "mgt1", 500.0, 1500.0)


def proof(**changes: Any) -> Proof:
    """Return a proof that fits the invitation, but for the changes."""
    fits: dict[str, Any] = {
        "name": "mgt2",
        "role": "voter",
        "certificate": "c1",
        "signed_by": lambda key: key == INVITATION.public_key,
    }
    return Proof(**{**fits, **changes})


def test_invitation_that_fits_is_claimed_for_the_certificate() -> None:
    """It comes back with the one certificate that may go on with it, otherwise as it was."""
    assert judge(INVITATION, proof()) == replace(INVITATION, claimed_by="c1")


def test_join_that_goes_on_is_judged_good_again() -> None:
    """The certificate that claimed an invitation may claim it again, as often as it likes."""
    claimed = judge(INVITATION, proof())
    assert judge(claimed, proof()) == claimed


@pytest.mark.parametrize("role", [Role.VOTER, Role.NONVOTING])
def test_joiner_may_leave_its_role_to_the_invitation(role: Role) -> None:
    """It signed that it takes what the token makes of it."""
    invitation = replace(INVITATION, role=role)
    assert judge(invitation, proof(role="invited")).role is role


@pytest.mark.parametrize(
    ("invitation", "shown", "says"),
    [
        (None, proof(), "there is no invitation for mgt2"),
        (replace(INVITATION, name="mgt3"), proof(), "does not fit"),
        (INVITATION, proof(name="mgt3"), "does not fit"),
        (INVITATION, proof(signed_by=lambda _key: False), "does not fit"),
        (replace(INVITATION, public_key="bb" * 32), proof(), "does not fit"),
        (replace(INVITATION, claimed_by="c2"), proof(), "claimed by another"),
        (replace(INVITATION, claimed_by="c1"), proof(certificate="c2"), "claimed by another"),
        (replace(INVITATION, claimed_by=""), proof(), "claimed by another"),
        (INVITATION, proof(role="nonvoting"), "is for a voter, not a nonvoting"),
        (INVITATION, proof(role=""), "is for a voter"),
        (INVITATION, proof(role="VOTER"), "is for a voter"),
        (replace(INVITATION, role=Role.NONVOTING), proof(), "is for a nonvoting"),
    ],
)
def test_every_single_deviation_is_refused(
    invitation: Invitation | None, shown: Proof, says: str
) -> None:
    """One thing that differs is enough, and the refusal says which it was."""
    with pytest.raises(InvitationError, match=says):
        judge(invitation, shown)


@pytest.mark.parametrize("expires", [0.0, 500.0, 1e12, float("-inf")])
def test_no_clock_has_a_part_in_it(expires: float) -> None:
    """An invitation that the store still has is good, whatever the time: its lease ends it.

    A server that was born in 1970 admits, and one from 2099 is admitted.
    """
    invitation = replace(INVITATION, issued=1e12, expires=expires)
    assert judge(invitation, proof()) == replace(invitation, claimed_by="c1")
    assert "now" not in inspect.signature(judge).parameters


def test_stranger_learns_nothing_about_who_claimed() -> None:
    """Who cannot sign is told only that the token does not fit, claimed or not."""
    unsigned = proof(signed_by=lambda _key: False)
    messages = set()
    for invitation in (INVITATION, replace(INVITATION, claimed_by="c2")):
        with pytest.raises(InvitationError) as caught:
            judge(invitation, unsigned)
        messages.add(caught.value.message)
    assert len(messages) == 1


@given(
    name=st.sampled_from(["mgt2", "mgt3"]),
    role=st.sampled_from(["voter", "nonvoting", "learner"]),
    certificate=st.sampled_from(["c1", "c2"]),
    claimed=st.sampled_from([None, "c1", "c2"]),
    signs=st.booleans(),
)
def test_accepted_means_every_condition_holds(
    name: str, role: str, certificate: str, claimed: str | None, signs: bool
) -> None:
    """The safety property, for every combination."""
    invitation = replace(INVITATION, claimed_by=claimed)
    shown = proof(name=name, role=role, certificate=certificate, signed_by=lambda _key: signs)
    good = name == "mgt2" and role == "voter" and claimed in (None, certificate) and signs
    if good:
        assert judge(invitation, shown) == replace(invitation, claimed_by=certificate)
        return
    with pytest.raises(InvitationError) as caught:
        judge(invitation, shown)
    assert INVITATION.public_key not in str(caught.value)
