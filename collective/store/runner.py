"""Threads that run what callers want to be called with, so that no caller holds up another.

It does not know what is called. A *line* is a row of work that is done in order, one piece at a
time; different lines are done side by side.

Invariants:
  * What one line does, or that it never returns, delays no other line for more than a moment.
  * There are never more threads than ``_USUAL`` and one for each line that does not return.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

log = logging.getLogger(__name__)

_USUAL = 4
# A thread that is longer than this in one call does not count any more.
_SLOW_SECONDS = 0.05
_IDLE_SECONDS = 10.0


class Runner:
    """The threads, begun when they are needed and ended when they are not."""

    def __init__(self, name: str) -> None:
        self._name = name
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._overseeing = threading.Condition(lock)
        self._ready: deque[Lane] = deque()
        # Threads that wait for a line, or are being begun.
        self._idle = 0
        # Since when each of the others is in its line, by its identity.
        self._busy: dict[int, float] = {}
        self._closed = False
        self._numbered = 0
        self._is_overseen = False

    def line(self, work: Callable[[], bool]) -> Lane:
        """Return a line.

        Args:
            work: does one piece and returns whether there is more; an exception ends the piece.
        """
        return Lane(self, work)

    def close(self) -> None:
        """Begin nothing more; what runs is left to end by itself."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
            self._overseeing.notify_all()

    def put(self, line: Lane) -> None:
        """Have a line run; its own ``wake`` calls this."""
        with self._changed:
            if not self._closed:
                self._ready.append(line)
                self._staff()

    def _staff(self) -> None:
        """See to it that somebody runs what is ready; under the lock."""
        if len(self._ready) <= self._idle:
            self._changed.notify(len(self._ready))
        elif self._idle + self._quick() < _USUAL:
            self._begin()
        elif not self._is_overseen:
            self._is_overseen = self._is_begun(self._oversee, 0)

    def _begin(self) -> None:
        if self._is_begun(self._run, self._numbered + 1):
            self._numbered += 1
            self._idle += 1

    def _is_begun(self, work: Callable[[], None], number: int) -> bool:
        """Begin a thread, which waits for the lock; tell whether the machine had one to give.

        Where it had none, whoever comes next tries again.
        """
        name = f"{self._name}-{number}"
        try:
            threading.Thread(target=work, name=name, daemon=True).start()
        except RuntimeError as error:
            log.error("callbacks wait: %s", error)
            return False
        return True

    def _quick(self) -> int:
        """Return how many threads are in a line, and not for long."""
        now = monotonic()
        return sum(now - begun < _SLOW_SECONDS for begun in self._busy.values())

    def _oversee(self) -> None:
        """Begin threads in place of those that do not return, while something is ready."""
        with self._overseeing:
            while self._ready and not self._closed:
                self._overseeing.wait(_SLOW_SECONDS)
                if len(self._ready) > self._idle and self._idle + self._quick() < _USUAL:
                    self._begin()
            self._is_overseen = False

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                found = self._changed.wait_for(lambda: self._ready or self._closed, _IDLE_SECONDS)
                self._idle -= 1
                if not found or not self._ready:
                    return
                line = self._ready.popleft()
                self._busy[me] = monotonic()
                if self._ready:
                    self._staff()
            try:
                line.run()
            finally:
                with self._changed:
                    del self._busy[me]
                    self._idle += 1


class Lane:
    """A row of work."""

    def __init__(self, runner: Runner, work: Callable[[], bool]) -> None:
        self._runner = runner
        self._work = work
        self._lock = threading.Lock()
        self._queued = False
        self._again = False

    def wake(self) -> None:
        """See to it that the work is looked at after now."""
        with self._lock:
            self._again = True
            if self._queued:
                return
            self._queued = True
        self._runner.put(self)

    def run(self) -> None:
        """Do one piece, and queue again if there is more."""
        with self._lock:
            self._again = False
        more = False
        try:
            more = self._work()
        except BaseException:  # what it raises ends nobody's thread, not even SystemExit
            log.exception("a callback failed")
        with self._lock:
            if not more and not self._again:
                self._queued = False
                return
        self._runner.put(self)
