"""So much of something, of which each origin gets a bounded part; who finds none waits its turn.

It does not know what is shared out: threads, open streams, or bytes. It belongs to one event loop.

Invariants:
  * No origin has more than its part, but for one single piece that is larger than that.
  * Who waits for its own origin's part keeps nobody else waiting.
  * Among those whose origin's part has room, who came first is first served: a large piece is not
    kept waiting by small ones.
  * No more than a bounded number of one origin wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from collective.errors import RefusedError


@dataclass(eq=False)
class _Turn:
    """Somebody who wants an amount; ``given`` is done when it has that."""

    origin: str
    amount: int
    given: asyncio.Future[None]


class Shares:
    """The books of what is shared out."""

    def __init__(self, total: int, per_origin: int, waiting: int = 0) -> None:
        """Make books in which nothing is taken.

        Args:
            total: how much there is.
            per_origin: the part of one origin.
            waiting: how many of one origin may wait.
        """
        self._total = total
        self._per_origin = per_origin
        self._waiting = waiting
        self._taken: Counter[str] = Counter()
        self._sum = 0
        self._queue: list[_Turn] = []

    @property
    def taken(self) -> int:
        """How much is taken now."""
        return self._sum

    async def take(self, origin: str, amount: int = 1, seconds: float = 0.0) -> Callable[[], None]:
        """Take an amount, and return what gives it back, to be called once.

        Args:
            origin: whose part it is of.
            amount: how much; nothing is always there.
            seconds: how long to wait for it.

        Raises:
            RefusedError: it was not there in time, or too many of the same origin wait already.
        """
        if amount <= 0:
            return lambda: None
        turn = _Turn(origin, amount, asyncio.get_running_loop().create_future())
        waiting = sum(other.origin == origin for other in self._queue)
        self._queue.append(turn)
        self._serve()
        if not turn.given.done():
            await self._wait(turn, seconds if waiting < self._waiting else 0.0)
        return partial(self._give_back, turn)

    async def _wait(self, turn: _Turn, seconds: float) -> None:
        """Wait for a turn, and take it back where it does not come."""
        try:
            if seconds > 0:
                await asyncio.wait([turn.given], timeout=seconds)
        except BaseException:
            if turn.given.done():
                self._give_back(turn)
            raise
        finally:
            if not turn.given.done():
                self._queue.remove(turn)
                self._serve()
        if not turn.given.done():
            raise RefusedError(
                f"{turn.origin} asks too much at once", "try again in a few seconds"
            )

    def _serve(self) -> None:
        """Give what there is to those whose turn it is."""
        held_up: set[str] = set()
        for turn in list(self._queue):
            had = self._taken[turn.origin]
            if turn.origin in held_up or (had and had + turn.amount > self._per_origin):
                held_up.add(turn.origin)
                continue
            if self._sum and self._sum + turn.amount > self._total:
                return
            self._queue.remove(turn)
            self._taken[turn.origin] += turn.amount
            self._sum += turn.amount
            turn.given.set_result(None)

    def _give_back(self, turn: _Turn) -> None:
        self._taken[turn.origin] -= turn.amount
        self._sum -= turn.amount
        if not self._taken[turn.origin]:
            del self._taken[turn.origin]
        self._serve()
