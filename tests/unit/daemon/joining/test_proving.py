"""Bad proofs cost few reads: the budget, and what is judged without it."""

from __future__ import annotations

import pytest

from collective.daemon.clock import epoch
from collective.daemon.joining.proving import Doubts
from collective.errors import InvitationError
from collective.model.records import Invitation, Role, to_json
from collective.model.view import Item, View, invitation_key
from collective.policy.admission import Proof

KEY = "aa" * 32


def view() -> View:
    """Return records with one invitation."""
    now = epoch()
    invitation = Invitation("mgt2", Role.VOTER, KEY, "mgt1", now, now + 3600)
    items = {invitation_key("mgt2"): Item(to_json(invitation).encode(), 1)}
    return View(1, items)


def proof(good: bool) -> Proof:
    """Return a proof for it."""
    return Proof("mgt2", "voter", "c1", lambda key: good and key == KEY)


def test_good_proofs_need_no_budget() -> None:
    """However many there are."""
    doubts = Doubts(per_second=0.0, burst=0)
    for _ in range(100):
        doubts.check(view(), proof(good=True))


def test_bad_proofs_are_refused_when_the_budget_is_used_up() -> None:
    """The first ones are let through, to be judged on a read: the records here may be old."""
    doubts = Doubts(per_second=0.0, burst=3)
    for _ in range(3):
        doubts.check(view(), proof(good=False))
    for known in (view(), View(0)):
        with pytest.raises(InvitationError):
            doubts.check(known, proof(good=False))


def test_invitation_that_is_not_known_here_yet_is_looked_up() -> None:
    """It may have been made on another member a moment ago."""
    Doubts().check(View(0), proof(good=True))
