"""What a door shares out is given in turn, and no origin gets more than its part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from collective.errors import RefusedError
from collective.protocol.shares import Shares

LONG = 30.0
GiveBack = Callable[[], None]


class Asker:
    """Somebody who wants an amount, in a task of its own."""

    def __init__(self, shares: Shares, origin: str, amount: int = 1) -> None:
        self.task = asyncio.ensure_future(shares.take(origin, amount, LONG))

    def end(self) -> None:
        self.task.result()()


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def served(*askers: Asker) -> list[bool]:
    await settle()
    return [asker.task.done() for asker in askers]


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def test_origin_gets_no_more_than_its_part_and_the_others_get_theirs() -> None:
    """Who asks for much waits for itself alone."""

    async def scene() -> None:
        shares = Shares(4, 2, 9)
        greedy = [Asker(shares, "a") for _ in range(4)]
        assert await served(*greedy) == [True, True, False, False]
        assert await served(Asker(shares, "b")) == [True]
        greedy[1].end()
        assert await served(*greedy) == [True, True, True, False]
        assert shares.taken == 3
        greedy[3].task.cancel()
        await settle()

    run(scene())


def test_what_is_full_is_given_in_the_order_of_asking() -> None:
    """A large piece is not passed by small ones of others, once its own part has room for it."""

    async def scene() -> None:
        shares = Shares(10, 8, 9)
        first, second = Asker(shares, "a", 5), Asker(shares, "b", 5)
        large, small = Asker(shares, "c", 8), Asker(shares, "d", 1)
        assert await served(first, second, large, small) == [True, True, False, False]
        first.end()
        assert await served(large, small) == [False, False]
        second.end()
        assert await served(large, small) == [True, True]

    run(scene())


def test_one_piece_larger_than_all_is_taken_alone() -> None:
    """What can never fit is not waited for in vain."""

    async def scene() -> None:
        shares = Shares(10, 5, 9)
        large, other = Asker(shares, "a", 50), Asker(shares, "b", 1)
        assert await served(large, other) == [True, False]
        large.end()
        assert await served(other) == [True]

    run(scene())


def test_nothing_is_had_at_once_though_all_is_taken() -> None:
    """A request without a body does not wait for room."""

    async def scene() -> None:
        shares = Shares(1, 1, 0)
        await shares.take("a")
        (await shares.take("a", 0))()
        assert shares.taken == 1

    run(scene())


def test_origin_of_which_too_many_wait_is_refused_at_once() -> None:
    """The refusal names who asks too much; those that wait go on waiting."""

    async def scene() -> None:
        shares = Shares(9, 1, 2)
        askers = [Asker(shares, "mgt3") for _ in range(3)]
        await settle()
        with pytest.raises(RefusedError, match="mgt3 asks too much at once"):
            await shares.take("mgt3", 1, LONG)
        askers[0].end()
        assert await served(*askers) == [True, True, False]
        askers[1].end()
        assert await served(*askers) == [True, True, True]

    run(scene())


def test_who_waited_in_vain_is_refused_and_leaves_nothing_behind() -> None:
    """Time is up, or the task is cancelled: what it would have got is there for the next."""

    async def scene() -> None:
        shares = Shares(1, 1, 9)
        give_back = await shares.take("a")
        with pytest.raises(RefusedError):
            await shares.take("a", 1, 0.001)
        gone, next_one = Asker(shares, "a"), Asker(shares, "a")
        await settle()
        gone.task.cancel()
        await settle()
        give_back()
        assert await served(next_one) == [True]
        next_one.end()
        assert shares.taken == 0

    run(scene())


def test_who_is_cancelled_as_it_is_served_gives_back() -> None:
    """Between the two nothing gets lost."""

    async def scene() -> None:
        shares = Shares(1, 1, 9)
        give_back = await shares.take("a")
        late = Asker(shares, "a")
        await settle()
        give_back()
        late.task.cancel()
        await settle()
        assert shares.taken == 0

    run(scene())
