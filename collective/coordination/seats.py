"""The seats of one group of assignments: what is known of them, and how they are written.

Invariants:
  * A seat is written only where it is as it was seen: of two who change it one hears so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TypeVar

from collective.coordination.assignment_table import AssignmentTable, Seen, write_seat
from collective.errors import DeadlineError
from collective.model.keyspace import COORDINATION
from collective.policy.assigning import Seat
from collective.store.store import Store
from collective.store.values import Condition, Delete, Operation, Put, Transaction, unchanged

#: How often to look though nothing is heard, and how soon again after a failure, in seconds.
TICK_SECONDS = 0.5
AGAIN_SECONDS = 0.2
#: Changes come in crowds: look at many of them at once.
GATHER_SECONDS = 0.02

_AT_ONCE = 100

T = TypeVar("T")


class Seats:
    """The seats of a group.

    Attributes:
        store: where the keys of coordination lie.
        name: of this server.
        group: any text.
        grace: for how many seconds the nodes of a manager that is gone are left alone.
        table: what is known of the group.
    """

    def __init__(self, store: Store, name: str, group: str, grace: float) -> None:
        """Begin to follow the group."""
        self.store = store
        self.name = name
        self.group = group
        self.grace = grace
        self.table = AssignmentTable(store, group)

    def write(
        self, seats: Sequence[Seat], seen: Mapping[str, Seen], fences: tuple[Condition, ...]
    ) -> Transaction:
        """Return a transaction that writes seats, if they are what they were."""
        when = [_as_seen(self.table.node_key(s.node), seen.get(s.node)) for s in seats]
        then = [_written(self.table.node_key(seat.node), seat) for seat in seats]
        return Transaction((*fences, *when), tuple(then), space=COORDINATION)

    def make(self, transactions: Sequence[Transaction], deadline: float) -> list[bool]:
        """Make transactions, side by side; return which of them found things as they were."""
        seconds = deadline - monotonic()
        if seconds <= 0:
            failure = self.store.held.failure
            why = "others changed them all the time"
            if failure is not None:
                why = f"this server does not hear of changes: {failure.message}"
            raise DeadlineError(f"not all nodes of {self.group} are written: {why}")
        write_batcher = self.store.write_batcher
        writes = [write_batcher.submit(transaction, seconds) for transaction in transactions]
        outcomes = [write_batcher.result(write) for write in writes]
        written = [outcome.revision for outcome in outcomes if outcome.succeeded]
        # What is decided next is decided on what was written.
        self.table.reach(max(written, default=0), deadline - monotonic())
        return [outcome.succeeded for outcome in outcomes]


def _written(key: str, seat: Seat) -> Operation:
    return Delete(key) if seat.is_over else Put(key, write_seat(seat))


def _as_seen(key: str, seen: Seen | None) -> Condition:
    return unchanged(key, 0 if seen is None else seen.revision)


def gathering(took: float) -> float:
    """Return for how long to let changes gather, in seconds, where a look takes so long.

    With very many nodes a look takes long, and they come in rows.
    """
    return min(max(GATHER_SECONDS, took), TICK_SECONDS)


def parts(items: Sequence[T]) -> list[Sequence[T]]:
    """Return items in rows of as many as one transaction changes."""
    return [items[begin : begin + _AT_ONCE] for begin in range(0, len(items), _AT_ONCE)]
