"""Whether there is a quorum: proven, not in time, or none; and how long that is worth waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon import clock
from collective.daemon.listeners.proving import Proof, Proven, prove
from collective.daemon.member.failure_detector import Answer
from collective.errors import EtcdUnavailableError
from collective.model.view import View
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of, view_of

RECORDS = view_of(*(record_of(f"mgt{n}", member_id=f"{n:016x}") for n in (1, 2, 3)))
STATUS = ServerStatus("mgt2", "1", "3.5.16", "2", "1", 1, 1, 1, 1, False, "", ())
SILENT, WELL = None, STATUS


class World(clock.Time):
    """A store that takes its time, others that answer, and a clock that both move."""

    def __init__(self, takes: float, *others: ServerStatus | None, trip: float = 0.0) -> None:
        self.now, self.takes, self.trip = 1000.0, takes, trip
        self.others = {f"mgt{n}": status for n, status in enumerate(others, 2)}
        self.proven_at, self.refused_until = float("-inf"), 0.0
        self.answered, self.own = True, "1"

    def __str__(self) -> str:
        well = sum(status is not None for status in self.others.values())
        return f"a read takes {self.takes:g} s, {self.trip:g} s away, {well} answer"

    def elapsed(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def read_at_commit(self, seconds: float) -> View:
        if self.now < self.refused_until or self.takes > seconds:
            self.now += seconds
            raise EtcdUnavailableError("etcd did not answer in time")
        self.now += self.takes
        return RECORDS

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        self.now += 0.0 if self.answered else seconds
        return self.last_answers()

    def last_answers(self) -> Mapping[str, Answer]:
        asked = self.now if self.answered else 0.0
        return {name: Answer(status, "", asked) for name, status in self.others.items()}

    def round_trips(self) -> Mapping[str, float]:
        return dict.fromkeys(self.others, self.trip)


def proof_in(
    world: World, patch: pytest.MonkeyPatch, failure: str | None = None
) -> tuple[Proof, float]:
    """Return what comes of it, and in how many seconds."""
    patch.setattr(clock, "_time", world)
    runtime = SimpleNamespace(
        plan=SimpleNamespace(name="mgt1"),
        store=world,
        detector=world,
        records_view=SimpleNamespace(view=RECORDS),
        etcd=SimpleNamespace(failure=failure),
        reporter=SimpleNamespace(status=lambda: replace(STATUS, member_id=world.own)),
    )
    begun = world.now
    return prove(cast(Any, runtime)), world.now - begun


@pytest.mark.parametrize(
    ("world", "proven", "most"),
    [
        (World(0.01, WELL, WELL), Proven.YES, 0.02),
        (World(0.01, SILENT, SILENT), Proven.YES, 0.02),
        (World(0.4, WELL, WELL), Proven.YES, 1.0),
        (World(0.4, WELL, WELL, trip=0.2), Proven.YES, 0.41),
        (World(0.9, WELL, SILENT, trip=0.3), Proven.YES, 0.91),
        (World(99.0, WELL, WELL), Proven.LATE, 2.6),
        (World(99.0, WELL, SILENT), Proven.LATE, 2.6),
        (World(99.0, SILENT, SILENT), Proven.NO, 0.26),
        (World(99.0, SILENT, SILENT, trip=0.3), Proven.NO, 1.3),
    ],
    ids=str,
)
def test_proof_has_the_time_that_it_is_worth(
    world: World, proven: Proven, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow network is waited for; where every other server is dead it ends at once."""
    proof, seconds = proof_in(world, monkeypatch)
    assert proof.proven is proven
    assert seconds <= most
    assert bool(proof.error) is (proven is not Proven.YES)


def test_recent_proof_is_a_reason_to_wait_for_servers_that_are_too_busy_to_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writes are acknowledged; the others' daemons did not say a word in time."""
    world = World(1.2, SILENT, SILENT)
    world.answered, world.proven_at = False, world.now - 1.0
    assert proof_in(world, monkeypatch)[0].proven is Proven.YES
    world = World(1.2, SILENT, SILENT)
    world.answered, world.proven_at = False, world.now - 60.0
    assert proof_in(world, monkeypatch)[0].proven is Proven.NO


def test_etcd_that_does_not_run_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told instead."""
    proof, seconds = proof_in(World(99.0, WELL, WELL), monkeypatch, "etcd ended with 2")
    assert (proof.proven, proof.error) == (Proven.NO, "etcd ended with 2")
    assert seconds < 0.3


def test_own_etcd_that_hangs_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on; here nothing will be proven. With two voters that is no quorum at all."""
    world = World(99.0, WELL, SILENT)
    world.own = ""
    proof, seconds = proof_in(world, monkeypatch)
    assert proof.proven is Proven.NO
    assert seconds < 0.3
