"""Row 8: ``show`` on the last server, with all others just killed, and a while later.

The survivor led in every other round: a leader finds out in another way than a follower.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.signals import kill
from bench.timing import Timed, collective
from tests.harness import Cluster

_ROUNDS = 10
_BAR_SECONDS = 0.5
_LATER_SECONDS = 3.0


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    firsts, laters = [], []
    with place.collective() as cluster:
        for number in range(place.count(_ROUNDS)):
            first, later, led = _round(place, cluster, number % 2 == 0)
            firsts.append((first, led))
            laters.append((later, led))
            say(f"alone: {first.seconds * 1000:.0f} ms, later {later.seconds * 1000:.0f} ms")
    yield _row("8a", "at once", firsts)
    yield _row("8b", f"{_LATER_SECONDS:.0f} s later", laters)


def _row(key: str, when: str, calls: list[tuple[Timed, bool]]) -> Row:
    sample = Sample.of(timed.seconds for timed, _ in calls)
    claims = sum(timed.value_of("Quorum") != "False" for timed, _ in calls)
    notes = []
    for led, did in ((True, "led"), (False, "followed")):
        seconds = [timed.seconds for timed, was in calls if was is led]
        if seconds:
            notes.append(f"where the survivor {did}: {Sample.of(seconds)}")
    if claims:
        notes.append(f"{claims} of {len(calls)} did not print `Quorum: False`")
    return Row(
        key,
        f"`show` with all other servers killed, {when}",
        sample,
        f"{_BAR_SECONDS * 1000:.0f} ms",
        sample.median <= _BAR_SECONDS,
        notes=tuple(notes),
    )


def _round(place: Place, cluster: Cluster, keep_leader: bool) -> tuple[Timed, Timed, bool]:
    leader = settle(cluster)
    followers = [server for server in cluster.servers.values() if server is not leader]
    survivor = leader if keep_leader else followers[0]
    others = [server for server in cluster.servers.values() if server is not survivor]
    place.quiet.wait()
    for server in others:
        kill(server)
    first = collective(survivor, "show")
    rest(_LATER_SECONDS)
    later = collective(survivor, "show")
    for server in others:
        server.end()
    cluster.start_all(others)
    return first, later, survivor is leader
