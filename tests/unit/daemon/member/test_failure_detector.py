"""Who is waited for, and whose answer counts, where members are asked for an entry of now."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from collective.daemon.clock import elapsed
from collective.daemon.member import commits, failure_detector
from collective.daemon.member.failure_detector import FailureDetector, _Probe
from collective.daemon.member.recognition import Found
from collective.errors import UnreachableError
from collective.model.records import MemberRecord, Role
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of

SECONDS = 20.0
WELL = ServerStatus("mgt2", "1", "3.5.16", "2", "1", 1, 100, 100, 1, False, "", ())
#: What a member says when it is asked: a status, or None where it is silent.
Said = Callable[[], ServerStatus | None]


class Peer:
    """A connection over which a member says what a test has it say."""

    said: Mapping[str, Said] = {}
    round_trip = 0.001

    def __init__(self, host: str, *_arguments: Any) -> None:
        self.host, self.port = host, 1

    def call(self, *_arguments: Any) -> dict[str, Any]:
        status = self.said[self.host]()
        if status is None:
            raise UnreachableError("no answer in time")
        return status.to_wire()

    def insist(self, *_arguments: Any) -> None: ...
    def use(self, *_arguments: Any) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def detector_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FailureDetector]]:
    """Makes a detector of members that say what is given, by their address; "n" does not vote."""
    detector = FailureDetector("mgt1", *(cast(Any, lambda *_: None) for _ in range(4)))
    monkeypatch.setattr(failure_detector, "PeerClient", Peer)

    def make(**said: Said) -> FailureDetector:
        monkeypatch.setattr(Peer, "said", said)
        roles = {name: Role.NONVOTING if name == "n" else Role.VOTER for name in said}
        detector.follow(record_of(name, role, address=name) for name, role in roles.items())
        detector.answers(SECONDS)
        return detector

    yield make
    detector.stop()


def test_voter_is_asked_until_it_has_the_entry(
    detector_of: Callable[..., FailureDetector],
) -> None:
    """Its first answers are from before the commit."""
    told = iter(range(100, 10_000))
    detector = detector_of(a=lambda: replace(WELL, applied=next(told)))
    found = detector.answers_at(110, elapsed(), SECONDS)["a"]
    assert found.status is not None
    assert found.status.applied >= 110
    assert detector.follows(found, 110)


def test_voter_that_does_not_follow_is_waited_for_once(
    detector_of: Callable[..., FailureDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is known to be behind, whoever asks next is told at once."""
    monkeypatch.setattr(commits, "GRACE_SECONDS", 0.0)
    detector = detector_of(a=lambda: WELL, b=lambda: replace(WELL, applied=200))
    found = detector.answers_at(200, elapsed(), 0.05)
    assert not detector.follows(found["a"], 200)
    assert detector.follows(found["b"], 200)
    assert detector.answering(SECONDS) == {"a", "b"}  # of nothing that was committed is known
    detector.note_committed(200)
    begun = elapsed()
    assert not detector.follows(detector.answers_at(200, begun, SECONDS)["a"])
    assert elapsed() - begun < SECONDS / 2
    assert detector.answering(SECONDS, since=elapsed()) == {"b"}


def test_decision_asks_everybody_anew_and_show_the_voters(
    detector_of: Callable[..., FailureDetector],
) -> None:
    """One without a vote that was silent and is back is to be promoted: it must be asked."""
    said: dict[str, ServerStatus | None] = {"n": None, "a": WELL}
    detector = detector_of(n=lambda: said["n"], a=lambda: said["a"])
    begun = elapsed()
    said["n"] = replace(WELL, nonvoting=True, member_id="", applied=0)
    found = detector.answers_at(100, begun, SECONDS, patient=True)
    assert {name: answer.when >= begun for name, answer in found.items()} == {"n": True, "a": True}
    assert all(detector.follows(answer, 100) for answer in found.values())


def test_silence_is_no_word_against_whoever_is_said_to_be_deleted(
    detector_of: Callable[..., FailureDetector],
) -> None:
    """Only refusals are, and only where nobody else answers."""
    assert detector_of(a=lambda: None, b=lambda: None).who_say_removed() == []


def test_member_that_asks_before_it_has_answered_is_back() -> None:
    """Its question may come through before ours does, after a partition."""
    told: list[tuple[MemberRecord, ServerStatus | None]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    member = record_of("mgt2")
    probe = _Probe(
        member, context, lambda _: None, lambda _: Found(), lambda *back: told.append(back)
    )
    probe.heard(None)
    assert told == [(member, None)]
