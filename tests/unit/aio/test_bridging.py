"""What a task and the thread that works for it owe each other, whoever comes late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from collective.aio import bridging
from collective.aio.bridging import in_thread
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
