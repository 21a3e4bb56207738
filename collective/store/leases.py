"""Leases: keys that end with their writer, unless it says in time that it lives.

Invariants:
  * Whoever holds a lease takes it for lost before etcd does: its time counts from before the
    request that prolonged it last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from collective.errors import (
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    InputError,
    LeaseExpiredError,
)
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within
from collective.model.closing import Closing
from collective.model.lease_ids import COLLECTIVE

log = logging.getLogger(__name__)

LEAST_SECONDS = 2
MOST_SECONDS = 9_000_000_000
_PARTS = 3
_AGAIN_SECONDS = 0.1
_LEAST_CALL_SECONDS = 0.2


def check_seconds(seconds: int) -> None:
    """Refuse what is no time to live.

    Raises:
        InputError: it is none.
    """
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS or seconds != int(seconds):
        raise InputError(
            f"a lease cannot live {seconds} s, expected a whole number of seconds from "
            f"{LEAST_SECONDS} on"
        )


class Lease(Closing):
    """One lease, kept alive by a thread until it is closed or lost.

    Attributes:
        id: for ``lease=`` of a write.
        seconds: its time to live.
    """

    def __init__(
        self, calls: EtcdApi, seconds: int, deadline: float, owner: str = COLLECTIVE
    ) -> None:
        """Open it; made by ``Store.lease``.

        Args:
            calls: the way to etcd.
            seconds: its time to live.
            deadline: for opening it, seconds from now.
            owner: this server: through a voter nobody else may use it.

        Raises:
            InputError: the time to live is none.
            EtcdError: it could not be opened.
        """
        check_seconds(seconds)
        self.seconds = int(seconds)
        self._calls = calls
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._lost: CollectiveError | None = None
        self._when_lost: list[Callable[[], object]] = []
        begun = monotonic()
        with within(deadline):
            self.id = calls.grant_lease(self.seconds, owner)
        self._ends = begun + seconds
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether it has certainly not ended yet, by this server's clock."""
        return not self._ended.is_set() and monotonic() < self._ends

    @property
    def remaining(self) -> float:
        """For how many seconds it is certainly held, if it is not prolonged."""
        return 0.0 if self._ended.is_set() else max(0.0, self._ends - monotonic())

    def check(self) -> None:
        """Raise unless it is held.

        Raises:
            LeaseExpiredError: it was lost, or closed.
        """
        if not self.is_held:
            why = "it was closed, or not prolonged in time"
            if self._lost is not None:
                why = self._lost.message
            raise LeaseExpiredError(f"the lease of {self.seconds} s has ended: {why}")

    def when_lost(self, call: Callable[[], object]) -> None:
        """Have something called once if it is lost, not if it is closed; at once if it was."""
        with self._lock:
            if self._lost is None:
                self._when_lost.append(call)
                return
        call()

    def close(self, seconds: float = 2.0) -> None:
        """End it, and with it all keys that are bound to it."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        try:
            with within(seconds):
                self._calls.call("/lease/revoke", {"ID": str(self.id)})
        except CollectiveError as error:
            log.info("a lease ends by itself in %d s: %s", self.seconds, error)

    def abandon(self) -> None:
        """Prolong it no more, so that it ends by itself."""
        self._ended.set()

    def after_fork(self) -> None:
        """Have ended in a child process: it is its parent's."""
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._ended.set()

    def _keep(self) -> None:
        pause = self.seconds / _PARTS
        while not self._ended.wait(pause):
            begun = monotonic()
            left = self._ends - begun
            if left <= 0:
                self._lose(LeaseExpiredError("it could not be prolonged in time"))
                return
            try:
                # Not the pause: after a failure that is short, and etcd may be far away.
                with within(max(min(left, self.seconds / _PARTS), _LEAST_CALL_SECONDS)):
                    lives = self._calls.prolong_lease(self.id)
            except EtcdUnavailableError as error:
                log.debug("a lease could not be prolonged: %s", error)
                pause = _AGAIN_SECONDS
                continue
            except EtcdError as error:
                self._lose(error)
                return
            except Exception:
                # Whatever it is, others count on this thread.
                log.exception("a lease could not be prolonged")
                pause = _AGAIN_SECONDS
                continue
            if monotonic() > self._ends:
                # It was taken for lost already; that it still lived helps nobody.
                self._lose(LeaseExpiredError("it was prolonged too late"))
                return
            if not lives:
                self._lose(LeaseExpiredError("etcd does not know it any more"))
                return
            self._ends, pause = begun + self.seconds, self.seconds / _PARTS

    def _lose(self, why: CollectiveError) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._lost = why
            self._ended.set()
            calls, self._when_lost = self._when_lost, []
        log.warning("a lease of %d s is lost: %s", self.seconds, why)
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("a callback failed")
