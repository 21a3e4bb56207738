"""Row 7: the leader is stopped cleanly under a stream of writes; how long is its longest gap?

One client writes at a follower's etcd, the next write as soon as the last is answered. A write
that is not answered within a deadline is given up and the next one tried: etcd itself would let
one that met the change of leader hang for seconds.

Invariants:
  * A gap is the time between two answered writes; one that was given up counts in it in full.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise

from bench.line import Line, LineError
from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from tests.harness import Cluster, Server

_ROUNDS = 10
_BAR_SECONDS = 0.15
_DEADLINE_SECONDS = 0.05
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
            f"writes given up after {_DEADLINE_SECONDS * 1000:.0f} ms: "
            f"{sum(lost) / len(lost):.1f} a round; the daemon ended {Sample.of(stops)} after "
            "SIGTERM",
        ),
    )


def _round(place: Place, cluster: Cluster) -> tuple[Writer, float, float]:
    leader = settle(cluster)
    follower = next(server for server in cluster.servers.values() if server is not leader)
    place.quiet.wait()
    writer = Writer(follower)
    writer.start()
    rest(_BEFORE_SECONDS)
    begun = time.monotonic()
    leader.stop()
    seconds = time.monotonic() - begun
    rest(_AFTER_SECONDS)
    writer.stop()
    leader.start()
    return writer, begun, seconds


class Writer(threading.Thread):
    """A client that writes without a pause.

    Attributes:
        given_up: how many writes were not answered.
    """

    def __init__(self, server: Server) -> None:
        """Prepare.

        Args:
            server: at whose etcd it writes.
        """
        super().__init__(name="writer", daemon=True)
        self._line = Line(server.layout.etcd_socket, _DEADLINE_SECONDS)
        self._stopped = threading.Event()
        self._answered: list[float] = []
        self.given_up = 0

    def run(self) -> None:
        """Write until stopped."""
        while not self._stopped.is_set():
            try:
                self._line.write()
            except LineError:
                self.given_up += 1
                self._stopped.wait(0.001)
                continue
            self._answered.append(time.monotonic())
        self._line.close()

    def stop(self) -> None:
        """End the stream."""
        self._stopped.set()
        self.join()

    def longest_gap(self, begin: float, end: float) -> float:
        """Return the longest time without an answered write that touches a span of time."""
        marks = [*self._answered, end] if not self._answered else self._answered
        return max((b - a for a, b in pairwise(marks) if b > begin and a < end), default=0.0)
