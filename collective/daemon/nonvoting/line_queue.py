"""Lines from one thread to another, bounded in bytes.

It does not know what a line says.

Invariants:
  * More than the bound waits only where it is one line, since any line must pass.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class LineQueue(Generic[T]):
    """The lines that wait, in their order."""

    def __init__(self, most_bytes: int) -> None:
        """Make it empty.

        Args:
            most_bytes: of all lines together.
        """
        self._most = most_bytes
        self._changed = threading.Condition()
        self._lines: deque[tuple[int, T]] = deque()
        self._bytes = 0
        self._closed = False

    def put(self, line: T, size: int, seconds: float) -> bool:
        """Add one; False if there was no room in time, or nobody takes any more."""
        with self._changed:
            fits = self._changed.wait_for(
                lambda: self._closed or not self._lines or self._bytes + size <= self._most,
                seconds,
            )
            if self._closed or not fits:
                return False
            self._lines.append((size, line))
            self._bytes += size
            self._changed.notify_all()
            return True

    def get(self, seconds: float) -> T | None:
        """Take the first; None if there was none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed, seconds)
            if not self._lines:
                return None
            size, line = self._lines.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return line

    def close(self) -> None:
        """Have nothing added any more, and forget what is there."""
        with self._changed:
            self._closed = True
            self._lines.clear()
            self._bytes = 0
            self._changed.notify_all()
