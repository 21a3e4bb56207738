"""What a task and the thread that works for it owe each other, whoever comes late."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from collective.aio import bridging
from collective.aio.bridging import called_in_this_loop, in_thread, run_in
from collective.errors import ClosedError
from tests.harness import wait_until

SECONDS = 10.0


async def given_up(call: Callable[[threading.Event], str], undo: Callable[[str], object]) -> None:
    """Cancel a task that waits for a thread."""
    task = asyncio.create_task(in_thread(call, undo))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_a_thread_made_or_raised_arrives() -> None:
    """And nothing of it is undone."""
    undone: list[str] = []

    def fail(_: threading.Event) -> str:
        raise ZeroDivisionError

    assert asyncio.run(in_thread(lambda _: "made", undone.append)) == "made"
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(fail, undone.append))
    assert undone == []


def test_what_is_made_for_nobody_is_undone() -> None:
    """The thread sees that nobody waits any more, and returns something all the same."""
    undone: list[str] = []

    def make(given_up: threading.Event) -> str:
        assert given_up.wait(SECONDS)
        return "made"

    asyncio.run(given_up(make, undone.append))
    wait_until(lambda: undone == ["made"], SECONDS, "it is undone")


def test_what_never_arrived_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made in time, and the loop was closed before it could be told."""
    undone: list[str] = []
    closed = threading.Event()
    call_in = bridging.call_in

    def late(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        assert closed.wait(SECONDS)
        call_in(loop, call)

    monkeypatch.setattr(bridging, "call_in", late)
    asyncio.run(given_up(lambda _: "made", undone.append))
    closed.set()
    wait_until(lambda: undone == ["made"], SECONDS, "it is undone")


def test_what_was_made_for_a_loop_that_is_gone_is_undone() -> None:
    """Its task was not even cancelled."""
    undone, go_on = list[str](), threading.Event()

    def make(_: threading.Event) -> str:
        assert go_on.wait(SECONDS)
        return "made"

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    task = loop.create_task(in_thread(make, undone.append))
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    del task
    gc.collect()
    go_on.set()
    wait_until(lambda: undone == ["made"], SECONDS, "it is undone")


def test_stop_iteration_out_of_a_thread_is_told() -> None:
    """A future takes none, and its task would wait for ever."""

    def fail(_: threading.Event) -> str:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(in_thread(fail), SECONDS))


def test_callbacks_that_return_something_to_await_are_awaited_in_order() -> None:
    """A coroutine function, a lambda around one, an object; a plain function is called."""
    told: list[tuple[str, int]] = []

    async def hear(name: str, number: int) -> None:
        await asyncio.sleep(0.02 / (number + 1))
        told.append((name, number))

    class Listener:
        async def __call__(self, number: int) -> None:
            await hear("object", number)

    async def function(number: int) -> None:
        await hear("function", number)

    async def play() -> None:
        callbacks: list[Callable[[int], object]] = [
            function,
            Listener(),
            lambda number: hear("lambda", number),
            lambda number: told.append(("plain", number)),
        ]
        for callback in map(called_in_this_loop, callbacks):

            def tell(_: threading.Event, call: Callable[[int], object] = callback) -> None:
                for number in range(3):
                    call(number)

            await in_thread(tell)

    asyncio.run(play())
    assert told == [
        (name, number) for name in ("function", "object", "lambda", "plain") for number in range(3)
    ]


def test_loop_that_ends_with_a_coroutine_in_it_says_so() -> None:
    """To the thread that waits for it, in one of our own errors."""
    caught: list[BaseException] = []
    begun = threading.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.sleep(3600.0)

    async def play() -> None:
        loop = asyncio.get_running_loop()

        def wait() -> None:
            try:
                run_in(loop, endless())
            except BaseException as error:
                caught.append(error)

        threading.Thread(target=wait).start()
        while not begun.is_set():
            await asyncio.sleep(0.01)

    asyncio.run(play())
    wait_until(lambda: caught, SECONDS, "it is told")
    assert type(caught[0]) is ClosedError
