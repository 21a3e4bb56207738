"""Which of the writes that wait go into one transaction: a decision, and no input or output.

Safety properties:
  * None of the writes that are made together, or at the same time, writes a key that another one
    writes or has a condition on. So each has the outcome that it would have if they were made
    one after the other, and writes of one key are made in the order in which they came.
  * They are the first ones of the queue: none overtakes another.
  * Together they are within what etcd takes in one transaction, and what a voter passes on,
    unless one alone is not.
"""

from __future__ import annotations

from collections.abc import Iterable

from collective.model.keyspace import MOST_READS
from collective.store.values import Transaction

#: What writes of many callers are put together up to, in operations, and in bytes of keys and
#: values: no more is won by larger ones, and all wait for the slowest.
BATCH_OPERATIONS = 120
BATCH_BYTES = 1 << 20 | 1 << 16


class Footprint:
    """What some transactions touch."""

    __slots__ = ("_compared", "_empty", "_wide", "_written")

    def __init__(self) -> None:
        self._written: set[str] = set()
        self._compared: set[str] = set()
        self._wide = False
        self._empty = True

    def admits(self, transaction: Transaction) -> bool:
        """Tell whether one more may be made together with them, or beside them."""
        if self._empty:
            return True
        if self._wide or transaction.is_wide:
            return False
        written = transaction.written
        return (
            self._written.isdisjoint(written)
            and self._compared.isdisjoint(written)
            and self._written.isdisjoint(transaction.compared)
        )

    def add(self, transaction: Transaction) -> None:
        """Count one more."""
        self._empty = False
        self._wide = self._wide or transaction.is_wide
        self._written |= transaction.written
        self._compared |= transaction.compared


def choose(
    waiting: Iterable[Transaction],
    beside: Iterable[Footprint] = (),
    most: int = BATCH_OPERATIONS,
    most_bytes: int = BATCH_BYTES,
) -> tuple[int, Footprint]:
    """Return how many of the first ones to make as one now, and what they touch.

    Args:
        waiting: in the order in which they came.
        beside: what is under way.
        most: operations of all together.
        most_bytes: keys and values of all together, in bytes.

    Returns:
        At least 1 where there are any, but 0 where the first one has to wait for what is under
        way.
    """
    others = tuple(beside)
    chosen = Footprint()
    count = size = operations = reads = 0
    for transaction in waiting:
        size += transaction.size
        operations += transaction.weight
        reads += transaction.reads
        too_much = operations > most or size > most_bytes or reads > MOST_READS
        if count and (too_much or transaction.alone):
            break
        if not chosen.admits(transaction) or not all(o.admits(transaction) for o in others):
            break
        chosen.add(transaction)
        count += 1
        if transaction.alone:
            break
    return count, chosen
