"""A queue of contenders: the first one holds what all of them want.

Each has a key of its own, bound to its session; they stand in the order in which these keys were
created (the recipe of etcd's ``client/v3/concurrency``).

Invariants:
  * At one revision of the store, exactly one of those who stand there is first; whoever is first
    stays it until its key goes.
  * The number of a place (its *fencing token*, the revision at which it was created) is higher
    than that of any place that was first before. So no two places are made in one transaction,
    which a group commit would do.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from collective.coordination.patience import Patience
from collective.coordination.session import Session
from collective.coordination.stored import FORMAT, key_of, read_record
from collective.errors import (
    ClosedError,
    CollectiveError,
    DeadlineError,
    DegradedCollective,
    EtcdUnavailableError,
    InDoubtError,
    LeaseExpiredError,
    NotReachedError,
    QuorumError,
    StoreError,
)
from collective.model.keyspace import COORDINATION
from collective.store.store import Store
from collective.store.values import Aspect, Condition, Entry, Event, Outcome, Put, Read, absent
from collective.store.watching import Watch

#: How long ``Hold.release`` waits for etcd.
RELEASE_SECONDS = 2.0
_TICK_SECONDS = 0.5
# Of one question to etcd: longer ones are asked again, so that it is seen that nobody waits.
_LEAST_SECONDS, _TRY_SECONDS, _PAUSE_SECONDS = 0.05, 2.0, 0.05
# For a place that was not first; what takes longer goes on behind its caller's back.
_LEAVE_SECONDS = 0.15
_PLACE_LENGTH = 16

T = TypeVar("T")
#: Opens or returns a session; gets how many seconds that may take.
OpenSession = Callable[[float], Session]


@dataclass(frozen=True)
class Contender:
    """One who stands in a queue.

    Attributes:
        name: of its server.
        value: what it says of itself.
        token: the number of its place.
    """

    name: str
    value: str
    token: int


class Hold:
    """A place in a queue that is first, or was."""

    def __init__(self, session: Session, key: str, token: int) -> None:
        """Made by ``Lock.acquire`` and ``Election.campaign``."""
        self._session = session
        self._key = key
        self._released = False
        self.token = token

    @property
    def key(self) -> str:
        """The key of the place."""
        return self._key

    @property
    def fence(self) -> Condition:
        """The condition that it is held, for ``when=`` of a write: so nobody writes too late."""
        return Condition(self._key, Aspect.CREATED, self.token, space=COORDINATION)

    @property
    def is_held(self) -> bool:
        """Whether it is held, as far as this server can tell; ``fence`` is what is certain."""
        if self._released or not self._session.is_held:
            return False
        entry = self._session.store.held.entry(self._key)
        return entry is not None and entry.created == self.token

    def check(self) -> None:
        """Raise unless it is held.

        Raises:
            LeaseExpiredError: it is not: it was released, or its session has ended.
        """
        self._session.check()
        if not self.is_held:
            raise LeaseExpiredError("it is held no more: it was released, or taken away")

    def release(self, seconds: float = RELEASE_SECONDS) -> None:
        """Let the next one have it.

        Args:
            seconds: how long to wait for etcd; should it not answer, it is done when it does.
        """
        if not self._released:
            self._released = True
            self._session.give_up(self._key, seconds)


class LockQueue:
    """One queue."""

    def __init__(self, store: Store, kind: str, name: str) -> None:
        """Name it; nothing is done yet.

        Args:
            store: where the keys of coordination lie.
            kind: such as ``locks``.
            name: any text that fits into a key.

        Raises:
            InputError: it does not.
        """
        self._store = store
        self._what = f"{kind[:-1]} {name}"
        self._prefix = key_of(kind, name, _PLACE_LENGTH)

    def take(
        self,
        session: OpenSession,
        value: str,
        seconds: float,
        given_up: threading.Event | None = None,
    ) -> Hold:
        """Stand in the queue, and wait to be first.

        Args:
            session: in which we stand there.
            value: what the others are told of us.
            seconds: how long to wait.
            given_up: set where nobody wants it any more, None for never.

        Raises:
            DeadlineError: others were before us all the time; we stand there no more.
            LeaseExpiredError: the session has ended.
            DegradedCollective, NotReachedError, InDoubtError: the place could not be taken.
        """
        hold = self._taken(session, value, Patience(seconds, given_up), waits=True)
        assert hold is not None
        return hold

    def take_if_free(self, session: OpenSession, value: str, seconds: float) -> Hold | None:
        """Stand in the queue if nobody else does, see ``take``; None where somebody does."""
        return self._taken(session, value, Patience(seconds), waits=False)

    def _taken(
        self, session: OpenSession, value: str, patience: Patience, waits: bool
    ) -> Hold | None:
        ours = self._insistently(session, patience)
        hold = Hold(ours, self._prefix + secrets.token_hex(_PLACE_LENGTH // 2), 0)
        first = False
        try:
            self._stand(hold, ours, value, patience)
            first = self._wait(hold, ours, patience, waits)
        finally:
            if not first:
                hold.release(_LEAVE_SECONDS)
        return hold if first else None

    def _insistently(self, ask: Callable[[float], T], patience: Patience) -> T:
        """Ask etcd for something, again while it does not answer and somebody waits.

        Args:
            ask: gets how many seconds it may take.
        """
        while True:
            try:
                return ask(min(max(patience.left, _LEAST_SECONDS), _TRY_SECONDS))
            except (StoreError, QuorumError, EtcdUnavailableError) as error:
                if isinstance(error, (LeaseExpiredError, ClosedError)):
                    raise
                if not patience.left:
                    raise self._not_had(error) from error
            pause = threading.Event()
            pause.wait(min(patience.left, _PAUSE_SECONDS))

    def _not_had(self, error: CollectiveError) -> CollectiveError:
        """Return the error of somebody who has waited in vain for etcd."""
        if isinstance(error, (InDoubtError, NotReachedError)):
            return error
        return DegradedCollective(
            f"{self._what} is not held: {error.message}", "see 'collective show' on this server"
        )

    def contenders(self) -> list[Contender]:
        """Return all who stand there, the first one first."""
        return [_contender(entry) for entry in self._in_order()]

    def first(self) -> Contender | None:
        """Return who is first, as this server sees it; None for nobody."""
        return _first(self._in_order())

    def on_first_change(self, callback: Callable[[Contender | None], object]) -> Watch:
        """Have something called with whoever is first, if anybody is, and at each change."""
        standing: dict[str, Entry] = {}
        last: list[Contender | None] = []

        def hear(batch: list[Event]) -> None:
            for event in batch:
                standing.pop(event.key, None)
                if event.entry is not None:
                    standing[event.key] = event.entry
            first = _first(standing.values())
            if not last or last[0] != first:
                last[:] = [first]
                callback(first)

        watch = self._store.watch(self._prefix, initial=True)
        self._store.held.call_batches(watch, hear)
        return watch

    def _stand(self, hold: Hold, session: Session, value: str, patience: Patience) -> None:
        """Take a place; what was in doubt is looked up."""
        key = hold.key
        text = json.dumps({"format": FORMAT, "name": session.name, "value": value}).encode()

        def stand(seconds: float) -> Outcome:
            session.check()
            put = Put(key, text, session.lease.id)
            return self._store.txn(
                (absent(key),), (put,), (Read(key),), alone=True, seconds=seconds
            )

        outcome = self._insistently(stand, patience)
        found = outcome.results[0]
        hold.token = found.created if isinstance(found, Entry) else outcome.revision

    def _wait(self, hold: Hold, session: Session, patience: Patience, waits: bool) -> bool:
        """Wait to be first; tell whether we are, where we do not wait for others."""
        with self._store.watch(self._prefix) as watch:
            while True:
                session.check()
                standing = self._insistently(partial(self._in_order, hold.token), patience)
                if standing and standing[0].key == hold.key:
                    return True
                if not waits:
                    return False
                left = patience.left
                if not left:
                    before = _contender(standing[0]).name if standing else "nobody"
                    raise DeadlineError(f"{before} holds {self._what}, and did not give it up")
                try:
                    watch.next_event(min(left, _TICK_SECONDS))
                    watch.take()
                except DeadlineError:
                    continue

    def _in_order(self, at_least: int = 0, seconds: float = _TICK_SECONDS) -> list[Entry]:
        entries = self._store.range(self._prefix, at_least=at_least, seconds=seconds).entries
        return sorted(entries, key=lambda entry: entry.created)


def _first(entries: Iterable[Entry]) -> Contender | None:
    entry = min(entries, key=lambda entry: entry.created, default=None)
    return None if entry is None else _contender(entry)


def _contender(entry: Entry) -> Contender:
    return read_record(
        entry.key,
        entry.value,
        lambda raw: Contender(str(raw["name"]), str(raw["value"]), entry.created),
    )
