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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from bench.line import Line, LineError
from bench.place import rest
from bench.sample import Sample

_DEADLINE_SECONDS = 0.05
_AGAIN_SECONDS = 0.001
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class Gap:
    """What became of a stream of writes while something was done.

    Attributes:
        seconds: the longest gap from the beginning of it until a second after its end.
        usual: the longest in the second before, in seconds.
        given_up: writes that were not answered.
        took: how long it took, in seconds.
    """

    seconds: float
    usual: float
    given_up: int
    took: float


class Writer(threading.Thread):
    """A client that writes without a pause.

    Attributes:
        given_up: how many writes were not answered.
    """

    def __init__(self, etcd: str) -> None:
        """Prepare.

        Args:
            etcd: the path of the socket of the etcd at which it writes.
        """
        super().__init__(name="writer", daemon=True)
        self._line = Line(etcd, _DEADLINE_SECONDS)
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
def _writing(etcd: str) -> Iterator[Writer]:
    """Write at an etcd until the block ends."""
    writer = Writer(etcd)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def gap_while(asked: str, act: Callable[[], float]) -> Gap:
    """Do something under a stream of writes.

    Args:
        asked: the path of the socket of the etcd at which is written.
        act: does it, and returns how many seconds it took.
    """
    with _writing(asked) as writer:
        rest(_BEFORE_SECONDS)
        begun = time.monotonic()
        took = act()
        rest(_AFTER_SECONDS)
        ended = time.monotonic()
    usual = writer.longest_gap(begun - _BEFORE_SECONDS, begun)
    return Gap(writer.longest_gap(begun, ended), usual, writer.given_up, took)


def others_of(gaps: Sequence[Gap]) -> str:
    """Return what the table says beside the gaps: the usual ones."""
    return f"the second before {Sample.of(gap.usual for gap in gaps)}"


def losses_of(gaps: Sequence[Gap]) -> str:
    """Return what the table says of the writes that were given up."""
    lost = sum(gap.given_up for gap in gaps) / len(gaps)
    return f"writes given up after {_DEADLINE_SECONDS * 1000:.0f} ms: {lost:.1f} a round"
