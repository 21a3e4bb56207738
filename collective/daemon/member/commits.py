"""How far the log was committed, as this server's own etcd said, and when: who must have followed?

No other server is believed: one that lies would make all others seem to be behind.

Invariants:
  * What is owed at a moment was known here to be committed ``GRACE_SECONDS`` before it.
"""

from __future__ import annotations

import threading
from collections import deque

from collective.protocol.messages import ServerStatus

#: A member that does not follow for so long is told as such: of two seconds, what is left by the
#: time until the commit is known here, and until the member was asked.
GRACE_SECONDS = 0.7
_KEPT_SECONDS = 10.0
_STEP_SECONDS = 0.05


class Commits:
    """Indexes of committed entries, and when each was known; for several threads."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def note(self, index: int, when: float) -> None:
        """Note that the log is committed up to an index.

        Args:
            index: of raft.
            when: it is known, monotonic seconds.
        """
        with self._lock:
            marks = self._marks
            if marks and (index <= marks[-1][1] or when < marks[-1][0] + _STEP_SECONDS):
                return
            marks.append((when, index))
            # Of the old ones the newest says what is owed since.
            while len(marks) > 1 and marks[1][0] < when - _KEPT_SECONDS:
                marks.popleft()

    def owed(self, when: float) -> int:
        """Return the index that every member must have at a moment, 0 while none is known."""
        with self._lock:
            known = [index for noted, index in self._marks if noted <= when - GRACE_SECONDS]
        return known[-1] if known else 0


def is_behind(status: ServerStatus, index: int) -> bool:
    """Tell whether a voter that takes part, by its own word, does not have an entry."""
    counts = status.healthy and not status.nonvoting and not status.learner
    return counts and status.applied < index
