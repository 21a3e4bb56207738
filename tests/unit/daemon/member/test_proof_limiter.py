"""Bad proofs cost few reads: the budget, and what is judged without it."""

from __future__ import annotations

import threading

import pytest

from collective.daemon.clock import epoch
from collective.daemon.member.proof_limiter import OneEach, ProofLimiter
from collective.errors import InvitationError, QuorumError, RefusedError
from collective.etcd.record_store import READ_SECONDS
from collective.model.records import Invitation, Role, to_json
from collective.model.view import Item, View, invitation_key
from collective.policy.admission import Proof
from tests.harness import wait_until
from tests.unit.identities import record_of, view_of

SECONDS = 20.0
KEY = "aa" * 32


def view() -> View:
    """Return records with one invitation."""
    now = epoch()
    invitation = Invitation("mgt2", Role.VOTER, KEY, "mgt1", now, now + 3600)
    items = {invitation_key("mgt2"): Item(to_json(invitation).encode(), 1)}
    return View(1, {**view_of(record_of("mgt1")).items, **items})


def proof(good: bool) -> Proof:
    """Return a proof for it."""
    return Proof("mgt2", "voter", "c1", lambda key: good and key == KEY)


def test_good_proofs_need_no_budget() -> None:
    """However many there are."""
    limiter = ProofLimiter(per_second=0.0, burst=0)
    for _ in range(100):
        with limiter.reading(view(), proof(good=True)) as seconds:
            assert seconds == READ_SECONDS


def test_bad_proofs_are_refused_when_the_budget_is_used_up() -> None:
    """The first ones are let through, to be judged on a read: the records here may be old."""
    limiter = ProofLimiter(per_second=0.0, burst=3)
    for _ in range(3):
        with limiter.reading(view(), proof(good=False)):
            pass
    for known in (view(), View(0)):
        with pytest.raises(InvitationError), limiter.reading(known, proof(good=False)):
            pytest.fail("it was let through")


def test_invitation_that_is_not_known_here_yet_is_looked_up() -> None:
    """It may have been made on another member a moment ago."""
    with ProofLimiter().reading(View(0), proof(good=True)) as seconds:
        assert seconds < READ_SECONDS


def test_reads_on_bad_proofs_that_hang_are_few_at_a_time() -> None:
    """Without a quorum each held a thread of those for strangers for three seconds."""
    limiter = ProofLimiter(per_second=1e9, burst=10**9)
    bad = [limiter.reading(view(), proof(good=False)) for _ in range(3)]
    with bad[0] as first, bad[1]:
        assert first <= 1.0
        with pytest.raises(InvitationError), bad[2]:
            pytest.fail("it was let through")
        with limiter.reading(view(), proof(good=True)):
            pass
    for _ in range(3):  # also where the read fails
        with pytest.raises(QuorumError), limiter.reading(view(), proof(good=False)):
            raise QuorumError("x")


def test_one_dial_back_at_a_time_is_made_for_a_name() -> None:
    """Who had one token held all the threads for strangers, by trying it many times at once."""
    dialled = OneEach()

    def fail() -> None:
        with dialled.alone("mgt2"), dialled.alone("mgt3"):
            with (
                pytest.raises(RefusedError, match="for mgt2 is being tried already"),
                dialled.alone("mgt2", patience=0.01),
            ):
                pytest.fail("it was let in")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    with dialled.alone("mgt2"):
        pass


def test_one_more_waits_for_it_and_no_third_one() -> None:
    """Two servers that race for an invitation are told who has it."""
    dialled, entered = OneEach(), threading.Event()

    def wait() -> None:
        with dialled.alone("mgt2", SECONDS):
            entered.set()

    second = threading.Thread(target=wait)
    with dialled.alone("mgt2"):
        second.start()
        wait_until(lambda: dialled._waiting == {"mgt2"}, SECONDS, "it waits")
        with pytest.raises(RefusedError), dialled.alone("mgt2", SECONDS):
            pytest.fail("it was let in")
        assert not entered.is_set()
    assert entered.wait(SECONDS)
    second.join(SECONDS)
    assert not dialled._names | dialled._waiting
