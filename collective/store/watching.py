"""Watches: what has changed, told to any number of readers out of one stream.

It does not read from etcd; the cache hands on what it took.

Invariants:
  * A watch tells each change of its keys once, in order, from the revision on at which it began.
  * What one reader does never holds up another, or the stream. A watch that is not read keeps
    so many events and bytes at most; then it ends, and its reader is told so.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from collective.errors import ClosedError, CollectiveError, DeadlineError, SlowReaderError
from collective.model.closing import Closing
from collective.store.deadline import bounded
from collective.store.runner import Runner
from collective.store.values import Entry, Event

log = logging.getLogger(__name__)

#: Events that a watch keeps for its reader, and bytes of values in them.
MOST_EVENTS = 100_000
MOST_BYTES = 64 << 20
# So many in one go, so that a busy watch with a callback does not keep its thread for itself.
_AT_ONCE = 256

T = TypeVar("T")
Callback = Callable[[Event], object]
WhenEnded = Callable[[CollectiveError], object]


class Watch(Closing):
    """The changes of the keys with one prefix, for one reader.

    Iterate over it, or call ``next_event``, from one thread at a time; or give it a callback.

    Attributes:
        prefix: of the keys.
        revision: at which it began: what came later is told.
        after: what is told has a later revision than this, too.
    """

    def __init__(self, hub: Hub, prefix: str, limit: int) -> None:
        """Made by ``Store.watch``."""
        self.prefix = prefix
        self.revision = 0
        self.after = 0
        self._hub = hub
        self._limit = limit
        self._changed = threading.Condition(threading.Lock())
        self._events: deque[Event] = deque()
        # How many of them, in this order, came at once.
        self._batches: deque[int] = deque()
        self._room = MOST_BYTES
        self._error: CollectiveError | None = None
        self._wake: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they come, until the watch is closed.

        Raises:
            SlowReaderError: too many were not read; the watch has ended.
        """
        while True:
            try:
                yield self.next_event()
            except ClosedError:
                return

    @property
    def error(self) -> CollectiveError | None:
        """Why the watch has ended, None while it goes on."""
        return self._error

    def next_event(self, seconds: float | None = None) -> Event:
        """Return the next event, and wait for it.

        Args:
            seconds: how long; None for as long as it takes.

        Raises:
            DeadlineError: there was none in time; the watch goes on.
            SlowReaderError: too many were not read; the watch has ended.
            ClosedError: the watch was closed.
        """
        with self._changed:
            self._await_event(seconds)
            return self._pop()

    def next_batch(self, seconds: float | None = None) -> list[Event]:
        """Return the next events that came at once, and wait for them.

        That is what changed at one revision. What is there at the beginning is one batch, and
        so is the difference between two readings, whose events are in no order.

        Args:
            seconds: as for ``next_event``, and so are the errors.
        """
        with self._changed:
            self._await_event(seconds)
            return self._pop_batch()

    def take(self, most: int = _AT_ONCE) -> list[Event]:
        """Return events that are there already, so many at most; none when there are none.

        Raises:
            SlowReaderError, ClosedError: as for ``next_event``.
        """
        with self._changed:
            if not self._events and self._error is not None:
                raise self._error
            return [self._pop() for _ in range(min(most, len(self._events)))]

    def take_batch(self) -> list[Event]:
        """Return what ``next_batch`` does, if it is there already; none when there is none.

        Raises:
            SlowReaderError, ClosedError: as for ``next_event``.
        """
        with self._changed:
            if not self._events and self._error is not None:
                raise self._error
            return self._pop_batch()

    def _await_event(self, seconds: float | None) -> None:
        patience = None if seconds is None else bounded(seconds)
        if not self._changed.wait_for(lambda: self._events or self._error, patience):
            raise DeadlineError(f"nothing changed below {self.prefix!r} in {seconds:g} s")
        if not self._events:
            assert self._error is not None
            raise self._error

    def _pop(self) -> Event:
        event = self._events.popleft()
        self._room += _weight(event)
        self._batches[0] -= 1
        if not self._batches[0]:
            self._batches.popleft()
        return event

    def _pop_batch(self) -> list[Event]:
        return [self._pop() for _ in range(self._batches[0] if self._batches else 0)]

    def when_woken(self, wake: Callable[[], object]) -> None:
        """Have something called, quickly, whenever there may be something to take."""
        with self._changed:
            self._wake = wake
        wake()

    def close(self) -> None:
        """End the watch; what was not read is dropped."""
        self._hub.drop(self)
        self._end(ClosedError("the watch was closed"), drop=True)

    def add(self, events: Sequence[Event]) -> None:
        """Take what has changed; the hub calls this."""
        if self.after:
            events = [event for event in events if event.revision > self.after]
        with self._changed:
            if self._error is not None or not events:
                return
            # What was not read before counts: one transaction may be larger than the limit.
            full = len(self._events) > self._limit or self._room < 0
            if not full:
                self._events.extend(events)
                self._batches.append(len(events))
                self._room -= sum(map(_weight, events))
                self._changed.notify()
        if full:
            self._hub.drop(self)
            self._end(
                SlowReaderError(
                    f"the watch of {self.prefix!r} has ended: it was not read while more changes "
                    f"came than it keeps, {self._limit} or {MOST_BYTES >> 20} MiB",
                    "read faster, or open it again with initial=True",
                ),
                drop=True,
            )
            return
        self._tell()

    def after_fork(self, error: CollectiveError) -> None:
        """Have ended in a child process."""
        self._changed, self._wake = threading.Condition(threading.Lock()), lambda: None
        self._end(error)

    def _tell(self) -> None:
        try:
            self._wake()
        except Exception:
            # Whoever is to be woken is gone; those after it are not.
            log.exception("a reader could not be woken prefix=%s", self.prefix)

    def _end(self, error: CollectiveError, drop: bool = False) -> None:
        with self._changed:
            self._error = self._error or error
            if drop:
                self._events.clear()
                self._batches.clear()
            self._changed.notify_all()
        self._tell()


