"""What is queued for Confluent's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from confluent_collective.flavours import AsyncioFlavour


def test_watcher_that_fails_keeps_nothing_else_out() -> None:
    """What watches nodes is awaited; the nodes go all the same, and so does what comes next."""
    done: list[str] = []

    async def fail() -> None:
        raise ValueError

    def work(name: str) -> Generator[Any, None, None]:
        yield fail()
        done.append(name)

    async def run() -> None:
        flavour = AsyncioFlavour()
        flavour.queue(lambda: work("one"))
        flavour.queue(lambda: work("two"))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(done) == 2:
                break
        flavour._task.cancel()

    asyncio.run(run())
    assert done == ["one", "two"]
