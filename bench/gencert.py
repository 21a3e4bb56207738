"""Rows 10a and 10b: a member takes a new certificate under a stream of writes; the longest gap.

A follower and the leader do so in turns. One client writes at another member's own etcd, so that
the restarts of that etcd are in its gap, see ``bench.writer``.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from bench.writer import Gap, gap_while, losses_of, others_of
from tests.harness import Cluster

_ROUNDS = 10
_BAR_SECONDS = 1.0


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    gaps: dict[str, list[Gap]] = {"a follower": [], "the leader": []}
    with place.collective() as cluster:
        for number in range(place.count(_ROUNDS)):
            led = number % 2 == 1
            gap = _round(place, cluster, led)
            gaps["the leader" if led else "a follower"].append(gap)
            say(f"gap {gap.seconds * 1000:.0f} ms, gencert took {gap.took * 1000:.0f} ms")
    measured = {who: some for who, some in gaps.items() if some}
    yield _gaps(measured)
    yield Row(
        "10b",
        "`gencert` in a collective of three, whole process",
        Sample.of(gap.took for some in measured.values() for gap in some),
        "-",
        None,
        notes=tuple(
            f"of {who}: {Sample.of(gap.took for gap in some)}" for who, some in measured.items()
        ),
    )


def _gaps(measured: dict[str, list[Gap]]) -> Row:
    samples = {who: Sample.of(gap.seconds for gap in some) for who, some in measured.items()}
    everything = [gap for some in measured.values() for gap in some]
    return Row(
        "10a",
        "`gencert` of a follower or the leader, longest gap in a stream of writes at another",
        Sample.of(gap.seconds for gap in everything),
        f"{_BAR_SECONDS * 1000:.0f} ms, for both",
        all(sample.median <= _BAR_SECONDS for sample in samples.values()),
        others_of(everything),
        notes=(*(f"of {who}: {sample}" for who, sample in samples.items()), losses_of(everything)),
    )


def _round(place: Place, cluster: Cluster, led: bool) -> Gap:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    renewed, asked = (leader, follower) if led else (follower, leader)
    place.quiet.wait()
    return gap_while(asked.layout.etcd_socket, lambda: checked(renewed, "gencert").seconds)
