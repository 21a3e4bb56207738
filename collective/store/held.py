"""What this server holds of the store: read at once, watched, and waited for.

The store for threads and the one for asyncio read here; who has seen what is their affair.

Invariants:
  * Nothing here waits, or asks etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from collective.errors import CollectiveError, DeadlineError, NotReadyError
from collective.etcd.follower import Follower
from collective.model.closing import closed_handle
from collective.model.keyspace import check_key, check_prefix
from collective.store.cache import Cache
from collective.store.values import Entry, Event, Moment
from collective.store.watching import Callback, Hub, Watch, WhenEnded


class Range(NamedTuple):
    """Entries by key, all at one revision."""

    revision: int
    entries: list[Entry]


class Held:
    """The copy in memory, and those who are told of what changes in it."""

    def __init__(self, cache: Cache, follower: Follower, hub: Hub) -> None:
        self._cache = cache
        self._follower = follower
        self._hub = hub
        self._closed = self._forked = False
        #: The moment that is held here, and how others compare with it.
        self.timeline = cache.timeline

    @property
    def revision(self) -> int:
        """The revision that is held; 0 before the first reading."""
        return self._cache.revision

    @property
    def is_following(self) -> bool:
        """Whether changes arrive as they happen, as far as this server can tell."""
        return self._follower.is_following

    @property
    def failure(self) -> CollectiveError | None:
        """Why nothing is heard from etcd now, None where something is."""
        return self._follower.failure

    # Reading -----------------------------------------------------------------------------------

    def get(self, key: str, default: bytes | None = None) -> bytes | None:
        """Return the value of a key."""
        found = self._cache.entries.get(key)
        if found is None:
            check_key(key)
            self.check_ready()
            return default
        return found.value

    def entry(self, key: str) -> Entry | None:
        """Return a key with its revisions."""
        found = self._cache.entries.get(key)
        if found is None:
            check_key(key)
            self.check_ready()
        return found

    def range(self, prefix: str) -> Range:
        """Return the keys with a prefix."""
        check_prefix(prefix)
        self.check_ready()
        return Range(*self._cache.snapshot(prefix))

    def lease_of(self, key: str) -> int:
        """Return the lease that a key has; 0 for none."""
        found = self._cache.entries.get(key)
        return 0 if found is None else found.lease

    # Watching ----------------------------------------------------------------------------------

    def open_watch(self, prefix: str, initial: bool, limit: int, seen: Moment) -> Watch:
        """Open a watch that nobody is called for, see ``Store.watch``.

        Args:
            prefix, initial, limit: as there.
            seen: without ``initial``, what is told came later than this.
        """
        check_prefix(prefix)
        self.check_ready()
        watch = Watch(self._hub, prefix, limit)

        def begin(at: int, entries: Mapping[str, Entry]) -> None:
            after = seen.revision if seen.cluster == self._cache.cluster else 0
            self._hub.open(watch, at, entries, initial, after)

        self._cache.locked(begin)
        return watch

    def call(self, watch: Watch, callback: Callback, when_ended: WhenEnded | None = None) -> None:
        """Have something called with each event of a watch, see ``Store.watch``."""
        self._hub.call(watch, callback, when_ended)

    def call_batches(self, watch: Watch, callback: Callable[[list[Event]], object]) -> None:
        """Have something called with the events that came at once, see ``Watch.next_batch``."""
        self._hub.call_batches(watch, callback)

    # Waiting -----------------------------------------------------------------------------------

    def reach(self, moment: Moment, seconds: float) -> bool:
        """Wait until a moment is reached; return whether it is."""
        return self._cache.reach(moment, seconds)

    def when_reached(self, moment: Moment, call: Callable[[], object]) -> Callable[[], None]:
        """Have something called once, when a moment is reached; returns what forgets it."""
        self.check_open()
        return self._cache.when_reached(moment, call)

    def not_heard(self, moment: Moment, seconds: float) -> CollectiveError:
        """Return the error of a read for which a moment did not come in time."""
        if self._closed:
            return closed_handle(self._forked)
        why = self._follower.failure
        # Should its stream be dead without a sign, it is begun again.
        self._follower.renew_if_silent()
        return DeadlineError(
            f"this server holds revision {self._cache.revision}, and did not hear of "
            f"{moment.revision} in {seconds:g} s" + (f": {why.message}" if why else "")
        )

    # Its end -----------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise a ClosedError where the handle was closed."""
        if self._closed:
            raise closed_handle(self._forked)

    def check_ready(self) -> None:
        """Raise unless everything was read once.

        Raises:
            NotReadyError, ClosedError: it was not, or the handle was closed.
        """
        self.check_open()
        if not self._cache.revision:
            why = self._follower.failure
            raise NotReadyError(
                "nothing was read from the store yet" + (f": {why.message}" if why else ""),
                "wait with Collective.wait_until_ready, or see 'collective show'",
            )

    def mark_closed(self) -> None:
        """Open no watch, and wait for nothing, any more; what is held can be read still."""
        self._closed = True

    def close(self) -> None:
        """Answer nothing any more."""
        self._closed = True
        self._cache.close()

    def after_fork(self) -> None:
        """Be closed, in a child process."""
        self._closed = self._forked = True
        self._cache.after_fork()
