"""Calls to and from software on other servers, for asyncio: see ``collective.calls``.

They are the same calls, and the waiting is the loop's.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import monotonic

from collective.aio.bridging import Closing, in_thread, is_set_within, run_in
from collective.calls import call as threaded
from collective.calls.call_connection import TimeLeft
from collective.errors import ClosedError
from collective.protocol.frames import Caller

_MOMENT_SECONDS = 0.001
_AT_ONCE = 32

#: Serves a call: a coroutine function, or one that returns at once.
Handler = Callable[["ServedCall"], "Awaitable[bytes | None] | bytes | None"]


class Call(Closing):
    """One end of a call: ``async for`` over it gives the messages that come."""

    def __init__(self, sync: threaded.Call) -> None:
        self.sync = sync
        self._line = sync.line
        # Messages of two tasks must not mix, nor two of them wait for one.
        self._sending, self._receiving = asyncio.Lock(), asyncio.Lock()
        self._taken = 0

    @property
    def seconds_left(self) -> float:
        """How long the call may last still."""
        return self.sync.seconds_left

    async def send(self, data: bytes) -> None:
        """Send a message, see ``collective.calls.call.Call.send``."""
        await self._push(self.sync.framed(data))

    async def finish(self) -> None:
        """Say that no more messages come from here."""
        try:
            await self._push(self.sync.farewell())
        except ClosedError:
            self._line.check_open()  # else the other end is done, and needs not be told

    async def receive(self, seconds: float | None = None) -> bytes | None:
        """Return the next message, see ``collective.calls.call.Call.receive``."""
        until = None if seconds is None else monotonic() + seconds
        async with self._receiving:
            with self._line.receiving():
                while not self._line.has_next():
                    await self._ready(partial(self._line.patience, until))
                self._taken += 1
                if self._taken % _AT_ONCE == 0:
                    # One who never stops talking must not hold up the loop.
                    await asyncio.sleep(0)
                return self._line.take()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (found := await self.receive()) is not None:
            yield found

    async def wait_done(self) -> None:
        """Wait until the handler is done, see ``collective.calls.call.Call.wait_done``."""
        async with self._receiving:
            with self._line.receiving():
                while not self._line.is_done():
                    await self._ready(partial(self._line.patience, None))

    async def close(self) -> None:
        """End the call; what did not come, or did not arrive there yet, is dropped."""
        self.sync.close()

    async def _push(self, data: bytes) -> None:
        async with self._sending:
            while not self._line.sending.acquire(blocking=False):
                # A thread is just sending a sign of life, or how a call has ended.
                await asyncio.sleep(_MOMENT_SECONDS)
            rest = memoryview(data)
            try:
                with self._line.in_use():
                    while rest := self._line.send_now(rest):
                        await self._ready(self._line.patience_to_send, writes=True)
            except BaseException:
                if len(rest) < len(data) and not self._line.is_over:
                    # A part of the message is out, and nothing can follow it.
                    self.sync.close()
                raise
            finally:
                self._line.sending.release()

    async def _ready(self, patience: Callable[[], TimeLeft], *, writes: bool = False) -> None:
        """Wait until there is something to read, or room to write."""
        now = patience()
        loop, number, ready = asyncio.get_running_loop(), self._line.fileno(), asyncio.Event()
        (loop.add_writer if writes else loop.add_reader)(number, ready.set)
        try:
            if now.seconds > 0 and await is_set_within(ready, now.seconds):
                return
        finally:
            (loop.remove_writer if writes else loop.remove_reader)(number)
        self._line.check_open()
        # Somebody else may have heard of the other end meanwhile.
        then = patience()
        if then.seconds <= 0:
            raise then.error


class ServedCall(Call):
    """A call as who serves it has it.

    Attributes:
        caller: who calls.
    """

    def __init__(self, sync: threaded.ServedCall) -> None:
        super().__init__(sync)
        self.caller: Caller = sync.caller


async def dial(call: Callable[[], threaded.Call]) -> Call:
    """Make a call, which is closed where nobody waits for it any more."""
    return Call(await in_thread(lambda _: call(), lambda made: made.close()))


def served_in(loop: asyncio.AbstractEventLoop, handler: Handler) -> threaded.Handler:
    """Return a handler for threads that runs one in a loop, and waits for its end."""

    async def serve(sync: threaded.ServedCall) -> bytes | None:
        reply = handler(ServedCall(sync))
        return await reply if inspect.isawaitable(reply) else reply

    return lambda sync: run_in(loop, serve(sync))
