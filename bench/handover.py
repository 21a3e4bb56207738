"""Row 7: the leader is stopped cleanly under a stream of writes; how long is its longest gap?

One client writes at a follower's etcd, see ``bench.writer``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.writer import DEADLINE_SECONDS, Writer, writing
from tests.harness import Cluster

_ROUNDS = 10
_BAR_SECONDS = 0.15
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 1.0


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    gaps, usual, lost, stops = [], [], [], []
    with place.collective() as cluster:
        for _ in range(place.count(_ROUNDS)):
            writer, begun, seconds = _round(place, cluster)
            usual.append(writer.longest_gap(begun - _BEFORE_SECONDS, begun))
            gaps.append(writer.longest_gap(begun, time.monotonic()))
            lost.append(writer.given_up)
            stops.append(seconds)
            say(f"longest gap {gaps[-1] * 1000:.0f} ms, usually {usual[-1] * 1000:.0f} ms")
    sample = Sample.of(gaps)
    yield Row(
        "7",
        "leader stopped cleanly (SIGTERM), longest gap in a stream of writes at a survivor",
        sample,
        f"{_BAR_SECONDS * 1000:.0f} ms",
        sample.median <= _BAR_SECONDS,
        f"the second before {Sample.of(usual)}",
        "",
        (
            f"writes given up after {DEADLINE_SECONDS * 1000:.0f} ms: "
            f"{sum(lost) / len(lost):.1f} a round; the daemon ended {Sample.of(stops)} after "
            "SIGTERM",
        ),
    )


def _round(place: Place, cluster: Cluster) -> tuple[Writer, float, float]:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    place.quiet.wait()
    with writing([follower]) as (writer,):
        rest(_BEFORE_SECONDS)
        begun = time.monotonic()
        leader.stop()
        seconds = time.monotonic() - begun
        rest(_AFTER_SECONDS)
    leader.start()
    return writer, begun, seconds
