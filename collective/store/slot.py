"""What one thread promises another: a result or an error, given once.

``concurrent.futures.Future`` does the same; this costs a fifth of it, which counts where it is
made for each write of many threads (bench row of 64 threads).

Invariants:
  * The first to settle it wins; whoever comes later changes nothing.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Slot(Generic[T]):
    """The place for it."""

    __slots__ = ("_call", "_done", "_error", "_first", "_result")

    def __init__(self) -> None:
        self._done = allocate_lock()
        self._done.acquire()
        self._first = allocate_lock()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._call: Callable[[], object] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether there is a result or an error, or somebody is about to give one."""
        return self._first.locked()

    def settle(self, outcome: T | BaseException) -> None:
        """Give the result or error, unless there is one."""
        if not self._first.acquire(False):
            return
        if isinstance(outcome, BaseException):
            self._error = outcome
        else:
            self._result = outcome
        self._done.release()
        call = self._call
        if call is not None:
            try:
                call()
            except Exception:
                # Whoever waits for others of the same batch must be told all the same.
                log.exception("an outcome could not be told")

    def wait(self, seconds: float) -> bool:
        """Wait until it is settled, in one thread only; False when it took too long."""
        return self._done.acquire(True, max(seconds, 0.0))

    def get(self) -> T:
        """Return the result, or raise the error, of a slot that was waited for or called for."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def when_settled(self, call: Callable[[], object]) -> None:
        """Have something called when it is settled: perhaps twice, perhaps at once."""
        self._call = call
        if not self._done.locked():
            call()
