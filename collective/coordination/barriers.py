"""Barriers: go on when so many are there, and again when all have gone.

Invariants:
  * Whoever waits goes on when as many were there *at one time*, though some of them have gone on
    already: it hears of each who came and went, in order.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from urllib.parse import quote

from collective.coordination.patience import Patience
from collective.coordination.session import Session
from collective.coordination.stored import FORMAT
from collective.errors import DeadlineError, InputError, RefusedError
from collective.store.store import Store
from collective.store.watching import Watch

SECONDS = 60.0
_TICK_SECONDS = 0.5


class Barrier:
    """A barrier for a number of parties; ``Collective.barrier`` makes one for one party."""

    def __init__(
        self, store: Store, name: str, parties: int, session: Callable[[], Session]
    ) -> None:
        """Name it; nothing is done yet.

        Raises:
            InputError: that is no number of parties.
        """
        if parties < 1:
            raise InputError(f"a barrier cannot be for {parties} parties, expected 1 or more")
        self._store = store
        self._name = name
        self._parties = parties
        self._session = session
        self._prefix = f"barriers/{quote(name, safe='')}/"
        self._key = ""
        self._entered: Session | None = None

    def enter(self, seconds: float = SECONDS, given_up: threading.Event | None = None) -> None:
        """Say that we are there, and wait until all are.

        Args:
            seconds: how long to wait.
            given_up: set by another thread where nobody waits any more.

        Raises:
            DeadlineError: not all came in time; we count no more.
            LeaseExpiredError: our session ended while we waited.
            RefusedError: we are there already.
        """
        if self._entered is not None:
            raise RefusedError(f"this party is at barrier {self._name} already")
        session = self._session()
        key = self._prefix + secrets.token_hex(8)
        text = json.dumps({"format": FORMAT, "name": session.name})
        patience = Patience(seconds, given_up)
        with self._store.watch(self._prefix, initial=True) as watch:
            try:
                self._store.put(key, text.encode(), lease=session.lease)
                self._wait(watch, lambda there: len(there) >= self._parties, session, patience)
            except BaseException:
                session.give_up(key, in_doubt=True)
                raise
        self._key, self._entered = key, session

    def leave(self, seconds: float = SECONDS, given_up: threading.Event | None = None) -> None:
        """Say that we go, and wait until all have gone.

        Args:
            seconds, given_up: as for ``enter``.

        Raises:
            DeadlineError: not all went in time; we have.
            LeaseExpiredError: our session ended while we waited.
            RefusedError: we are not there.
        """
        session = self._entered
        if session is None:
            raise RefusedError(f"this party is not at barrier {self._name}")
        patience = Patience(seconds, given_up)
        with self._store.watch(self._prefix, initial=True) as watch:
            self._entered = None
            session.give_up(self._key)
            # Who is there when we go is waited for; who comes for the next time is not.
            self._wait(watch, lambda there: not there, session, patience)

    def _wait(
        self,
        watch: Watch,
        enough: Callable[[set[str]], bool],
        session: Session,
        patience: Patience,
    ) -> None:
        there: set[str] = set()
        while True:
            session.check()
            left = patience.left
            if not left:
                raise DeadlineError(
                    f"{len(there)} of {self._parties} parties were at barrier {self._name} when "
                    "time was up"
                )
            try:
                batch = watch.next_batch(min(left, _TICK_SECONDS))
            except DeadlineError:
                continue
            # Together: within the difference of two readings, who came is told before who went.
            there |= {event.key for event in batch if not event.is_deletion}
            there -= {event.key for event in batch if event.is_deletion}
            if enough(there):
                return
