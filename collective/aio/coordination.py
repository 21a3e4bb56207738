"""Sessions, locks, elections and assignments for asyncio.

Arguments and errors are those of ``collective.coordination``. What waits for others does so in a
thread of its own, and a task that is cancelled leaves nothing behind: a lock that comes then is
given back, a place in the queue is left within half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from types import TracebackType

from collective.aio.bridging import Closing, called_in_this_loop, in_thread
from collective.coordination import assignments as threaded
from collective.coordination import locks
from collective.coordination.assignments import SESSION_SECONDS
from collective.coordination.lock_queue import Contender, Hold
from collective.coordination.locks import ANSWER_SECONDS, SECONDS
from collective.errors import RefusedError
from collective.store.store import SECONDS as WRITE_SECONDS
from collective.store.values import Condition
from collective.store.watching import Watch

# The task in which a callback runs; one that it begins has this too, and is another.
_INSIDE: ContextVar[asyncio.Task[object] | None] = ContextVar("inside", default=None)

#: What is called with nodes: a function of the loop, or a coroutine function.
Callback = Callable[[list[str]], "Awaitable[object] | object"]


class Holding(Closing):
    """A lock or a lead that is held, or was."""

    def __init__(self, sync: Hold) -> None:
        self.sync = sync

    @property
    def token(self) -> int:
        """Its fencing token."""
        return self.sync.token

    @property
    def fence(self) -> Condition:
        """The condition that it is held, for ``when=`` of a write."""
        return self.sync.fence

    @property
    def is_held(self) -> bool:
        """Whether it is held, as far as this server can tell."""
        return self.sync.is_held

    def check(self) -> None:
        """Raise unless it is held, see ``collective.coordination.lock_queue.Hold``."""
        self.sync.check()

    async def release(self) -> None:
        """Let the next one have it."""
        await in_thread(lambda _: self.sync.release())

    async def close(self) -> None:
        """Let the next one have it."""
        await self.release()


class Lock:
    """A lock; ``async with`` it gives what is held."""

    def __init__(self, sync: locks.Lock) -> None:
        self.sync = sync
        self._held: Holding | None = None

    async def __aenter__(self) -> Holding:
        if self._held is not None:
            raise RefusedError("this lock is held already, and is not re-entrant")
        self._held = await self.acquire()
        return self._held

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held, self._held = self._held, None
        if held is not None:
            await held.release()

    async def acquire(self, seconds: float = SECONDS) -> Holding:
        """Wait for the lock and hold it."""
        return Holding(await in_thread(lambda up: self.sync.acquire(seconds, up), Hold.release))

    async def try_acquire(self, seconds: float = ANSWER_SECONDS) -> Holding | None:
        """Hold the lock if it is free, else return None."""
        hold = await in_thread(lambda _: self.sync.try_acquire(seconds), _released)
        return None if hold is None else Holding(hold)

    def holder(self) -> Contender | None:
        """Return who holds it, as this server sees it."""
        return self.sync.holder()


def _released(hold: Hold | None) -> None:
    if hold is not None:
        hold.release()


class Election:
    """An election among servers."""

    def __init__(self, sync: locks.Election) -> None:
        self.sync = sync

    async def campaign(self, value: str = "", seconds: float = SECONDS) -> Holding:
        """Wait until we lead; ``release`` what is returned to resign."""
        return Holding(
            await in_thread(lambda up: self.sync.campaign(value, seconds, up), Hold.release)
        )

    def leader(self) -> Contender | None:
        """Return who leads, as this server sees it."""
        return self.sync.leader()

    def candidates(self) -> list[Contender]:
        """Return all who stand, the leader first."""
        return self.sync.candidates()

    def on_change(self, callback: Callable[[Contender | None], object]) -> Watch:
        """Have something called in this loop with the leader, if any, and at each change.

        A coroutine function is awaited to its end before the next change is told.
        """
        return self.sync.on_change(called_in_this_loop(callback))


class Assignments(Closing):
    """A group of nodes, each of which has one manager at a time."""

    def __init__(self, sync: threaded.Assignments) -> None:
        self.sync = sync

    async def define(
        self, nodes: Mapping[str, Iterable[str]] | Iterable[str], *, seconds: float = WRITE_SECONDS
    ) -> None:
        """Add nodes, or change who may manage them."""
        await in_thread(lambda _: self.sync.define(nodes, seconds=seconds))

    async def remove(self, nodes: Iterable[str], *, seconds: float = WRITE_SECONDS) -> None:
        """Take nodes out of the group."""
        await in_thread(lambda _: self.sync.remove(nodes, seconds=seconds))

    async def rebalance(self, *, seconds: float = WRITE_SECONDS) -> None:
        """Ask for level loads."""
        await in_thread(lambda _: self.sync.rebalance(seconds=seconds))

    def manager_of(self, node: str) -> str | None:
        """Return who manages a node, as this server sees it."""
        return self.sync.manager_of(node)

    def nodes_of(self, manager: str) -> list[str]:
        """Return the nodes that a server manages, as this server sees it."""
        return self.sync.nodes_of(manager)

    def managers(self) -> list[str]:
        """Return the managers that are there."""
        return self.sync.managers()

    def manage(
        self, gained: Callback, lost: Callback, *, session_seconds: int = SESSION_SECONDS
    ) -> Manager:
        """Take part as a manager; must be called in the loop in which both are to be called.

        Args:
            gained, lost: called in the loop, with nodes; a coroutine is awaited to its end
                before anything else is told, or a node goes to somebody else.
            session_seconds: how long our session outlives this process.
        """
        told = (called_in_this_loop(_inside(each)) for each in (gained, lost))
        return Manager(self.sync.manage(*told, session_seconds=session_seconds))

    async def close(self) -> None:
        """Close the managers of this group, and follow no longer."""
        await in_thread(lambda _: self.sync.close())


class Manager(Closing):
    """This process as a manager; closing it gives all nodes up."""

    def __init__(self, sync: threaded.Manager) -> None:
        self.sync = sync

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that we manage."""
        return self.sync.nodes

    def fence(self, node: str) -> Condition:
        """Return the condition that we manage a node still, for ``when=`` of a write."""
        return self.sync.fence(node)

    async def close(self) -> None:
        """Give up all nodes, after ``lost`` was called with them.

        Within a callback it does not wait: that has to return first.
        """
        if _INSIDE.get() is asyncio.current_task():
            self.sync.stop()
        else:
            await in_thread(lambda _: self.sync.close())


def _inside(callback: Callback) -> Callback:
    """Return what calls it, and lets a manager know that it is closed from within."""

    def call(nodes: list[str]) -> object:
        _INSIDE.set(asyncio.current_task())
        return callback(nodes)

    return call
