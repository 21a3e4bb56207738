"""All keys of the store in memory, at one revision: what reads are answered from.

It does not talk to etcd: ``follower`` brings readings and events, in their order.

Invariants:
  * A snapshot has the whole of a revision: what one transaction wrote appears in it at once.
  * Within one cluster the revision never goes down.
  * Each change that was seen is told to the listener once, in order, before the revision is the
    one that ``reach`` reports.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from collective.etcd.requests import prefix_end
from collective.store.timeline import Timeline
from collective.store.values import Entry, Event, Moment

log = logging.getLogger(__name__)

# So many new or lost keys are put in their places one by one; with more all are sorted again.
_MOST_PLACED = 64

#: Gets what changed at one revision, or between two readings, in order, under the lock of the
#: cache: it must be quick, and must not read.
Listener = Callable[[Sequence[Event]], None]

_Waiting = tuple[Moment, Callable[[], object]]


class Cache:
    """The keys, and whoever waits for a revision of them."""

    def __init__(self, listener: Listener, when_moved: Callable[[], None] = lambda: None) -> None:
        """Hold nothing yet.

        Args:
            listener: gets what changed.
            when_moved: called before it, where all is of another cluster now.
        """
        self._listener = listener
        self._when_moved = when_moved
        # Readers use this mapping without the lock; each of them looks at it once.
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] | None = None
        self._at = Timeline()
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[_Waiting] = []
        self._closed = False

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All entries by key; it changes under its reader."""
        return self._entries

    @property
    def revision(self) -> int:
        """The revision of the store that is held here, 0 before the first reading."""
        return self._at.revision

    @property
    def cluster(self) -> int:
        """The id of etcd's cluster that the revision is one of, 0 before the first reading."""
        return self._at.cluster

    @property
    def timeline(self) -> Timeline:
        """The moment that is held here, to compare others with; it moves on under its reader."""
        return self._at

    def snapshot(self, prefix: str = "") -> tuple[int, list[Entry]]:
        """Return the revision and, by key, all entries with a prefix, at that revision."""
        with self._changed:
            if self._sorted is None:
                self._sorted = sorted(self._entries)
            keys = self._sorted
            begin = bisect_left(keys, prefix)
            end = bisect_left(keys, prefix_end(prefix)) if prefix else len(keys)
            return self._at.revision, [self._entries[key] for key in keys[begin:end]]

    def locked(self, call: Callable[[int, Mapping[str, Entry]], None]) -> None:
        """Call something with revision and entries, between two changes."""
        with self._changed:
            call(self._at.revision, self._entries)

    def close(self) -> None:
        """Hold nothing any more, and take nothing; whoever waits for a revision goes on."""
        with self._changed:
            self._closed = True
            self._entries, self._sorted = {}, None
            self._at.revision = 0
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        _call_all(call for _, call in waiting)

    def after_fork(self) -> None:
        """Hold nothing in a child process; a thread that is not there may have had the lock."""
        self._changed, self._waiting = threading.Condition(threading.RLock()), []
        self.close()

    def replace(self, cluster: int, revision: int, entries: Iterable[Entry]) -> bool:
        """Take a whole reading, and tell the listener how it differs from what was held.

        Args:
            cluster: the id of etcd's cluster.
            revision: at which all was read.
            entries: all there are.

        Returns:
            False when what is held is newer and was kept, or this is closed.
        """
        fresh = {entry.key: entry for entry in entries}
        with self._changed:
            if self._closed or (cluster == self._at.cluster and revision < self._at.revision):
                return False
            if self._at.is_move(cluster):
                self._when_moved()
            events = list(_difference(self._entries, fresh, revision))
            self._entries, self._sorted = fresh, None
            self._advance(cluster, revision, [events])
        return True

    def apply(self, revision: int, changes: Iterable[tuple[str, int, Entry | None]]) -> None:
        """Take changes, in order, that bring the store to a revision.

        Args:
            revision: of the last change.
            changes: key, revision and what is stored now; None for a deletion. What is known
                already is passed over.
        """
        with self._changed:
            if self._closed:
                return
            events: list[Event] = []
            for key, at, entry in changes:
                if at <= self._at.revision:
                    continue
                previous = self._entries.get(key)
                if entry is not None:
                    self._entries[key] = entry
                elif previous is not None:
                    del self._entries[key]
                else:
                    continue
                events.append(Event(key, entry, previous, at))
            self._sort_in([e for e in events if e.entry is None or e.previous is None])
            batches = [list(each) for _, each in groupby(events, key=attrgetter("revision"))]
            self._advance(self._at.cluster, max(revision, self._at.revision), batches)

    def reach(self, moment: Moment, seconds: float) -> bool:
        """Wait until all that there was at a moment is held here; False when it was in vain."""
        if not self._at.lacks(moment):
            return True
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._at.lacks(moment), max(seconds, 0.0)
            )
            return not self._closed and not self._at.lacks(moment)

    def when_reached(self, moment: Moment, call: Callable[[], object]) -> Callable[[], None]:
        """Have something called, once, when a moment is reached, or this is closed.

        Returns:
            What forgets it again.
        """
        waiting = (moment, call)
        with self._changed:
            if not self._closed and self._at.lacks(moment):
                self._waiting.append(waiting)
                return lambda: self._forget(waiting)
        call()
        return lambda: None

    def _forget(self, waiting: _Waiting) -> None:
        with self._changed:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _sort_in(self, events: Sequence[Event]) -> None:
        """Keep the sorted keys true to keys that came and went."""
        keys = self._sorted
        if keys is None or len(events) > _MOST_PLACED:
            self._sorted = None
            return
        for event in events:
            if event.entry is not None:
                insort(keys, event.key)
            else:
                del keys[bisect_left(keys, event.key)]

    def _advance(self, cluster: int, revision: int, batches: Sequence[Sequence[Event]]) -> None:
        for events in batches:
            self._listener(events)
        self._at.move_to(cluster, revision)
        self._changed.notify_all()
        ready = [call for moment, call in self._waiting if not self._at.lacks(moment)]
        if ready:
            self._waiting = [waiting for waiting in self._waiting if self._at.lacks(waiting[0])]
            _call_all(ready)


def _call_all(calls: Iterable[Callable[[], object]]) -> None:
    for call in calls:
        try:
            call()
        except Exception:
            log.exception("a revision could not be told")


def _difference(
    old: Mapping[str, Entry], new: Mapping[str, Entry], revision: int
) -> Iterable[Event]:
    """Yield what has changed between two readings, oldest first."""
    changed = [
        Event(key, entry, old.get(key), entry.revision)
        for key, entry in new.items()
        if key not in old or old[key].revision != entry.revision or old[key] != entry
    ]
    yield from sorted(changed, key=lambda event: event.revision)
    for key, entry in old.items():
        if key not in new:
            yield Event(key, None, entry, revision)
