"""What became of a request whose callers gave it up: known once, and for all of them.

It ends no doubt itself (``write_guard`` does); it tells those who wait for that.

Invariants:
  * What it says never changes: a request that it calls not made is never made.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any

from collective.errors import CollectiveError, EtcdError, InDoubtError
from collective.etcd.api import RANGE, EtcdApi
from collective.etcd.deadline import within
from collective.etcd.requests import encode, prefix_end
from collective.store.deadline import deadline_in
from collective.store.values import (
    Aspect,
    Condition,
    Delete,
    DeletePrefix,
    Entry,
    Moment,
    Operation,
    Outcome,
    Put,
    Result,
    Transaction,
)
from collective.store.wire import entry_of, moment_of

_LEAST_SECONDS = 0.05


class Doubt:
    """Whether one request was made, as soon as that is known."""

    def __init__(self, calls: EtcdApi) -> None:
        """Know nothing yet.

        Args:
            calls: the way to etcd.
        """
        self._calls = calls
        self._known = threading.Event()
        self._at: Moment | None = None
        self._why: CollectiveError | None = None

    def end(self, at: Moment | None, why: CollectiveError | None = None) -> None:
        """Say what became of it.

        Args:
            at: when it was made; None where it never was, nor can be.
            why: nobody will ever know, None where that is known.
        """
        self._at, self._why = at, why
        self._known.set()

    def error(self, transaction: Transaction, reason: str) -> InDoubtError:
        """Return the error of a caller that gave its transaction up."""
        return InDoubtError(
            f"a write was sent, and may have been made or not: {reason}",
            "settle() of this error says whether it was made, and from then on it never can be",
            partial(self.settle, transaction),
        )

    def settle(self, transaction: Transaction, seconds: float) -> Outcome | None:
        """Wait until it is known, and return the outcome of a transaction that was in it.

        Args:
            transaction: one of those in the request.
            seconds: deadline.

        Returns:
            None where nothing of it was written, nor ever will be.

        Raises:
            InDoubtError: it is not known yet, or cannot be known any more.
        """
        deadline = deadline_in(seconds)
        if not self._known.wait(max(deadline - monotonic(), 0.0)):
            raise self.error(transaction, "etcd has not answered since")
        if self._why is not None:
            raise InDoubtError(f"it is not known whether a write was made: {self._why.message}")
        if self._at is None:
            return None
        try:
            with within(max(deadline - monotonic(), _LEAST_SECONDS)):
                return recollected(self._calls, transaction, self._at)
        except EtcdError as error:
            raise self.error(transaction, f"what it did is not told: {error.message}") from error


def recollected(calls: EtcdApi, transaction: Transaction, at: Moment) -> Outcome:
    """Return the outcome of a transaction that was made, out of what etcd stored before it.

    Args:
        calls: the way to etcd.
        transaction: it was in a request with others, none of which touched its keys.
        at: when that was made.

    Raises:
        EtcdError: etcd has forgotten (it remembers an hour), or does not answer.
    """
    past = _Past(calls, transaction.space, at)
    succeeded = all(past.held(condition) for condition in transaction.when)
    operations = transaction.then if succeeded else transaction.otherwise
    results = tuple(past.result(operation) for operation in operations)
    return Outcome(succeeded, at.revision, results, at.cluster)


class _Past:
    """What was stored right before a moment."""

    def __init__(self, calls: EtcdApi, space: str, at: Moment) -> None:
        self._calls, self._space, self._at = calls, space, at

    def held(self, condition: Condition) -> bool:
        """Whether a condition held."""
        found = self._entry((condition.space or self._space) + condition.key, 0)
        if condition.aspect is Aspect.VALUE:
            # etcd calls no comparison with the value of an absent key true.
            return found is not None and (found.value == condition.wanted) is not condition.differs
        number = 0
        if found is not None:
            revised = condition.aspect is Aspect.REVISION
            number = found.revision if revised else found.created
        return (number == condition.wanted) is not condition.differs

    def result(self, operation: Operation) -> Result:
        """What an operation answered."""
        if isinstance(operation, Put):
            return None
        if isinstance(operation, DeletePrefix):
            begin = self._space + operation.prefix
            bounds = {"key": encode(begin), "range_end": encode(prefix_end(begin))}
            return int(self._read({**bounds, "count_only": True}).get("count", 0))
        found = self._entry(self._space + operation.key, len(self._space))
        return int(found is not None) if isinstance(operation, Delete) else found

    def _entry(self, key: str, start: int) -> Entry | None:
        found = self._read({"key": encode(key)}).get("kvs", ())
        return entry_of(found[0], start) if found else None

    def _read(self, body: Mapping[str, Any]) -> dict[str, Any]:
        revision = str(self._at.revision - 1)
        answer = self._calls.call(RANGE, {**body, "revision": revision})
        if moment_of(answer).cluster != self._at.cluster:
            raise EtcdError("this server has joined another collective since")
        return answer
