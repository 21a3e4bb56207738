"""How full a voter's store is, and whether servers without a vote may write more.

A database at etcd's quota takes no write at all, of nobody: who filled it could not even be
deleted. It does not free anything.

Invariants:
  * However many ask, the size is looked at once a second at most.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from collective.daemon.clock import elapsed
from collective.errors import CollectiveError, EtcdError
from collective.etcd.arguments import QUOTA_BYTES

log = logging.getLogger(__name__)

#: Above it the rest is for the voters.
MOST_BYTES = QUOTA_BYTES // 4 * 3
_LOOK_SECONDS = 1.0


class Room:
    """What the store has for servers without a vote; may be used by several threads."""

    def __init__(self, most_bytes: int = MOST_BYTES, now: Callable[[], float] = elapsed) -> None:
        """Begin without having looked.

        Args:
            most_bytes: how large the database may be for their writes to pass.
            now: monotonic seconds.
        """
        self._most = most_bytes
        self._now = now
        self._lock = threading.Lock()
        self._size = 0
        self._looked = float("-inf")

    def check(self, size: Callable[[], int]) -> None:
        """Refuse a write where the database is too large.

        Args:
            size: asks etcd for it, in bytes.

        Raises:
            EtcdError: it is; nothing was written. Another voter has no more room than this one.
        """
        if self._newest(size) > self._most:
            raise EtcdError(
                f"the store has no room for servers without a vote: {self._size >> 20} MiB, and "
                f"the rest up to {QUOTA_BYTES >> 20} MiB is for the voters",
                "delete keys, and have an administrator defragment each voter's etcd",
            )

    def _newest(self, size: Callable[[], int]) -> int:
        with self._lock:
            due = self._now() - self._looked >= _LOOK_SECONDS
            if due:
                self._looked = self._now()
        if due:
            try:
                self._size = size()
            except CollectiveError as error:
                # The write itself will find out what is wrong with etcd.
                log.debug("the size of the store is not known: %s", error)
        return self._size
