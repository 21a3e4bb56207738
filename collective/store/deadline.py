"""Deadlines that callers give: how long, in seconds, from now."""

from __future__ import annotations

from time import monotonic

from collective.errors import InputError

#: Longer than this is for ever, and more than sockets and locks can wait.
MOST_SECONDS = 1e8


def bounded(seconds: float) -> float:
    """Return a time to wait that everything below can wait for.

    Raises:
        InputError: it is no number of seconds from 0 on.
    """
    # Written so that it is true of no number at all (NaN), too.
    if not seconds >= 0:
        raise InputError(f"a call cannot wait {seconds!r} seconds, expected a number from 0 on")
    return min(float(seconds), MOST_SECONDS)


def deadline_in(seconds: float) -> float:
    """Return when it will be, by the monotonic clock; errors are those of ``bounded``."""
    return monotonic() + bounded(seconds)
