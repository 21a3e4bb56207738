"""How long a call to etcd may take: said for a block of code, kept by what carries the call."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_SECONDS = 5.0
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give every call of the block this deadline, in seconds."""
    token = _deadline.set(max(seconds, 0.001))
    try:
        yield
    finally:
        _deadline.reset(token)


def seconds_allowed() -> float:
    """Return the deadline of a call that is made now, in seconds."""
    return _deadline.get(DEFAULT_SECONDS)
