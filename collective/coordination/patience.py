"""How long somebody waits for others: until time is up, or until nobody wants it any more."""

from __future__ import annotations

import threading
from time import monotonic

from collective.store.deadline import deadline_in


class Patience:
    """What is left of it."""

    def __init__(self, seconds: float, given_up: threading.Event | None = None) -> None:
        """Begin to wait.

        Args:
            seconds: how long.
            given_up: set by another thread where nobody waits any more, None for never.

        Raises:
            InputError: see ``collective.store.deadline.bounded``.
        """
        self._deadline = deadline_in(seconds)
        self._given_up = given_up

    @property
    def left(self) -> float:
        """Seconds that are left, 0 where it is over."""
        if self._given_up is not None and self._given_up.is_set():
            return 0.0
        return max(self._deadline - monotonic(), 0.0)
