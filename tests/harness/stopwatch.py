"""Seconds that something took, without those in which this thread had no processor for it.

On a busy machine a thread that could go on waits for its turn: that says how busy the machine is,
and nothing of a deadline. Linux counts it (Documentation/scheduler/sched-stats.rst, schedstat).
"""

from __future__ import annotations

import time
from pathlib import Path

_COUNTED = Path("/proc/thread-self/schedstat")


def waited_for_processor() -> float:
    """Return the seconds that this thread was ready to run and did not; 0 where nobody counts."""
    try:
        return int(_COUNTED.read_text("ascii").split()[1]) / 1e9
    except OSError:
        return 0.0


class Stopwatch:
    """Runs from when it is made, for the thread that has made it."""

    def __init__(self) -> None:
        self._begun, self._waited = time.monotonic(), waited_for_processor()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        waited = waited_for_processor() - self._waited
        return max(0.0, time.monotonic() - self._begun - waited)
