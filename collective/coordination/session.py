"""A process, as the others see it: a lease that ends when the process is gone.

Invariants:
  * What is bound to a session ends with it, and the session's holder takes it for lost before
    the others do.
  * A key that its holder gave up goes, now or as soon as etcd answers: it is never left to block
    others while the session lives.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from collective.errors import CollectiveError, InputError, LeaseExpiredError
from collective.model.closing import Closing
from collective.store.leases import Lease
from collective.store.store import Store

log = logging.getLogger(__name__)

#: How long a session outlives a process that was killed, if not said otherwise.
SECONDS = 10
_DELETE_SECONDS = 2.0
_AGAIN_SECONDS = 0.5
_CLOSE_SECONDS = 2.0


class Session(Closing):
    """Open it with ``Collective.session``; ``close`` it, or use it as a context manager.

    Attributes:
        name: of the server.
        lease: that it is.
    """

    def __init__(self, store: Store, name: str, seconds: int, deadline: float) -> None:
        """Open it.

        Args:
            store: where the keys of coordination lie.
            name: of this server.
            seconds: how long it outlives this process.
            deadline: for opening it, in seconds.
        """
        self.name = name
        self.store = store
        self.lease: Lease = store.lease(seconds, deadline=deadline)
        self._lock = threading.Lock()
        self._left: set[str] = set()  # keys to delete
        self._sweeper: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def is_held(self) -> bool:
        """Whether the others certainly still count this process as there."""
        return self.lease.is_held

    def check(self) -> None:
        """Raise unless it is held.

        Raises:
            LeaseExpiredError: it was lost, or closed.
        """
        if not self.is_held:
            raise LeaseExpiredError(
                f"the session of {self.lease.seconds} s on {self.name} has ended, and with it all "
                "that was held in it",
                "open a new one",
            )

    def when_lost(self, call: Callable[[], object]) -> None:
        """Have something called once if it is lost, not if it is closed."""
        self.lease.when_lost(call)

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """End it, and with it all that is bound to it.

        Args:
            seconds: how long to wait for etcd; it ends by itself else, when its time is up.
        """
        self._closed.set()
        if seconds > 0:
            self.lease.close(seconds)
        else:
            self.lease.abandon()

    def abandon(self) -> None:
        """Prolong it no more, so that it ends by itself, when its time is up."""
        self._closed.set()
        self.lease.abandon()

    def give_up(self, key: str, seconds: float = _DELETE_SECONDS) -> None:
        """Delete a key of this session, now or as soon as that is possible.

        Where a write of it is in doubt, that is ended first (``store.write_batcher``): it does
        not come after the deletion.

        Args:
            key: to delete.
            seconds: how long to wait for it; it goes on behind the caller's back then.
        """
        try:
            self.store.delete(key, seconds=seconds)
            return
        except InputError:
            return  # it is none, so it was never written
        except CollectiveError as error:
            log.info("a key is deleted later: %s key=%s", error, key)
        with self._lock:
            self._left.add(key)
            if self._sweeper is None:
                sweeper = threading.Thread(target=self._sweep, name="session-sweeper", daemon=True)
                sweeper.start()
                self._sweeper = sweeper

    def _sweep(self) -> None:
        """Delete what is to go, until the session ends and it goes anyway."""
        while self.is_held and not self._closed.wait(_AGAIN_SECONDS):
            with self._lock:
                left = set(self._left)
                if not left:
                    self._sweeper = None
                    return
            for key in left:
                try:
                    self.store.delete(key, seconds=_DELETE_SECONDS)
                except CollectiveError as error:
                    log.debug("a key is deleted later: %s key=%s", error, key)
                    continue
                with self._lock:
                    self._left.discard(key)
