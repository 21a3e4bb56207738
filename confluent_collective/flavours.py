"""Confluent's two kinds: asyncio (the head) and eventlet without monkey patching (3.15).

Confluent's configuration belongs to the one thread that its loop or hub runs in. What comes from
the threads of a handle is queued for that thread, in order; what waits is done in others.

Invariants:
  * Nothing here blocks the loop or the hub.
  * What is queued is done in its order, one piece after the other; what a piece has spawned has
    begun when the next one does.
  * One change at a time is under way. Those behind it are refused where none can be made any more:
    the one that is, may be in doubt, and waits for long.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from confluent_collective.service import Steps

log = logging.getLogger(__name__)

Work = Callable[[], Generator[Any, None, None]]
Begin = Callable[[str, tuple[Any, ...]], Steps]
Refuse = Callable[[], None]
#: Changes that wait at a time; each waits in a thread.
_THREADS = 8
# How long what watches nodes may take before those are gone.
_WATCHER_SECONDS = 10.0
# How often one that waits for its turn looks whether it is refused.
_TURN_SECONDS = 0.5


class Flavour(ABC):
    """What runs work in Confluent's thread, and makes Confluent's functions of ours."""

    @abstractmethod
    def queue(self, work: Work) -> None:
        """Have work done in Confluent's thread, from any; it yields what is to be awaited."""

    @abstractmethod
    def changer(
        self, begin: Begin, refuse: Refuse, translate: Callable[[Exception], Exception]
    ) -> Any:
        """Return what takes the place of Confluent's ``exec_on_leader``.

        Args:
            begin: begins a change, by the name of its function and its arguments.
            refuse: raises where no change can be made now.
            translate: makes Confluent's exceptions of ours.
        """

    @abstractmethod
    def function(self, body: Callable[..., Any]) -> Any:
        """Return a function of Confluent's kind with a body that does not wait."""


class AsyncioFlavour(Flavour):
    """The head's."""

    def __init__(self) -> None:
        """Take the running loop, whose thread is Confluent's."""
        import asyncio

        self._asyncio = asyncio
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._queue: asyncio.Queue[Work] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="collective")
        self._task = self._loop.create_task(self._consume())

    def queue(self, work: Work) -> None:
        """Have work done in the loop."""
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, work)
        except RuntimeError:
            log.debug("Confluent's loop has ended")

    async def _consume(self) -> None:
        while True:
            work = await self._queue.get()
            try:
                for awaited in work():
                    await self._heard(awaited)
            except Exception:
                log.exception("what the collective says could not be taken up")
            await self._asyncio.sleep(0)

    async def _heard(self, awaited: Any) -> None:
        """Await one that watches; one that fails, or takes too long, keeps nothing up."""
        try:
            await self._asyncio.wait_for(awaited, _WATCHER_SECONDS)
        except Exception:
            log.exception("what watches nodes has failed")

    def changer(
        self, begin: Begin, refuse: Refuse, translate: Callable[[Exception], Exception]
    ) -> Any:
        """Return a coroutine function, see ``Flavour``."""

        async def exec_on_leader(function: str, *arguments: Any) -> Any:
            try:
                await self._take_turn(refuse)
                try:
                    return await self._drive(begin(function, arguments))
                finally:
                    self._lock.release()
            except Exception as error:
                raise translate(error) from error

        return exec_on_leader

    async def _take_turn(self, refuse: Refuse) -> None:
        """Acquire the lock, in the order of those who ask."""
        taking = self._loop.create_task(self._lock.acquire())
        try:
            while not taking.done():
                refuse()
                await self._asyncio.wait({taking}, timeout=_TURN_SECONDS)
        except BaseException:
            if taking.done() and not taking.cancelled():
                self._lock.release()
            taking.cancel()
            raise

    async def _drive(self, steps: Steps) -> Any:
        answer: Any = None
        try:
            while True:
                waits = steps.send(answer)
                answer = await self._loop.run_in_executor(self._threads, waits)
        except StopIteration as end:
            return end.value

    def function(self, body: Callable[..., Any]) -> Any:
        """Return a coroutine function that awaits what the body returns, if that can be."""

        async def of_confluent(*arguments: Any, **named: Any) -> Any:
            result = body(*arguments, **named)
            return await result if hasattr(result, "__await__") else result

        return of_confluent


class EventletFlavour(Flavour):
    """That of 3.15: greenlets in one thread, and nothing is patched."""

    def __init__(self, eventlet: Any) -> None:
        """Begin to do what is queued.

        Args:
            eventlet: the module, with ``tpool``, ``semaphore`` and ``hubs`` imported.
        """
        self._eventlet = eventlet
        self._lock = eventlet.semaphore.Semaphore(1)
        self._work: deque[Work] = deque()
        self._ready, self._wake = os.pipe()
        os.set_blocking(self._ready, False)
        os.set_blocking(self._wake, False)
        eventlet.spawn_n(self._consume)

    def queue(self, work: Work) -> None:
        """Have work done in the hub's thread; a pipe wakes it."""
        self._work.append(work)
        with suppress(BlockingIOError):  # where it is being woken anyway
            os.write(self._wake, b"x")

    def _consume(self) -> None:
        while True:
            self._eventlet.hubs.trampoline(self._ready, read=True)
            try:
                os.read(self._ready, 4096)
            except BlockingIOError:
                continue
            while self._work:
                try:
                    for _ in self._work.popleft()():
                        pass
                except Exception:
                    log.exception("what the collective says could not be taken up")
                self._eventlet.sleep(0)

    def changer(
        self, begin: Begin, refuse: Refuse, translate: Callable[[Exception], Exception]
    ) -> Any:
        """Return a function that waits as greenlets do, see ``Flavour``."""

        def exec_on_leader(function: str, *arguments: Any) -> Any:
            try:
                self._take_turn(refuse)
                try:
                    return self._drive(begin(function, arguments))
                finally:
                    self._lock.release()
            except Exception as error:
                raise translate(error) from error

        return exec_on_leader

    def _take_turn(self, refuse: Refuse) -> None:
        """Acquire the lock."""
        refuse()
        while not self._lock.acquire(timeout=_TURN_SECONDS):
            refuse()

    def _drive(self, steps: Steps) -> Any:
        answer: Any = None
        try:
            while True:
                waits = steps.send(answer)
                answer = self._eventlet.tpool.execute(waits)
        except StopIteration as end:
            return end.value

    def function(self, body: Callable[..., Any]) -> Any:
        """Return the body."""
        return body
