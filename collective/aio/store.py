"""The store for asyncio: the same calls, awaited. What needs no waiting does not suspend.

Invariants:
  * No call blocks the loop, and none takes a thread of the loop's pool to wait in: thousands of
    tasks may write and ask for the quorum at a time.
  * A task that is cancelled while its write waits to be sent writes nothing; one whose write was
    sent is in doubt.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from collective.aio.bridging import Closing, call_in, in_thread, is_set_within, within
from collective.errors import (
    ClosedError,
    CollectiveError,
    ConflictError,
    DeadlineError,
    InDoubtError,
    LeaseExpiredError,
    RefusedError,
)
from collective.store import requests
from collective.store import store as threaded
from collective.store.held import Range
from collective.store.leases import Lease
from collective.store.loading import Progress, load
from collective.store.store import SECONDS
from collective.store.values import (
    NEVER,
    Condition,
    Entry,
    Event,
    Moment,
    Operation,
    Outcome,
    Transaction,
)
from collective.store.watching import MOST_EVENTS, Watch


class Store:
    """The shared keys, for tasks; arguments and errors are those of ``collective.store``."""

    def __init__(self, sync: threaded.Store) -> None:
        self._sync = sync
        # A task reads what any task of this handle wrote: those that gather and wait_for make
        # have contexts of their own.
        self._noted = NEVER
        # ``load`` notes what it wrote in a thread.
        self._noting = threading.Lock()

    @property
    def revision(self) -> int:
        """The revision of the store that reads are answered from."""
        return self._sync.revision

    async def get(
        self,
        key: str,
        default: bytes | None = None,
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> bytes | None:
        """Return the value of a key."""
        if linearizable or self._lacks(at_least):
            await self._catch_up(at_least, linearizable, seconds)
        return self._sync.held.get(key, default)

    async def entry(
        self,
        key: str,
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> Entry | None:
        """Return a key with its revisions, or None."""
        if linearizable or self._lacks(at_least):
            await self._catch_up(at_least, linearizable, seconds)
        return self._sync.held.entry(key)

    async def range(
        self,
        prefix: str = "",
        *,
        at_least: int = 0,
        linearizable: bool = False,
        seconds: float = SECONDS,
    ) -> Range:
        """Return all keys with a prefix, at one revision."""
        if linearizable or self._lacks(at_least):
            await self._catch_up(at_least, linearizable, seconds)
        return self._sync.held.range(prefix)

    async def get_json(self, key: str, default: Any = None, **how: Any) -> Any:
        """Return what ``put_json`` wrote."""
        return requests.from_json(key, await self.get(key, **how), default)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        lease: Lease | int | None = None,
        if_revision: int | None = None,
        when: Sequence[Condition] = (),
        seconds: float = SECONDS,
    ) -> int:
        """Write a key, and return the revision at which it was written."""
        outcome = await self._put(key, value, lease, if_revision, when, seconds)
        return requests.require(outcome, key).revision

    async def put_json(self, key: str, value: Any, **how: Any) -> int:
        """Write a value as JSON."""
        return await self.put(key, requests.to_json(key, value), **how)

    async def delete(
        self,
        key: str,
        *,
        if_revision: int | None = None,
        when: Sequence[Condition] = (),
        seconds: float = SECONDS,
    ) -> bool:
        """Delete a key, and return whether there was one."""
        outcome = await self._commit(requests.delete(key, if_revision, when), seconds)
        return requests.deleted(requests.require(outcome, key)) > 0

    async def delete_prefix(
        self, prefix: str, *, everything: bool = False, seconds: float = SECONDS
    ) -> int:
        """Delete all keys with a prefix, and return how many there were."""
        transaction = requests.delete_prefix(prefix, everything)
        return requests.deleted(await self._commit(transaction, seconds))

    async def compare_and_set(
        self,
        key: str,
        expected: bytes | None,
        value: bytes,
        *,
        lease: Lease | int | None = None,
        seconds: float = SECONDS,
    ) -> bool:
        """Write a key if it has a value now, and return whether it was written."""
        when = (requests.expecting(key, expected),)
        return (await self._put(key, value, lease, None, when, seconds)).succeeded

    async def update(
        self, key: str, change: Callable[[bytes | None], bytes], *, seconds: float = SECONDS
    ) -> bytes:
        """Read a key, change it, and write it, until nobody came in between."""
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            found = await self.entry(key, seconds=left)
            value = change(None if found is None else found.value)
            revision = 0 if found is None else found.revision
            try:
                left = max(0.0, deadline - monotonic())
                lease = 0 if found is None else found.lease
                await self.put(key, value, lease=lease, if_revision=revision, seconds=left)
            except ConflictError:
                continue
            except LeaseExpiredError:
                # It is gone with its lease, and that is heard of in a moment.
                await self._catch_up(0, True, max(0.0, deadline - monotonic()))
                continue
            return value
        raise DeadlineError(f"others changed {key} all the time; nothing was written")

    async def txn(
        self,
        when: Sequence[Condition] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
        *,
        alone: bool = False,
        seconds: float = SECONDS,
    ) -> Outcome:
        """Do several operations as one."""
        transaction = Transaction(tuple(when), tuple(then), tuple(otherwise), alone=alone)
        return await self._commit(transaction, seconds)

    async def settle(self, error: InDoubtError, *, seconds: float = SECONDS) -> Outcome | None:
        """Return what became of a write that was in doubt, None where it never is made."""
        outcome = await in_thread(lambda _: self._sync.settle(error, seconds=seconds))
        if outcome is not None:
            self._note(outcome.moment)
        return outcome

    async def lease(self, seconds: int, *, deadline: float = SECONDS) -> Lease:
        """Open a lease, which a thread keeps alive until ``close_lease``."""
        return await in_thread(lambda _: self._sync.lease(seconds, deadline=deadline), Lease.close)

    async def close_lease(self, lease: Lease) -> None:
        """End a lease, and with it all keys that are bound to it."""
        await in_thread(lambda _: lease.close())

    async def load(
        self,
        items: Iterable[tuple[str, bytes]],
        *,
        progress: Progress | None = None,
        seconds: float = SECONDS,
    ) -> int:
        """Write many keys, and return how many; ``items`` and ``progress`` run in a thread.

        Where the task is cancelled nothing more is sent.
        """
        batcher = self._sync.write_batcher
        return await in_thread(lambda up: load(batcher, items, progress, seconds, self._note, up))

    async def export(
        self, prefix: str = "", *, linearizable: bool = False
    ) -> AsyncIterator[Entry]:
        """Yield all keys with a prefix, at one revision, in their order."""
        found = await self.range(prefix, linearizable=linearizable)
        for entry in found.entries:
            yield entry

    def watch(
        self, prefix: str = "", *, initial: bool = False, limit: int = MOST_EVENTS
    ) -> Watching:
        """Return the changes of the keys with a prefix, to iterate over."""
        watch = self._sync.held.open_watch(prefix, initial, limit, self._noted)
        return Watching(watch, asyncio.get_running_loop())

    async def newest(self, seconds: float) -> Moment:
        """Return the newest moment, linearizably.

        Raises:
            DegradedCollective: there was no answer in time.
        """
        question = self._sync.read_batcher.ask(seconds)
        return await within(
            question.slot, seconds, lambda: self._sync.read_batcher.give_up(question)
        )

    async def _put(
        self,
        key: str,
        value: bytes,
        lease: Lease | int | None,
        if_revision: int | None,
        when: Sequence[Condition],
        seconds: float,
    ) -> Outcome:
        """Write a key, with the lease that it has where none is given."""
        deadline = monotonic() + seconds
        kept = self._sync.held.lease_of(key) if lease is None else lease
        try:
            return await self._commit(requests.put(key, value, kept, if_revision, when), seconds)
        except LeaseExpiredError:
            if lease is not None:
                raise
        # It has ended with its lease, which was not heard of here yet.
        left = max(0.0, deadline - monotonic())
        return await self._commit(requests.put(key, value, 0, if_revision, when), left)

    async def _commit(self, transaction: Transaction, seconds: float) -> Outcome:
        write_batcher = self._sync.write_batcher
        write = write_batcher.submit(transaction, seconds)
        outcome = await within(write.slot, seconds, lambda: write_batcher.give_up(write))
        self._note(outcome.moment)
        return outcome

    def _note(self, moment: Moment) -> None:
        with self._noting:
            self._noted = self._sync.held.timeline.later(moment, self._noted)

    def _lacks(self, at_least: int) -> bool:
        timeline = self._sync.held.timeline
        return timeline.lacks(timeline.wanted(at_least, self._noted))

    async def _catch_up(self, at_least: int, linearizable: bool, seconds: float) -> None:
        deadline = monotonic() + seconds
        if linearizable:
            self._note(await self.newest(seconds))
        loop, reached = asyncio.get_running_loop(), asyncio.Event()
        wanted = self._sync.held.timeline.wanted(at_least, self._noted)
        forget = self._sync.held.when_reached(wanted, lambda: call_in(loop, reached.set))
        try:
            if not await is_set_within(reached, deadline - monotonic()):
                raise self._sync.held.not_heard(wanted, seconds)
        finally:
            forget()


class Watching(Closing):
    """A watch for tasks: ``async with`` it, and ``async for`` over it, in one task."""

    def __init__(self, watch: Watch, loop: asyncio.AbstractEventLoop) -> None:
        self._watch = watch
        self._woken = asyncio.Event()
        self._taken: list[Event] = []
        watch.when_woken(lambda: call_in(loop, self._woken.set))

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, and wait for it.

        Raises:
            SlowReaderError: too many were not read; the watch has ended.
        """
        while not self._taken:
            self._woken.clear()
            try:
                self._taken = self._watch.take()[::-1]
            except ClosedError:
                raise StopAsyncIteration from None
            if not self._taken:
                await self._woken.wait()
        return self._taken.pop()

    async def next_batch(self) -> list[Event]:
        """Return the next events that came at once, see ``collective.store.watching.Watch``.

        What a transaction has changed is one batch: nobody has to look at half of it.

        Raises:
            SlowReaderError, ClosedError: the watch has ended.
            RefusedError: single events of a batch were taken, and some are left.
        """
        if self._taken:
            raise RefusedError("single events were taken of a watch that is to tell batches")
        while True:
            self._woken.clear()
            if batch := self._watch.take_batch():
                return batch
            await self._woken.wait()

    @property
    def error(self) -> CollectiveError | None:
        """Why the watch has ended, None while it goes on."""
        return self._watch.error

    async def close(self) -> None:
        """End the watch; what was not read is dropped."""
        self._taken.clear()
        self._watch.close()
