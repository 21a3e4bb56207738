"""Row 7: the leader is stopped cleanly under a stream of writes; how long is its longest gap?

One client writes at a follower's etcd, see ``bench.writer``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.writer import Gap, gap_while, losses_of, others_of
from tests.harness import Cluster, Server

_ROUNDS = 10
_BAR_SECONDS = 0.15


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    gaps = []
    with place.collective() as cluster:
        for _ in range(place.count(_ROUNDS)):
            gap = _round(place, cluster)
            gaps.append(gap)
            say(f"longest gap {gap.seconds * 1000:.0f} ms, usually {gap.usual * 1000:.0f} ms")
    sample = Sample.of(gap.seconds for gap in gaps)
    ends = Sample.of(gap.took for gap in gaps)
    yield Row(
        "7",
        "leader stopped cleanly (SIGTERM), longest gap in a stream of writes at a survivor",
        sample,
        f"{_BAR_SECONDS * 1000:.0f} ms",
        sample.median <= _BAR_SECONDS,
        others_of(gaps),
        notes=(f"{losses_of(gaps)}; the daemon ended {ends} after SIGTERM",),
    )


def _round(place: Place, cluster: Cluster) -> Gap:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    place.quiet.wait()
    gap = gap_while(follower.layout.etcd_socket, lambda: _stop(leader))
    leader.start()
    return gap


def _stop(server: Server) -> float:
    """Stop a server, and return how long it took to end, in seconds."""
    begun = time.monotonic()
    server.stop()
    return time.monotonic() - begun
