"""Waiting with a deadline, and what is raised when it is missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.05


class HarnessError(AssertionError):
    """Something did not do what it should; the text says what, in how many seconds."""


def wait_until(
    predicate: Callable[[], T], seconds: float, what: str, pause_seconds: float = _POLL_SECONDS
) -> T:
    """Call a predicate until it returns something true.

    Args:
        predicate: asked at least once; what it raises is passed on.
        seconds: the deadline.
        what: ends the sentence "not within 5 s: ...".
        pause_seconds: between two calls.

    Returns:
        What the predicate returned last.

    Raises:
        HarnessError: the deadline passed.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise HarnessError(f"not within {seconds:g} s: {what}")
        pause.wait(pause_seconds)
    return value
