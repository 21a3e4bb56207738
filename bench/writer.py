"""A stream of writes at one etcd, and the longest time in which none was answered.

The next write begins as soon as the last is answered. One that is not answered within a deadline
is given up and the next one tried: etcd itself would let one that met a change of leader hang for
seconds.

Invariants:
  * A gap is the time between two answered writes; one that was given up counts in it in full.
  * The time before the first answer, and after the last, counts as a gap too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from bench.line import Line, LineError
from tests.harness import Server

DEADLINE_SECONDS = 0.05
_AGAIN_SECONDS = 0.001


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
        self._line = Line(server.layout.etcd_socket, DEADLINE_SECONDS)
        self._stopped = threading.Event()
        self._marks: list[float] = []
        self.given_up = 0

    def run(self) -> None:
        """Write until stopped."""
        self._marks.append(time.monotonic())
        while not self._stopped.is_set():
            try:
                self._line.write()
            except LineError:
                self.given_up += 1
                self._stopped.wait(_AGAIN_SECONDS)
                continue
            self._marks.append(time.monotonic())
        self._marks.append(time.monotonic())
        self._line.close()

    def stop(self) -> None:
        """End the stream."""
        self._stopped.set()
        self.join()

    def longest_gap(self, begin: float, end: float) -> float:
        """Return the longest time without an answered write that touches a span of time."""
        return max((b - a for a, b in pairwise(self._marks) if b > begin and a < end), default=0.0)


@contextmanager
def writing(servers: Sequence[Server]) -> Iterator[list[Writer]]:
    """Write at the etcd of each of some servers until the block ends."""
    writers = [Writer(server) for server in servers]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()
