"""The clocks of the daemon, in one place, so that everything else takes ``now``."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def utc_now() -> datetime:
    """Return the time with its zone, for certificates and file names."""
    return datetime.now(timezone.utc)


def epoch() -> float:
    """Return seconds since the epoch, for records that other servers read."""
    return time.time()


def elapsed() -> float:
    """Return seconds of the clock that nobody sets, for deadlines."""
    return time.monotonic()