class Hub:
    """All watches of one cache."""

    def __init__(self, runner: Runner) -> None:
        """Prepare.

        Args:
            runner: runs callbacks.
        """
        self._runner = runner
        self._lock = threading.Lock()
        self._by_prefix: dict[str, list[Watch]] = {}
        self._lengths: tuple[int, ...] = ()

    def publish(self, events: Sequence[Event]) -> None:
        """Hand changes on to whom they concern; in order, from one thread at a time."""
        if not events:
            return
        with self._lock:
            if not self._by_prefix:
                return
            told: dict[Watch, list[Event]] = {}
            for event in events:
                for length in self._lengths:
                    for watch in self._by_prefix.get(event.key[:length], ()):
                        # A key that is shorter than the prefix has itself as its beginning.
                        if len(event.key) >= length:
                            told.setdefault(watch, []).append(event)
        for watch, each in told.items():
            watch.add(each)

    def open(
        self,
        watch: Watch,
        revision: int,
        entries: Mapping[str, Entry],
        initial: bool,
        after: int = 0,
    ) -> None:
        """Begin to tell a watch, from a revision on.

        Args:
            watch: to tell.
            revision, entries: of the cache, which stands still meanwhile.
            initial: whether to tell what is there already, first.
            after: without ``initial``, a revision from which on to tell, if it is a later one.
        """
        watch.revision = revision
        watch.after = 0 if initial or after <= revision else after
        if initial:
            there = [entry for key, entry in entries.items() if key.startswith(watch.prefix)]
            there.sort(key=lambda entry: entry.key)
            # What is there at the beginning is bounded by what the cache holds anyway.
            first = [Event(entry.key, entry, None, entry.revision) for entry in there]
            watch._limit += len(there)
            watch._room += sum(map(_weight, first))
            watch.add(first)
        with self._lock:
            self._by_prefix.setdefault(watch.prefix, []).append(watch)
            self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}))

    def move(self) -> None:
        """Note that another cluster is followed now: its revisions are others."""
        with self._lock:
            for watches in self._by_prefix.values():
                for watch in watches:
                    watch.after = 0

    def call(self, watch: Watch, callback: Callback, when_ended: WhenEnded | None) -> None:
        """Have a callback called with each event, in order, one at a time.

        Args:
            watch: whose events.
            callback: what it raises is logged, and the next event follows.
            when_ended: gets the error, should the watch end by itself.
        """
        self._call(watch, watch.take, lambda event: event.key, callback, when_ended)

    def call_batches(self, watch: Watch, callback: Callable[[list[Event]], object]) -> None:
        """Have a callback called with the events that came at once, see ``Watch.next_batch``."""
        self._call(
            watch,
            lambda: [batch] if (batch := watch.take_batch()) else [],
            lambda batch: batch[0].key,
            callback,
            None,
        )

    def _call(
        self,
        watch: Watch,
        take: Callable[[], list[T]],
        name: Callable[[T], str],
        callback: Callable[[T], object],
        when_ended: WhenEnded | None,
    ) -> None:
        told = threading.Event()

        def some() -> bool:
            try:
                pieces = take()
            except ClosedError:
                return False
            except CollectiveError as error:
                if not told.is_set():
                    told.set()
                    log.error("%s", error)
                    if when_ended is not None:
                        when_ended(error)
                return False
            for piece in pieces:
                if watch.error is not None:
                    break
                try:
                    callback(piece)
                except BaseException:  # not even SystemExit ends what others count on
                    log.exception("a callback failed key=%s", name(piece))
            return bool(pieces)

        watch.when_woken(self._runner.line(some).wake)

    def drop(self, watch: Watch) -> None:
        """Tell a watch nothing more."""
        with self._lock:
            watches = self._by_prefix.get(watch.prefix, [])
            if watch in watches:
                watches.remove(watch)
                if not watches:
                    del self._by_prefix[watch.prefix]
                    self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}))

    def close(self, error: CollectiveError) -> None:
        """End all watches; what they still have can be read."""
        with self._lock:
            watches = [watch for each in self._by_prefix.values() for watch in each]
            self._by_prefix.clear()
            self._lengths = ()
        for watch in watches:
            watch._end(error)

    def after_fork(self, error: CollectiveError) -> None:
        """End all watches in a child process, whose threads are the parent's."""
        self._lock = threading.Lock()
        for watch in [watch for each in self._by_prefix.values() for watch in each]:
            watch.after_fork(error)


def _weight(event: Event) -> int:
    return 0 if event.entry is None else len(event.entry.value)
