"""From a loop to the threads of a handle, and back."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TypeVar, cast

from collective.errors import ClosedError, CollectiveError
from collective.store.slot import Slot

log = logging.getLogger(__name__)

# How soon it is noticed that a loop was closed under a coroutine that was to run in it.
_LOOK_SECONDS = 1.0

T = TypeVar("T")
Self = TypeVar("Self", bound="Closing")


class Closing(ABC):
    """A context manager for tasks that closes itself."""

    @abstractmethod
    async def close(self) -> None:
        """End it; to close what is closed does nothing."""

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Have something called in a loop; return False where that is closed: nobody waits then."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for so many seconds; return whether it came.

    ``asyncio.wait_for`` loses a cancellation that comes with the event, before Python 3.12.
    """
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting,), timeout=max(0.0, seconds))
    finally:
        waiting.cancel()
    return event.is_set()


def run_in(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    """Run a coroutine in a loop of another thread, and wait for its end.

    Raises:
        ClosedError: the loop was closed; besides, what the coroutine raises.
    """
    try:
        future = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise ClosedError("the loop that this is to run in was closed") from None
    while not wait([future], _LOOK_SECONDS).done:
        if loop.is_closed():
            raise ClosedError("the loop that this was to run in was closed")
    try:
        return future.result()
    except CancelledError:
        raise ClosedError("the loop that this ran in has ended it") from None


def called_in_this_loop(callback: Callable[[T], object]) -> Callable[[T], object]:
    """Return what another thread calls, to have a callback called in this loop.

    Args:
        callback: a function; what it returns is awaited, where that can be.
    """
    loop = asyncio.get_running_loop()

    async def told(what: T) -> None:
        answer = callback(what)
        if inspect.isawaitable(answer):
            await answer

    def call(what: T) -> None:
        # Where the loop is closed nobody is there to be told.
        with suppress(ClosedError):
            run_in(loop, told(what))

    return call


async def within(slot: Slot[T], seconds: float, give_up: Callable[[], None]) -> T:
    """Await what another thread settles; when time is up it is given up, which settles it."""
    loop, settled = asyncio.get_running_loop(), asyncio.Event()
    slot.when_settled(lambda: call_in(loop, settled.set))
    try:
        if not await is_set_within(settled, seconds):
            give_up()
    except asyncio.CancelledError:
        give_up()
        raise
    while not slot.wait(0.0):
        # Somebody else is just giving it its outcome.
        await asyncio.sleep(0)
    return slot.get()


async def in_thread(
    call: Callable[[threading.Event], T], undo: Callable[[T], object] = lambda made: None
) -> T:
    """Await a call that waits for others, in a thread of its own: those of the loop are few.

    Args:
        call: gets an event that is set when nobody waits for it any more.
        undo: gets what it returned all the same, in that thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    given_up, lock = threading.Event(), threading.Lock()
    # What was on its way to us when we gave it up: the loop may be closed before it arrives.
    sent: list[T] = []

    def settle(made: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, made))

    def run() -> None:
        try:
            made = call(given_up)
        except StopIteration as error:  # which no future takes
            call_in(loop, partial(settle, None, RuntimeError(f"StopIteration: {error}")))
            return
        except BaseException as error:
            call_in(loop, partial(settle, None, error))
            return
        with lock:
            sent.append(made)
            wanted = not given_up.is_set()
        if not wanted or not call_in(loop, partial(settle, made, None)):
            take_back()

    def take_back() -> None:
        with lock:
            late, sent[:] = list(sent), []
        for made in late:
            _undo(undo, made)

    threading.Thread(target=run, name="aio", daemon=True).start()
    try:
        return await future
    except BaseException:  # cancelled, or dropped with its loop
        with lock:
            given_up.set()
        if sent:
            threading.Thread(target=take_back, name="aio", daemon=True).start()
        raise


def _undo(undo: Callable[[T], object], made: T) -> None:
    try:
        undo(made)
    except CollectiveError as error:
        log.info("what nobody waited for could not be undone: %s", error)
