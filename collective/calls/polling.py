"""Wait for a descriptor, also where eventlet has taken poll(2) away.

Invariants:
  * What waits yields to other greenlets there; what looks never waits.
"""

from __future__ import annotations

import select
import sys
from typing import Any

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
_HUNG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


def wait_for(fileno: int, wanted: int, seconds: float) -> bool:
    """Wait until a descriptor is ready; return False where it is not in so many seconds.

    Args:
        fileno: the descriptor.
        wanted: READABLE or WRITABLE.
        seconds: how long to wait.
    """
    if not hasattr(select, "poll"):
        # That of eventlet, which asks its hub: that knows more than 1024 open files.
        reads, writes = ([fileno], []) if wanted == READABLE else ([], [fileno])
        return any(select.select(reads, writes, [], seconds))
    poll = select.poll()
    poll.register(fileno, wanted)
    return bool(poll.poll(seconds * 1000))


def has_hung_up(fileno: int) -> bool:
    """Tell whether the other end of a socket has hung up; what it said may be unread."""
    poll = _select().poll()
    poll.register(fileno, select.POLLRDHUP)
    return any(events & _HUNG_UP for _, events in poll.poll(0))


def _select() -> Any:
    """Return a module select that has poll(2)."""
    if hasattr(select, "poll"):
        return select
    return sys.modules["eventlet.patcher"].original("select")
