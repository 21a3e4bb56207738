"""Many keys written in a row, as many at a time as etcd takes, without a wait for each.

Invariants:
  * The keys of ``items`` are taken as they are needed: a tree need not fit in memory.
  * Where it fails, all that was sent before has been answered, or given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from collective.errors import CollectiveError
from collective.store.committer import Committer, Write
from collective.store.values import MOST_OPERATIONS, Moment, Put, Transaction

#: Gets how many keys, and bytes of keys and values, are written.
Progress = Callable[[int, int], object]

_AT_ONCE = 4
_BYTES = 1 << 19


def load(
    committer: Committer,
    items: Iterable[tuple[str, bytes]],
    progress: Progress | None,
    seconds: float,
    heard: Callable[[Moment], object],
) -> int:
    """Write keys; return how many.

    Args:
        committer: makes the writes.
        items: keys and values.
        progress: told after each request.
        seconds: deadline of each request.
        heard: told the moment of each request that was answered.

    Raises:
        CollectiveError: one could not be written; the message says how many were.
    """
    count = size = 0
    under_way: deque[Write] = deque()

    def settle_one() -> None:
        nonlocal count, size
        write = under_way.popleft()
        heard(committer.result(write).moment)
        count += len(write.transaction.then)
        size += write.transaction.size
        if progress is not None:
            progress(count, size)

    try:
        for puts in in_groups(items):
            under_way.append(committer.submit(Transaction(then=puts), seconds))
            while len(under_way) >= _AT_ONCE:
                settle_one()
        while under_way:
            settle_one()
    except CollectiveError as error:
        _see_through(committer, under_way)
        raise type(error)(
            f"{error.message}; {count} keys were loaded before", error.hint
        ) from error
    except BaseException:
        _see_through(committer, under_way)
        raise
    return count


def in_groups(items: Iterable[tuple[str, bytes]]) -> Iterator[tuple[Put, ...]]:
    """Yield what goes into one transaction each: no key twice, not too many, not too large."""
    group: dict[str, Put] = {}
    size = 0
    for key, value in items:
        put = Put(key, value)
        weight = len(key) + len(value)
        if group and (key in group or len(group) >= MOST_OPERATIONS or size + weight > _BYTES):
            yield tuple(group.values())
            group, size = {}, 0
        group[key] = put
        size += weight
    if group:
        yield tuple(group.values())


def _see_through(committer: Committer, under_way: Iterable[Write]) -> None:
    for write in under_way:
        try:
            committer.result(write)
        except CollectiveError:
            continue
