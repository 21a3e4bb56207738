"""Row 12: a member changes its address under a stream of writes; how long is the longest gap?

A follower and the leader move in turns, on loopback, and stay where they moved to: the next time
they move back. One client writes at the leader's etcd while a follower moves, and at a follower's
while the leader does, see ``bench.writer``.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from bench.writer import Gap, gap_while, losses_of, others_of
from tests.harness import Cluster, Server

_ROUNDS = 10
_BAR_SECONDS = 1.0
_ELSEWHERE = "9"


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    moves: dict[str, list[Gap]] = {"a follower": [], "the leader": []}
    with place.collective() as cluster:
        homes = {server.name: server.address for server in cluster.servers.values()}
        for number in range(place.count(_ROUNDS)):
            led = number % 2 == 1
            gap = _round(place, cluster, homes, led)
            moves["the leader" if led else "a follower"].append(gap)
            who = "leader" if led else "follower"
            say(f"{who} moved: longest gap {gap.seconds * 1000:.0f} ms")
    notes, kept = [], True
    for who, gaps in moves.items():
        if gaps:
            sample = Sample.of(gap.seconds for gap in gaps)
            kept = kept and sample.median <= _BAR_SECONDS
            took = Sample.of(gap.took for gap in gaps)
            notes.append(f"where {who} moved: {sample}; the command took {took}")
    everything = [gap for gaps in moves.values() for gap in gaps]
    yield Row(
        "12",
        "`readdress` of a follower or the leader, longest gap in a stream of writes at another",
        Sample.of(gap.seconds for gap in everything),
        f"{_BAR_SECONDS * 1000:.0f} ms, for both",
        kept,
        others_of(everything),
        notes=(*notes, losses_of(everything)),
    )


def _round(place: Place, cluster: Cluster, homes: dict[str, str], led: bool) -> Gap:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    keeper, asked = (leader, follower) if led else (follower, leader)
    place.quiet.wait()
    return gap_while(asked.layout.etcd_socket, lambda: _move(keeper, homes[keeper.name]))


def _move(server: Server, home: str) -> float:
    """Move a server away from home or back, and return how long the command took."""
    address = f"{home}{_ELSEWHERE}" if server.address == home else home
    server.configure(address=address)
    timed = checked(server, "readdress")
    server.address = address
    return timed.seconds
