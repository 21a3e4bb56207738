"""Locks and elections: one at a time, with a number that tells who came later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from collective.coordination.lock_queue import Contender, Hold, LockQueue, OpenSession
from collective.errors import RefusedError
from collective.store.store import Store
from collective.store.watching import Watch

#: How long to wait for a lock, if not said otherwise.
SECONDS = 60.0
#: How long to wait for etcd where nobody is waited for.
ANSWER_SECONDS = 5.0


class Lock:
    """A lock of the whole collective; ``Collective.lock`` makes one.

    ``with`` it, and write with ``when=(hold.fence,)``: a holder that was taken for dead, and was
    not, then writes nothing. Those who wait have it in the order in which they came.
    """

    def __init__(self, store: Store, name: str, session: OpenSession) -> None:
        """Name it; nothing is done yet."""
        self._places = LockQueue(store, "locks", name)
        self._session = session
        self._held: Hold | None = None

    def __enter__(self) -> Hold:
        if self._held is not None:
            raise RefusedError("this lock is held already, and is not re-entrant")
        self._held = self.acquire()
        return self._held

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def acquire(self, seconds: float = SECONDS, given_up: threading.Event | None = None) -> Hold:
        """Wait for the lock and hold it.

        Args:
            seconds: how long to wait.
            given_up: set by another thread where nobody waits for it any more; seen in half a
                second.

        Raises:
            DeadlineError: it was not to be had in time; the text names its holder.
            LeaseExpiredError: the session ended while we waited.
            DegradedCollective, NotReachedError, InDoubtError: there was no quorum to give it, all
                the time; a leader that is lost meanwhile is waited for.
        """
        return self._places.take(self._session, "", seconds, given_up)

    def try_acquire(self, seconds: float = ANSWER_SECONDS) -> Hold | None:
        """Hold the lock if it is free, else return None.

        Args:
            seconds: how long to wait for etcd to say so; for no other holder.

        Raises:
            As for ``acquire``, but for DeadlineError.
        """
        return self._places.take_if_free(self._session, "", seconds)

    def holder(self) -> Contender | None:
        """Return who holds it, as this server sees it; None for nobody."""
        return self._places.first()


class Election:
    """An election among servers; ``Collective.election`` makes one."""

    def __init__(self, store: Store, name: str, session: OpenSession) -> None:
        """Name it; nothing is done yet."""
        self._places = LockQueue(store, "elections", name)
        self._session = session

    def campaign(
        self,
        value: str = "",
        seconds: float = SECONDS,
        given_up: threading.Event | None = None,
    ) -> Hold:
        """Wait until we lead; ``release`` what is returned to resign.

        Args:
            value: what the others are told of us.
            seconds, given_up: as for ``Lock.acquire``.

        Raises:
            As for ``Lock.acquire``.
        """
        return self._places.take(self._session, value, seconds, given_up)

    def leader(self) -> Contender | None:
        """Return who leads, as this server sees it; None for nobody."""
        return self._places.first()

    def candidates(self) -> list[Contender]:
        """Return all who stand, the leader first."""
        return self._places.contenders()

    def on_change(self, callback: Callable[[Contender | None], object]) -> Watch:
        """Have something called with the leader, if there is one, and at each change, in order."""
        return self._places.on_first_change(callback)
