"""Row 12: a member changes its address under a stream of writes; how long is the longest gap?

A follower and the leader move in turns, on loopback, and stay where they moved to: the next time
they move back. One client writes at the leader's etcd while a follower moves, and at a follower's
while the leader does, see ``bench.writer``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from bench.writer import DEADLINE_SECONDS, writing
from tests.harness import Cluster, Server

_ROUNDS = 10
_BAR_SECONDS = 1.0
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 1.0
_ELSEWHERE = "9"


@dataclass(frozen=True)
class Round:
    """One move.

    Attributes:
        led: whether who moved was the leader.
        gap: the longest, in seconds.
        usual: the longest in the second before.
        given_up: writes that were not answered.
        seconds: how long the command took.
    """

    led: bool
    gap: float
    usual: float
    given_up: int
    seconds: float


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    rounds = []
    with place.collective() as cluster:
        homes = {server.name: server.address for server in cluster.servers.values()}
        for number in range(place.count(_ROUNDS)):
            rounds.append(_round(place, cluster, homes, number % 2 == 1))
            who = "leader" if rounds[-1].led else "follower"
            say(f"{who} moved: longest gap {rounds[-1].gap * 1000:.0f} ms")
    notes, kept = [], True
    for led, who in ((False, "a follower"), (True, "the leader")):
        moves = [one for one in rounds if one.led is led]
        if moves:
            gaps = Sample.of(one.gap for one in moves)
            took = Sample.of(one.seconds for one in moves)
            kept = kept and gaps.median <= _BAR_SECONDS
            notes.append(f"where {who} moved: {gaps}; the command took {took}")
    lost = sum(one.given_up for one in rounds) / len(rounds)
    notes.append(f"writes given up after {DEADLINE_SECONDS * 1000:.0f} ms: {lost:.1f} a round")
    yield Row(
        "12",
        "`readdress` of a follower or the leader, longest gap in a stream of writes at another",
        Sample.of(one.gap for one in rounds),
        f"{_BAR_SECONDS * 1000:.0f} ms, for both",
        kept,
        f"the second before {Sample.of(one.usual for one in rounds)}",
        notes=tuple(notes),
    )


def _round(place: Place, cluster: Cluster, homes: dict[str, str], led: bool) -> Round:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    mover, asked = (leader, follower) if led else (follower, leader)
    place.quiet.wait()
    with writing([asked]) as (writer,):
        rest(_BEFORE_SECONDS)
        begun = time.monotonic()
        seconds = _move(mover, homes[mover.name])
        rest(_AFTER_SECONDS)
        ended = time.monotonic()
    usual = writer.longest_gap(begun - _BEFORE_SECONDS, begun)
    return Round(led, writer.longest_gap(begun, ended), usual, writer.given_up, seconds)


def _move(server: Server, home: str) -> float:
    """Move a server away from home or back, and return how long the command took."""
    address = f"{home}{_ELSEWHERE}" if server.address == home else home
    server.configure(address=address)
    timed = checked(server, "readdress")
    server.address = address
    return timed.seconds
