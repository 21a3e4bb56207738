"""Many keys written in a row, as many at a time as etcd takes, without a wait for each.

Invariants:
  * The keys of ``items`` are taken as they are needed: a tree need not fit in memory.
  * Where it fails, all that was sent before has been answered, or given up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from collective.errors import CollectiveError, InDoubtError, InputError
from collective.store.batching import BATCH_OPERATIONS
from collective.store.deadline import deadline_in
from collective.store.values import Moment, Outcome, Put, Transaction
from collective.store.write_batcher import Write, WriteBatcher

#: Gets how many keys, and bytes of keys and values, are written.
Progress = Callable[[int, int], object]

_AT_ONCE = 4
_BYTES = 1 << 19


def load(
    write_batcher: WriteBatcher,
    items: Iterable[tuple[str, bytes]],
    progress: Progress | None,
    seconds: float,
    heard: Callable[[Moment], object],
    given_up: threading.Event | None = None,
) -> int:
    """Write keys; return how many.

    Args:
        write_batcher: makes the writes.
        items: keys and values.
        progress: told after each request.
        seconds: deadline of each request.
        heard: told the moment of each request that was answered.
        given_up: set where nobody waits any more: then nothing more is sent.

    Raises:
        CollectiveError: one could not be written; the message says how many were.
    """
    count = size = 0
    under_way: deque[Write] = deque()
    in_doubt: list[InDoubtError] = []

    def settle_one() -> None:
        nonlocal count, size
        write = under_way.popleft()
        try:
            outcome = write_batcher.result(write)
        except InDoubtError as error:
            in_doubt.append(error)
            raise
        heard(outcome.moment)
        count += len(write.transaction.then)
        size += write.transaction.size

    def see_through() -> None:
        while under_way:
            with suppress(CollectiveError):
                settle_one()

    def settle_down_to(most: int) -> None:
        while len(under_way) > most:
            settle_one()
            if progress is not None:
                progress(count, size)

    try:
        for puts in in_groups(items):
            if given_up is not None and given_up.is_set():
                break
            under_way.append(write_batcher.submit(Transaction(then=puts), seconds))
            settle_down_to(_AT_ONCE - 1)
        settle_down_to(0)
    except CollectiveError as error:
        see_through()
        message = f"{error.message}; {count} keys were loaded"
        if in_doubt:
            raise InDoubtError(message, in_doubt[0].hint, partial(_settled, in_doubt)) from error
        raise type(error)(message, error.hint) from error
    except BaseException:
        see_through()
        raise
    return count


def _settled(errors: Sequence[InDoubtError], seconds: float) -> Outcome | None:
    """Return an outcome where all that was in doubt was made, None where something never is."""
    deadline = deadline_in(seconds)
    told: list[Outcome | None] = []
    for error in errors:
        if error.outcome is None:
            raise error
        told.append(error.outcome(max(deadline - monotonic(), 0.0)))
    return None if None in told else told[-1]


def in_groups(items: Iterable[tuple[str, bytes]]) -> Iterator[tuple[Put, ...]]:
    """Yield what goes into one transaction each: no key twice, not too many, not too large.

    What came before a key or value that is not good is yielded before that is raised.
    """
    group: dict[str, Put] = {}
    size = 0
    for key, value in items:
        try:
            put = Put(key, value)
        except InputError:
            if group:
                yield tuple(group.values())
            raise
        weight = len(key) + len(value)
        if group and (key in group or len(group) >= BATCH_OPERATIONS or size + weight > _BYTES):
            yield tuple(group.values())
            group, size = {}, 0
        group[key] = put
        size += weight
    if group:
        yield tuple(group.values())
