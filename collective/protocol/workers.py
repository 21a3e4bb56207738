"""The threads that run a door's handlers, and the iterators that these threads drive.

It does not know who is served by which threads: the door server decides that.

Invariants:
  * An iterator is never driven or closed by two threads at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """The threads of one kind of peer; streams have their own, so that calls never wait for them.

    Attributes:
        calls: run handlers.
        streams: drive the iterators that handlers return.
    """

    calls: Executor
    streams: Executor

    @classmethod
    def make(cls, kind: str, calls: int, streams: int) -> Workers:
        """Make as many threads of the two sorts, each when it is first needed."""
        return cls(
            calls=ThreadPoolExecutor(calls, thread_name_prefix=f"{kind}-call"),
            streams=ThreadPoolExecutor(streams, thread_name_prefix=f"{kind}-stream"),
        )

    def dismiss(self) -> None:
        """Take no new work; what was handed over is still done."""
        self.calls.shutdown(wait=False)
        self.streams.shutdown(wait=False)


class Stream:
    """An iterator that one worker thread after the other may drive and close.

    Attributes:
        failed: whether the iterator itself raised.
    """

    def __init__(self, body: Iterator[bytes]) -> None:
        self._body = body
        self._lock = threading.Lock()
        self.failed = False

    def step(self) -> bytes | None:
        """Return the next chunk, or None at the end."""
        with self._lock:
            try:
                return next(self._body, None)
            except BaseException:
                self.failed = True
                raise

    def close(self) -> None:
        """Close the iterator, if it can be closed; waits for a step that is under way."""
        close = getattr(self._body, "close", None)
        if close is None:
            return
        with self._lock:
            try:
                close()
            except Exception:
                _log.exception("a stream could not be closed")
