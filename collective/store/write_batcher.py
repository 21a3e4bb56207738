"""Writes of many callers, made together: each request to etcd carries what has gathered meanwhile.

Two requests are under way at most: so one gathers writes while the other is being made, and a
writer who is alone waits for nobody. What a write may be put together with is decided in
``batching``; the form is in ``wire``.

Invariants:
  * A write is sent once. It is sent again only where it is certain that it was not made.
  * A request that was not answered is found out about (``write_guard``) before what touches the
    same keys is sent: no write of this handle is overtaken by one that came later.
  * Each caller gets its own outcome or its own error: what is wrong with one write, such as a
    lease that has ended, never fails another.
  * A caller is told apart: not written (``DeadlineError``, ``DegradedCollective``, ...), and
    sent without an answer so far (``InDoubtError``, which can be settled).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic

from collective.errors import (
    ClosedError,
    CollectiveError,
    DeadlineError,
    DegradedCollective,
    EtcdError,
    EtcdUnavailableError,
    InputError,
    LeaseExpiredError,
    NotReachedError,
)
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within
from collective.etcd.refusals import is_dropped
from collective.model.closing import closed_handle
from collective.model.lease_ids import COLLECTIVE
from collective.model.pairs import paired
from collective.store.batching import Footprint, choose
from collective.store.deadline import deadline_in
from collective.store.doubt import Doubt, recollected
from collective.store.leadership import Leadership, NoLeaderError
from collective.store.slot import Slot
from collective.store.values import Moment, Outcome, Transaction
from collective.store.write_guard import GuardLease, NotMadeError, Unguarded, WriteGuard

log = logging.getLogger(__name__)

_LANES = 2
_PAUSE_SECONDS = 0.05
_LEAST_SECONDS = 0.001
# However patient a caller is, it is found out by then what became of a request.
_REQUEST_SECONDS = 3.0
# What an operation of a large transaction takes, on a machine that has much else to do.
_OPERATION_SECONDS = 0.001
_CLOSE_SECONDS = 3.0
# Who gives the outcome just now needs no more than a moment.
_SETTLED_SECONDS = 5.0
_NO_LEASE = "requested lease not found"
# etcd says so, and a voter to those without a vote.
_FULL = ("database space exceeded", "the store has no room")


class Write:
    """A transaction on its way.

    Attributes:
        transaction: what is to be done.
        deadline: of the monotonic clock.
        slot: gets the outcome, or the error.
        doubt: about the request that it has left in, None where it waits.
        refused: why it could not be made so far, None where nothing stood in the way.
    """

    __slots__ = ("deadline", "doubt", "refused", "slot", "transaction")

    def __init__(self, transaction: Transaction, deadline: float) -> None:
        self.transaction = transaction
        self.deadline = deadline
        self.slot: Slot[Outcome] = Slot()
        self.doubt: Doubt | None = None
        self.refused: CollectiveError | None = None

    @property
    def sent(self) -> bool:
        """Whether it has left; then nobody knows whether it was made until there is an answer."""
        return self.doubt is not None


class WriteBatcher:
    """The queue of writes, and the threads that make them."""

    def __init__(
        self,
        calls: EtcdApi,
        owner: str = COLLECTIVE,
        lanes: int = _LANES,
        leadership: Leadership | None = None,
    ) -> None:
        """Prepare; threads are begun when there is something to write.

        Args:
            calls: the way to etcd.
            owner: this server.
            lanes: how many requests may be under way at a time.
            leadership: what others find out too, None for its own.
        """
        self._calls = calls
        self._leadership = leadership or Leadership(calls)
        self._lease = GuardLease(calls, owner)
        self._unguarded = Unguarded(calls)
        self._lanes = lanes
        self._threads: list[threading.Thread] = []
        self._free = 0
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Write] = deque()
        self._under_way: list[Footprint] = []
        self._closed, self._forked = threading.Event(), False

    def submit(self, transaction: Transaction, seconds: float) -> Write:
        """Queue a transaction and return at once.

        Args:
            transaction: what is to be done.
            seconds: how long it may take; ``give_up`` is for whoever waits for longer.

        Raises:
            ClosedError: this was closed.
        """
        write = Write(transaction, deadline_in(seconds))
        with self._changed:
            if self._closed.is_set():
                raise closed_handle(self._forked)
            if not self._free and len(self._threads) < self._lanes:
                number = str(len(self._threads))
                guard = WriteGuard(self._calls, self._lease, number)
                thread = threading.Thread(
                    target=self._run, args=(guard,), name=f"commit-{number}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
            self._waiting.append(write)
            self._changed.notify()
        return write

    def commit(self, transaction: Transaction, seconds: float) -> Outcome:
        """Make a transaction, and return its outcome.

        Args:
            transaction: what is to be done.
            seconds: deadline.

        Raises:
            DeadlineError, DegradedCollective, NotReachedError: nothing was written.
            InDoubtError: it was sent, and may have been made.
            LeaseExpiredError: a lease has ended; nothing was written.
            EtcdError: etcd refused it; nothing was written.
            ClosedError: the handle was closed; nothing was written.
        """
        return self.result(self.submit(transaction, seconds))

    def result(self, write: Write) -> Outcome:
        """Wait for the outcome of a write; errors are those of ``commit``."""
        if not write.slot.wait(write.deadline - monotonic()):
            self.give_up(write)
            write.slot.wait(_SETTLED_SECONDS)
        return write.slot.get()

    def give_up(self, write: Write) -> None:
        """Settle a write whose time is up, if it is not settled yet."""
        with self._changed:
            # One that is on its way back into the queue is not put there then.
            write.slot.settle(_not_made(write) if write.doubt is None else _in_doubt(write))

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Make nothing more; what waits is told so, what was sent is seen through.

        Args:
            seconds: how long that may take.
        """
        deadline = deadline_in(seconds)
        with self._changed:
            self._closed.set()
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for write in left:
            write.slot.settle(ClosedError("this handle was closed; nothing was written"))
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        self._lease.close(max(_LEAST_SECONDS, deadline - monotonic()))

    def after_fork(self) -> None:
        """Make nothing in a child process, whose threads are the parent's."""
        self._changed, self._closed = threading.Condition(threading.Lock()), threading.Event()
        self._closed.set()
        self._forked = True
        self._threads, self._waiting = [], deque()
        self._lease.after_fork()

    def _run(self, guard: WriteGuard) -> None:
        while True:
            with self._changed:
                self._free += 1
                self._changed.wait_for(self._may_go)
                self._free -= 1
                if not self._waiting:
                    return
            if (why := self._leadership.missing()) is not None:
                self._hold_back(why)
                continue
            with self._changed:
                if not self._may_go() or not self._waiting:
                    continue
                batch, footprint = self._take()
                self._under_way.append(footprint)
            try:
                self._make(guard, batch)
            except BaseException as error:
                log.exception("writes could not be made")
                self._end(guard, batch, EtcdError(f"it failed in an unknown way: {error}"))
            with self._changed:
                self._under_way.remove(footprint)
                self._changed.notify()

    def _hold_back(self, why: EtcdUnavailableError) -> None:
        """Send nothing now; refuse what waits, where nobody leads for longer than a moment."""
        refused: list[Write] = []
        with self._changed:
            for write in self._waiting:
                write.refused = why
            if isinstance(why, NoLeaderError) and why.lasts:
                refused = list(self._waiting)
                self._waiting.clear()
        for write in refused:
            write.slot.settle(_not_made(write))
        if not refused:
            self._closed.wait(_PAUSE_SECONDS)

    def _may_go(self) -> bool:
        """Drop writes whose callers have gone; tell whether there is one to make, or an end."""
        while self._waiting and self._waiting[0].slot.is_settled:
            self._waiting.popleft()
        if not self._waiting:
            return self._closed.is_set()
        first = self._waiting[0].transaction
        return all(footprint.admits(first) for footprint in self._under_way)

    def _take(self) -> tuple[list[Write], Footprint]:
        """Take the next writes out of the queue; from now on they count as sent."""
        transactions = (write.transaction for write in self._waiting)
        count, footprint = choose(transactions, self._under_way)
        return self._begun([self._waiting.popleft() for _ in range(count)]), footprint

    def _begun(self, writes: Sequence[Write]) -> list[Write]:
        """Count writes as sent together, but for those whose callers have gone."""
        alive = [write for write in writes if not write.slot.is_settled]
        doubt = Doubt(self._calls)
        for write in alive:
            write.doubt = doubt
        return alive

    def _make(self, guard: WriteGuard | Unguarded, batch: Sequence[Write]) -> None:
        """Make writes as one, and tell each caller."""
        if not batch:
            return
        transactions = [write.transaction for write in batch]
        if not any(transaction.writes for transaction in transactions):
            guard = self._unguarded
        begun = monotonic()
        left = max(write.deadline for write in batch) - begun
        try:
            with within(min(max(left, _LEAST_SECONDS), _patience(transactions))):
                outcomes = guard.make(transactions)
        except EtcdUnavailableError as error:
            if isinstance(error, (NotReachedError, NotMadeError)) or is_dropped(error):
                self._put_back(batch, error)
            else:
                self._find_out(guard, batch, error)
        except EtcdError as error:
            self._refuse(guard, batch, error)
        else:
            self._leadership.note_answer(begun)
            _doubt_of(batch).end(outcomes[0].moment)
            for write, outcome in paired(batch, outcomes):
                write.slot.settle(outcome)

    def _find_out(
        self, guard: WriteGuard | Unguarded, batch: Sequence[Write], why: EtcdUnavailableError
    ) -> None:
        """Find out what became of a request that was not answered, and go on from there."""
        transactions, doubt = [write.transaction for write in batch], _doubt_of(batch)
        while not self._closed.is_set():
            if self._leadership.missing() is not None:
                self._closed.wait(_PAUSE_SECONDS)
                continue
            try:
                with within(_REQUEST_SECONDS):
                    at = guard.end_doubt(transactions)
            except EtcdUnavailableError:
                self._closed.wait(_PAUSE_SECONDS)
            except EtcdError as error:
                self._end(guard, batch, error)
                return
            else:
                if at is None:
                    self._put_back(batch, why, 0.0)
                    return
                doubt.end(at)
                for write in batch:
                    self._recollect(write, at)
                return
        self._end(guard, batch, closed_handle(forked=False))

    def _end(
        self, guard: WriteGuard | Unguarded, batch: Sequence[Write], why: CollectiveError
    ) -> None:
        """Have writes that were not answered never be made from now on: nobody can say more."""
        guard.leave()
        for write in batch:
            if write.doubt is not None:
                write.doubt.end(None, why)
            write.slot.settle(_in_doubt(write, why.message))

    def _recollect(self, write: Write, at: Moment) -> None:
        """Tell a caller who waits still what became of a write that was made, if that is told."""
        if write.slot.is_settled:
            return
        try:
            with within(max(write.deadline - monotonic(), _LEAST_SECONDS)):
                write.slot.settle(recollected(self._calls, write.transaction, at))
        except EtcdError as error:
            write.slot.settle(_in_doubt(write, error.message))

    def _refuse(
        self, guard: WriteGuard | Unguarded, batch: Sequence[Write], error: EtcdError
    ) -> None:
        """Find out which of several writes etcd refuses, and make the others."""
        if _NO_LEASE in error.message and guard.has_ended():
            self._put_back(batch, NotMadeError(error.message))
        elif len(batch) > 1:
            _doubt_of(batch).end(None)
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                with self._changed:
                    alive = self._begun(half)
                self._make(guard, alive)
        elif _is_full(error) and guard is not self._unguarded and not batch[0].transaction.puts:
            # To write the guard needs room, and this makes some.
            self._make(self._unguarded, batch)
        else:
            _doubt_of(batch).end(None)
            batch[0].slot.settle(_translated(error))

    def _put_back(
        self, batch: Sequence[Write], why: EtcdUnavailableError, pause: float = _PAUSE_SECONDS
    ) -> None:
        """Queue writes again that were certainly not made, in front of all others."""
        with self._changed:
            _doubt_of(batch).end(None)
            for write in batch:
                write.doubt, write.refused = None, why
        self._closed.wait(pause)
        with self._changed:
            now, closed = monotonic(), self._closed.is_set()
            late = [write for write in batch if closed or write.deadline <= now]
            again = [w for w in batch if w not in late and not w.slot.is_settled]
            self._waiting.extendleft(reversed(again))
        for write in late:
            write.slot.settle(_not_made(write))


