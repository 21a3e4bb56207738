"""What the members of a collective share: keys and values, read from memory, written as one.

It is the face of the package for threads: what is held here answers reads and tells changes, the
batchers ask etcd.

Invariants:
  * A thread, or an asyncio task, reads what it wrote itself, and never what is older than what
    it read linearizably.
  * Every call has a deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from time import monotonic
from typing import Any
from weakref import WeakSet

from collective.errors import (
    ConflictError,
    DeadlineError,
    InDoubtError,
    LeaseExpiredError,
)
from collective.etcd.api import EtcdApi
from collective.etcd.follower import Follower
from collective.model.keyspace import STORE
from collective.store import requests
from collective.store.cache import Cache
from collective.store.deadline import bounded, deadline_in
from collective.store.held import Held, Range
from collective.store.leases import Lease
from collective.store.loading import Progress, load
from collective.store.read_batcher import ReadBatcher
from collective.store.values import (
    NEVER,
    Condition,
    Entry,
    Moment,
    Operation,
    Outcome,
    Transaction,
)
from collective.store.watching import MOST_EVENTS, Callback, Hub, Watch, WhenEnded
from collective.store.write_batcher import WriteBatcher

#: Deadline of a call that names none.
SECONDS = 5.0
# For all leases together, when the handle is closed; what is left ends by itself.
_LEASES_SECONDS = 3.0


class Store:
    """The shared keys. Keys are text, values are bytes.

    Made by ``collective.connect``; usable from any thread.
    """

    def __init__(
        self,
        calls: EtcdApi,
        cache: Cache,
        follower: Follower,
        write_batcher: WriteBatcher,
        hub: Hub,
        read_batcher: ReadBatcher,
        space: str = STORE,
        *,
        owner: str,
    ) -> None:
        self._calls = calls
        self._owner = owner
        self._cache = cache
        self.held = Held(cache, follower, hub)
        self.write_batcher = write_batcher
        self.read_batcher = read_batcher
        self._space = space
        self._leases: WeakSet[Lease] = WeakSet()
        self._leases_lock = threading.Lock()
        # What this thread or task has seen, and the least revision of the cache with which a read
        # need not look closer: a lookup costs less than a microsecond.
        self._seen: ContextVar[tuple[int, Moment]] = ContextVar("seen", default=(0, NEVER))

    # Reading ---------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The revision of the store that reads are answered from; 0 before the first reading."""
        return self.held.revision

    @property
    def is_following(self) -> bool:
        """Whether changes arrive as they happen, as far as this server can tell."""
        return self.held.is_following

    def get(
        self,
        key: str,
        default: bytes | None = None,
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> bytes | None:
        """Return the value of a key.

        Args:
            key: its name.
            default: what to return where there is no such key.
            at_least: a revision that the answer has to have in it: wait for it.
            linearizable: whether the answer has to have all writes in it that were acknowledged
                anywhere before the call; it costs a question to a quorum.
            seconds: deadline, where the call has to wait.

        Raises:
            InputError: it is no key.
            DeadlineError: this server did not hear of the revision in time.
            DegradedCollective: with ``linearizable``, there is no quorum.
            NotReadyError, ClosedError: nothing was read yet, or the handle was closed.
        """
        if at_least or linearizable or self._seen.get()[0] > self._cache.revision:
            self._catch_up(at_least, linearizable, seconds)
        return self.held.get(key, default)

    def entry(
        self,
        key: str,
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> Entry | None:
        """Return a key with its revisions, or None; arguments and errors are those of ``get``."""
        if at_least or linearizable or self._seen.get()[0] > self._cache.revision:
            self._catch_up(at_least, linearizable, seconds)
        return self.held.entry(key)

    def range(
        self,
        prefix: str = "",
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> Range:
        """Return all keys with a prefix, at one revision, in their order.

        Arguments and errors are those of ``get``.
        """
        if at_least or linearizable or self._seen.get()[0] > self._cache.revision:
            self._catch_up(at_least, linearizable, seconds)
        return self.held.range(prefix)

    def get_json(self, key: str, default: Any = None, **how: Any) -> Any:
        """Return what ``put_json`` wrote; arguments and errors are those of ``get``.

        Raises:
            InputError: what is stored there is no JSON.
        """
        return requests.from_json(key, self.get(key, **how), default)

    # Writing ---------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | int | None = None,
        if_revision: int | None = None,
        when: Sequence[Condition] = (),
        seconds: float = SECONDS,
    ) -> int:
        """Write a key, and return the revision at which it was written.

        Args:
            key, value: what to write.
            lease: with which it is to end, or the id of one. None for the one that it has, as far
                as this server has heard; 0 for none, also where it has one.
            if_revision: write only if the key was last written at this revision; 0 requires that
                there is none.
            when: further conditions.
            seconds: deadline.

        Raises:
            InputError: it is no key, no value, or no lease.
            ConflictError: a condition does not hold; nothing was written.
            LeaseExpiredError: the lease has ended; nothing was written.
            DeadlineError, DegradedCollective, NotReachedError: nothing was written.
            InDoubtError: it was sent and not answered: it may have been written, or may yet, until
                it is settled.
            ClosedError: the handle was closed; nothing was written.
        """
        outcome = self._put(key, value, lease, if_revision, when, seconds)
        return requests.require(outcome, key).revision

    def put_json(self, key: str, value: Any, **how: Any) -> int:
        """Write a value as JSON; arguments, its lease too, and errors are those of ``put``."""
        return self.put(key, requests.to_json(key, value), **how)

    def delete(
        self,
        key: str,
        *,
        if_revision: int | None = None,
        when: Sequence[Condition] = (),
        seconds: float = SECONDS,
    ) -> bool:
        """Delete a key, and return whether there was one; arguments are those of ``put``."""
        outcome = self._commit(requests.delete(key, if_revision, when, self._space), seconds)
        return requests.deleted(requests.require(outcome, key)) > 0

    def delete_prefix(
        self, prefix: str, *, everything: bool = False, seconds: float = SECONDS
    ) -> int:
        """Delete all keys with a prefix, and return how many there were.

        Args:
            prefix: of the keys.
            everything: whether the empty prefix is meant, which is the whole store.
            seconds: deadline.

        Raises:
            InputError: it is no prefix, or the empty one without ``everything``.
        """
        transaction = requests.delete_prefix(prefix, everything, self._space)
        return requests.deleted(self._commit(transaction, seconds))

    def compare_and_set(
        self,
        key: str,
        expected: bytes | None,
        value: bytes,
        *,
        lease: Lease | int | None = None,
        seconds: float = SECONDS,
    ) -> bool:
        """Write a key if it has a value now; None is for no such key.

        Args:
            key, expected, value: as it says.
            lease, seconds: as for ``put``.

        Returns:
            Whether it was written.

        Raises:
            As for ``put``, but for ConflictError.
        """
        when = (requests.expecting(key, expected),)
        return self._put(key, value, lease, None, when, seconds).succeeded

    def update(
        self,
        key: str,
        change: Callable[[bytes | None], bytes],
        *,
        seconds: float = SECONDS,
    ) -> bytes:
        """Read a key, change it, and write it, until nobody came in between; its lease stays.

        Args:
            key: its name.
            change: gets the value, None where there is none, and returns what to write. It may
                be called several times.
            seconds: deadline.

        Returns:
            What was written.

        Raises:
            DeadlineError: others always came first; nothing was written.
            As for ``put``, but for ConflictError.
        """
        deadline = deadline_in(seconds)
        while True:
            found = self.entry(key, seconds=max(0.0, deadline - monotonic()))
            value = change(None if found is None else found.value)
            revision = 0 if found is None else found.revision
            left = deadline - monotonic()
            if left <= 0:
                raise DeadlineError(f"others changed {key} all the time; nothing was written")
            try:
                lease = 0 if found is None else found.lease
                self.put(key, value, lease=lease, if_revision=revision, seconds=left)
            except ConflictError:
                continue
            except LeaseExpiredError:
                # It is gone with its lease, and that is heard of in a moment.
                self._catch_up(0, True, max(0.0, deadline - monotonic()))
                continue
            return value

    def txn(
        self,
        when: Sequence[Condition] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
        *,
        alone: bool = False,
        seconds: float = SECONDS,
    ) -> Outcome:
        """Do several operations as one.

        Args:
            when: conditions, see ``unchanged``, ``absent``, ``present`` and ``holds``.
            then: what to do if all of them hold: Put, Delete, DeletePrefix, Read.
            otherwise: what to do if one does not.
            alone: whether its revision has to be shared with no write of another caller.
            seconds: deadline.

        Returns:
            Whether all conditions held, the revision, and a result for each operation.

        Raises:
            InputError: too many operations or bytes, or a key written twice.
            As for ``put``, but for ConflictError.
        """
        transaction = Transaction(tuple(when), tuple(then), tuple(otherwise), self._space, alone)
        return self._commit(transaction, seconds)

    def settle(self, error: InDoubtError, *, seconds: float = SECONDS) -> Outcome | None:
        """Return what became of a write that was in doubt; ``InDoubtError.settle`` tells less.

        Args:
            error: that the write raised, in this process.
            seconds: deadline.

        Returns:
            The outcome, as ``txn`` returns it. None where nothing was written, nor ever will be.

        Raises:
            InDoubtError: etcd does not answer: ask again; or nobody can say, see the text.
        """
        self.held.check_open()
        if error.outcome is None:
            raise error
        outcome: Outcome | None = error.outcome(seconds)
        if outcome is not None:
            self.note(outcome.moment)
        return outcome

    def lease(self, seconds: int, *, deadline: float = SECONDS) -> Lease:
        """Open a lease, which a thread keeps alive until it is closed.

        Args:
            seconds: how long it lives after this process ends, or is cut off.
            deadline: for opening it, in seconds.

        Raises:
            InputError: it is no time to live.
            EtcdError: it could not be opened.
        """
        self.held.check_open()
        lease = Lease(self._calls, seconds, bounded(deadline), self._owner)
        with self._leases_lock:
            self._leases.add(lease)
        return lease

    # Whole trees -----------------------------------------------------------------------------

    def load(
        self,
        items: Iterable[tuple[str, bytes]],
        *,
        progress: Progress | None = None,
        seconds: float = SECONDS,
    ) -> int:
        """Write many keys, and return how many; they appear by and by.

        Args:
            items: keys and values, taken as they are needed; the last one of a key counts.
            progress: called now and then with the number of keys and bytes that are written.
            seconds: deadline of each request.

        Raises:
            InputError: a key or value is not good; what came before it is written.
            As for ``put``; the message says how many are written. Loading again does no harm.
        """
        return load(self.write_batcher, items, progress, seconds, self.note)

    def export(self, prefix: str = "", *, linearizable: bool = False) -> Iterator[Entry]:
        """Return all keys with a prefix, at the revision of now, in their order.

        What is written meanwhile does not appear. ``load`` takes them again, as pairs.
        """
        return iter(self.range(prefix, linearizable=linearizable).entries)

    # Watching --------------------------------------------------------------------------------

    def watch(
        self,
        prefix: str = "",
        callback: Callback | None = None,
        *,
        initial: bool = False,
        when_ended: WhenEnded | None = None,
        limit: int = MOST_EVENTS,
    ) -> Watch:
        """Be told every change of the keys with a prefix, from now on, in order.

        What this thread has written before is not told, though it was not heard of here yet.

        Args:
            prefix: of the keys; "" for all.
            callback: called with each event, one at a time, in a thread of this handle; what it
                raises is logged. Without one, iterate over the watch.
            initial: whether to tell first what is there already, as if it were written now.
            when_ended: gets the error, should a watch with a callback end by itself.
            limit: how many events to keep for a reader who is slow; then the watch ends with
                SlowReaderError.

        Raises:
            InputError: it is no prefix.
            NotReadyError, ClosedError: nothing was read yet, or the handle was closed.
        """
        watch = self.held.open_watch(prefix, initial, limit, self._seen.get()[1])
        if callback is not None:
            self.held.call(watch, callback, when_ended)
        return watch

    # Its end, and what others note of it -------------------------------------------------------

    def close(self, seconds: float = _LEASES_SECONDS) -> None:
        """Answer nothing any more; the handle calls this, while etcd can still be asked."""
        self.held.mark_closed()
        deadline = deadline_in(seconds)
        with self._leases_lock:
            leases = list(self._leases)
        for lease in leases:
            left = deadline - monotonic()
            if left > 0:
                lease.close(left)
            else:
                lease.abandon()
        self.held.close()

    def after_fork(self) -> None:
        """Be closed in a child process, and say nothing to etcd: leases are the parent's."""
        self.held.after_fork()
        self._leases_lock = threading.Lock()
        for lease in list(self._leases):
            lease.after_fork()

    def note(self, moment: Moment) -> None:
        """Note that this thread or task has seen a moment."""
        timeline = self.held.timeline
        seen = timeline.later(moment, self._seen.get()[1])
        self._seen.set((timeline.enough_for(seen), seen))

    def _catch_up(self, at_least: int, linearizable: bool, seconds: float) -> None:
        self.held.check_open()
        deadline = deadline_in(seconds)
        if linearizable:
            self.note(self.read_batcher.newest(seconds))
        seen = self._seen.get()[1]
        wanted = self.held.timeline.wanted(at_least, seen)
        if not self.held.reach(wanted, deadline - monotonic()):
            raise self.held.not_heard(wanted, seconds)
        # What was seen in another cluster is over now, or is this one's.
        self.note(seen)

    def _put(
        self,
        key: str,
        value: bytes,
        lease: Lease | int | None,
        if_revision: int | None,
        when: Sequence[Condition],
        seconds: float,
    ) -> Outcome:
        """Write a key, with the lease that it has where none is given."""
        deadline = deadline_in(seconds)
        kept = self.held.lease_of(key) if lease is None else lease
        transaction = requests.put(key, value, kept, if_revision, when, self._space)
        try:
            return self._commit(transaction, seconds)
        except LeaseExpiredError:
            if lease is not None:
                raise
        # It has ended with its lease, which was not heard of here yet.
        transaction = requests.put(key, value, 0, if_revision, when, self._space)
        return self._commit(transaction, max(0.0, deadline - monotonic()))

    def _commit(self, transaction: Transaction, seconds: float) -> Outcome:
        outcome = self.write_batcher.commit(transaction, seconds)
        self.note(outcome.moment)
        return outcome
