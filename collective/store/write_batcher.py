"""Writes of many callers, made together: each request to etcd carries what has gathered meanwhile.

Two requests are under way at most: so one gathers writes while the other is being made, and a
writer who is alone waits for nobody. What a write may be put together with is decided in
``batching``; the form is in ``wire``.

Invariants:
  * A write is sent once. It is sent again only where it is certain that it was not made.
  * Each caller gets its own outcome or its own error: what is wrong with one write, such as a
    lease that has ended, never fails another.
  * A caller is told apart: not written (``DeadlineError``, ``DegradedCollective``, ...), and
    sent without an answer (``InDoubtError``).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from collective.errors import (
    ClosedError,
    CollectiveError,
    DeadlineError,
    DegradedCollective,
    EtcdError,
    EtcdUnavailableError,
    InDoubtError,
    InputError,
    LeaseExpiredError,
    NotReachedError,
)
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within
from collective.etcd.refusals import is_dropped
from collective.store.batching import Footprint, choose
from collective.store.deadline import deadline_in
from collective.store.slot import Slot
from collective.store.values import Outcome, Transaction
from collective.store.wire import from_wire, to_wire

log = logging.getLogger(__name__)

_LANES = 2
_PAUSE_SECONDS = 0.05
_LEAST_SECONDS = 0.001
# However patient a caller is, an etcd that hangs must not keep others waiting behind it.
_REQUEST_SECONDS = 10.0
# Who gives the outcome just now needs no more than a moment.
_SETTLED_SECONDS = 5.0


class Write:
    """A transaction on its way.

    Attributes:
        transaction: what is to be done.
        deadline: of the monotonic clock.
        slot: gets the outcome, or the error.
        sent: whether it has left; then nobody knows whether it was made until there is an answer.
        refused: why it could not be made so far, None where nothing stood in the way.
    """

    __slots__ = ("deadline", "refused", "sent", "slot", "transaction")

    def __init__(self, transaction: Transaction, deadline: float) -> None:
        self.transaction = transaction
        self.deadline = deadline
        self.slot: Slot[Outcome] = Slot()
        self.sent = False
        self.refused: CollectiveError | None = None


class WriteBatcher:
    """The queue of writes, and the threads that make them."""

    def __init__(self, calls: EtcdApi, lanes: int = _LANES) -> None:
        """Prepare; threads are begun when there is something to write.

        Args:
            calls: the way to etcd.
            lanes: how many requests may be under way at a time.
        """
        self._calls = calls
        self._lanes = lanes
        self._threads: list[threading.Thread] = []
        self._free = 0
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Write] = deque()
        self._under_way: list[Footprint] = []
        self._closed = threading.Event()

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
                raise ClosedError("this handle was closed")
            if not self._free and len(self._threads) < self._lanes:
                name = f"commit-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
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
            sent = write.sent
            if not sent:
                # It may be on its way back into the queue, and is not put there then.
                write.slot.settle(_not_made(write))
        if sent:
            write.slot.settle(_in_doubt())

    def close(self) -> None:
        """Make nothing more; what waits is told so, what was sent is seen through."""
        with self._changed:
            self._closed.set()
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for write in left:
            write.slot.settle(ClosedError("this handle was closed; nothing was written"))
        for thread in self._threads:
            thread.join()

    def after_fork(self) -> None:
        """Make nothing in a child process, whose threads are the parent's."""
        self._changed, self._closed = threading.Condition(threading.Lock()), threading.Event()
        self._closed.set()
        self._threads, self._waiting = [], deque()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._free += 1
                self._changed.wait_for(self._may_go)
                self._free -= 1
                if not self._waiting:
                    return
                batch, footprint = self._take()
                self._under_way.append(footprint)
            try:
                self._make(batch)
            except BaseException as error:
                log.exception("writes could not be made")
                for write in batch:
                    failure = InDoubtError(f"a write failed in an unknown way: {error}")
                    write.slot.settle(failure)
            with self._changed:
                self._under_way.remove(footprint)
                self._changed.notify()

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
        batch = [self._waiting.popleft() for _ in range(count)]
        alive = [write for write in batch if not write.slot.is_settled]
        for write in alive:
            write.sent = True
        return alive, footprint

    def _make(self, batch: Sequence[Write]) -> None:
        """Make writes as one, and tell each caller."""
        if not batch:
            return
        transactions = [write.transaction for write in batch]
        left = max(write.deadline for write in batch) - monotonic()
        try:
            with within(min(max(left, _LEAST_SECONDS), _REQUEST_SECONDS)):
                answer = self._calls.call("/kv/txn", to_wire(transactions))
        except EtcdUnavailableError as error:
            if isinstance(error, NotReachedError) or is_dropped(error):
                self._put_back(batch, error)
                return
            for write in batch:
                write.slot.settle(_in_doubt(error))
        except EtcdError as error:
            self._refuse(batch, error)
        else:
            self._tell(batch, transactions, answer)

    def _tell(
        self,
        batch: Sequence[Write],
        transactions: Sequence[Transaction],
        answer: Mapping[str, Any],
    ) -> None:
        """Tell each caller what etcd has answered; an answer that is none tells nothing."""
        try:
            outcomes = from_wire(transactions, answer)
        except EtcdError as error:
            for write in batch:
                write.slot.settle(_in_doubt(error))
            return
        for write, outcome in zip(batch, outcomes, strict=True):
            write.slot.settle(outcome)

    def _refuse(self, batch: Sequence[Write], error: EtcdError) -> None:
        """Find out which of several writes etcd refuses, and make the others."""
        if len(batch) == 1:
            batch[0].slot.settle(_translated(error))
            return
        middle = len(batch) // 2
        self._make(batch[:middle])
        self._make(batch[middle:])

    def _put_back(self, batch: Sequence[Write], why: EtcdUnavailableError) -> None:
        """Queue writes again that were certainly not made, in front of all others."""
        with self._changed:
            for write in batch:
                write.sent, write.refused = False, why
        self._closed.wait(_PAUSE_SECONDS)
        with self._changed:
            now, closed = monotonic(), self._closed.is_set()
            late = [write for write in batch if closed or write.deadline <= now]
            again = [w for w in batch if w not in late and not w.slot.is_settled]
            self._waiting.extendleft(reversed(again))
        for write in late:
            write.slot.settle(_not_made(write))


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


def _in_doubt(why: CollectiveError | None = None) -> InDoubtError:
    reason = "etcd did not answer in time" if why is None else why.message
    return InDoubtError(
        f"a write was sent, and may have been made or not: {reason}",
        "wait, read the key linearizably, and decide; one with a condition does no harm twice",
    )


def _translated(error: EtcdError) -> CollectiveError:
    if "requested lease not found" in error.message:
        return LeaseExpiredError("the lease has ended; nothing was written", "open a new one")
    if "request is too large" in error.message or "too many operations" in error.message:
        return InputError(f"{error.message}; nothing was written", "divide it")
    if "database space exceeded" in error.message:
        return EtcdError(
            "etcd: its database is full; nothing was written", "see 'collective show' and NOSPACE"
        )
    return EtcdError(f"{error.message}; nothing was written", error.hint)