def _patience(transactions: Sequence[Transaction]) -> float:
    """Return for how many seconds a request is waited for."""
    return _REQUEST_SECONDS + _OPERATION_SECONDS * sum(each.weight for each in transactions)


def _doubt_of(batch: Sequence[Write]) -> Doubt:
    doubt = batch[0].doubt
    assert doubt is not None
    return doubt


def _not_made(write: Write) -> CollectiveError:
    why = write.refused
    if why is None:
        return DeadlineError("time was up before the write was sent; nothing was written")
    if isinstance(why, NotReachedError):
        return NotReachedError(
            f"nothing was written: {why.message}", "see 'collective show' on this server"
        )
    return DegradedCollective(
        f"nothing was written: there is no quorum ({why.message})",
        "see 'collective show' on this server",
    )


def _in_doubt(write: Write, why: str = "etcd did not answer in time") -> CollectiveError:
    doubt = write.doubt
    return _not_made(write) if doubt is None else doubt.error(write.transaction, why)


def _is_full(error: EtcdError) -> bool:
    return any(words in error.message for words in _FULL)


def _translated(error: EtcdError) -> CollectiveError:
    if _NO_LEASE in error.message:
        return LeaseExpiredError("the lease has ended; nothing was written", "open a new one")
    if "request is too large" in error.message or "too many operations" in error.message:
        return InputError(f"{error.message}; nothing was written", "divide it")
    if "database space exceeded" in error.message:
        return EtcdError(
            "etcd: its database is full; nothing was written", "see 'collective show' and NOSPACE"
        )
    hint = error.hint
    if "the lease" in error.message and "is none of" in error.message:
        hint = "the key ends with another server's lease: give lease=0 to take it off"
    return EtcdError(f"{error.message}; nothing was written", hint)
