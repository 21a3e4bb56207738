"""Is there an order of what concurrent clients did that explains what each of them was told?

The algorithm is that of Wing and Gong, with Lowe's memory of what was tried: from all that could
have happened next one is taken, and taken back where that leads nowhere. Keys are independent of
each other (linearizability is local: Herlihy and Wing, 1990), so each is checked for itself.

It does not say where a history breaks, only which key's does.

Invariants:
  * What was answered has to fit at some moment between its call and its answer.
  * What is in doubt may have happened at any moment after its call, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

FOREVER = float("inf")
Value = bytes | None


class Kind(Enum):
    """What a client did."""

    PUT = "put"
    GET = "get"
    COMPARE_AND_SET = "compare and set"
    DELETE = "delete"


@dataclass(frozen=True)
class Done:
    """One call of one client.

    Attributes:
        key: it was about.
        kind: what was called.
        called, answered: by one clock for all clients; ``FOREVER`` for what is in doubt.
        value: that was written, or, of a GET, that was read.
        expected: of a COMPARE_AND_SET.
        succeeded: of a COMPARE_AND_SET, or whether a DELETE found something.
    """

    key: str
    kind: Kind
    called: float
    answered: float = FOREVER
    value: Value = None
    expected: Value = None
    succeeded: bool = True

    @property
    def in_doubt(self) -> bool:
        """Whether nobody was told what became of it."""
        return self.answered == FOREVER


def broken_keys(history: Iterable[Done]) -> list[str]:
    """Return the keys whose history no order explains; each has nothing stored at first."""
    by_key: dict[str, list[Done]] = {}
    for done in history:
        by_key.setdefault(done.key, []).append(done)
    return sorted(key for key, part in by_key.items() if not is_linearizable(part))


def is_linearizable(history: Sequence[Done], initial: Value = None) -> bool:
    """Tell whether some order of one key's calls explains all answers.

    Args:
        history: of one key, in any order.
        initial: what is stored at first.
    """
    calls = sorted(history, key=lambda done: done.called)
    certain = sum(1 << number for number, done in enumerate(calls) if not done.in_doubt)
    tried: set[tuple[int, Value]] = set()
    # Each entry: which calls have happened, what is stored then.
    todo: list[tuple[int, Value]] = [(0, initial)]
    while todo:
        happened, stored = todo.pop()
        if happened & certain == certain:
            return True
        for number in _possible(calls, happened):
            for now in _after(calls[number], stored):
                step = (happened | 1 << number, now)
                if step not in tried:
                    tried.add(step)
                    todo.append(step)
    return False


def _possible(calls: Sequence[Done], happened: int) -> Iterator[int]:
    """Yield the calls that may be next: made before any other one was answered that is left."""
    first_answer = FOREVER
    left = []
    for number, done in enumerate(calls):
        if done.called > first_answer:
            break
        if not happened >> number & 1:
            left.append(number)
            first_answer = min(first_answer, done.answered)
    for number in left:
        if calls[number].called <= first_answer:
            yield number


def _after(done: Done, stored: Value) -> Iterator[Value]:
    """Yield what is stored after a call, if its answer fits what was stored before."""
    if done.kind is Kind.GET:
        if done.in_doubt or done.value == stored:
            yield stored
    elif done.kind is Kind.PUT:
        yield done.value
    elif done.kind is Kind.DELETE:
        if done.in_doubt or done.succeeded == (stored is not None):
            yield None
    elif done.in_doubt or done.succeeded == (stored == done.expected):
        yield done.value if stored == done.expected else stored
