"""The clocks of the daemon, in one place, so that everything else takes ``now``.

Waiting is here too, where nobody can need to wake whoever waits. A simulation of several servers
puts a ``Time`` of its own in place of the real one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone


class Time:
    """The time of this machine."""

    def utc_now(self) -> datetime:
        """Return the time with its zone."""
        return datetime.now(timezone.utc)

    def epoch(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def elapsed(self) -> float:
        """Return seconds of the clock that nobody sets."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait."""
        threading.Event().wait(seconds)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in a thread of its own, not before so many seconds."""
        threading.Timer(seconds, action).start()


_time = Time()


def utc_now() -> datetime:
    """Return the time with its zone, for certificates and file names."""
    return _time.utc_now()


def epoch() -> float:
    """Return seconds since the epoch, for records that other servers read."""
    return _time.epoch()


def elapsed() -> float:
    """Return seconds of the clock that nobody sets, for deadlines."""
    return _time.elapsed()


def pause(seconds: float) -> None:
    """Wait for so many seconds, in a thread that nobody needs to wake."""
    _time.pause(seconds)


def later(seconds: float, action: Callable[[], None]) -> None:
    """Do something in a thread of its own, not before so many seconds."""
    _time.later(seconds, action)


def rfc3339(seconds: float) -> str:
    """Return a time, in seconds since the epoch, in the one form for people and ``--json``."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
