"""The handle for asyncio: the same calls, awaited.

It adds nothing to what ``collective.handle`` does; what needs no waiting, such as ``members`` and
a cached read, does not suspend. ``bridging`` goes from a loop to the threads of a handle and back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from collective import handle as threaded
from collective.aio import calls
from collective.aio.bridging import Closing, called_in_this_loop, in_thread
from collective.aio.calls import Call, Handler, ServedCall
from collective.aio.coordination import Assignments, Election, Holding, Lock, Manager
from collective.aio.store import Store, Watching
from collective.calls.call import told_apart
from collective.calls.protocol_state import SECONDS
from collective.calls.service import MOST, Service
from collective.coordination import session as sessions
from collective.coordination.assignments import GRACE_SECONDS
from collective.coordination.session import Session
from collective.errors import ClosedError, DegradedCollective
from collective.handle import CONNECT_SECONDS, PROOF_SECONDS
from collective.membership import Member, MemberChange
from collective.protocol.frames import check_message
from collective.store.quorum import QuorumState, QuorumSubscription
from collective.store.watching import Watch

__all__ = [
    "Assignments",
    "Call",
    "Collective",
    "Election",
    "Holding",
    "Lock",
    "Manager",
    "ServedCall",
    "Store",
    "Watching",
    "connect",
]


async def connect(
    root: str | Path | None = None, *, seconds: float = CONNECT_SECONDS
) -> Collective:
    """Return a handle on the collective of this server, see ``collective.connect``."""
    return Collective(
        await in_thread(
            lambda _: threaded.connect(root, seconds=seconds), threaded.Collective.close
        )
    )


class Collective(Closing):
    """A handle for tasks; ``sync`` is the same one for threads.

    Attributes:
        name: of this server.
        sync: the handle underneath.
        store: what the members share.
    """

    def __init__(self, sync: threaded.Collective) -> None:
        """Wrap a handle; it is closed with this one."""
        self.sync = sync
        self.name = sync.name
        self.store = Store(sync.store)

    async def close(self) -> None:
        """End it, see ``collective.handle.Collective.close``."""
        await in_thread(lambda _: self.sync.close())

    # Membership ------------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """Return all members, see ``collective.handle.Collective.members``."""
        return self.sync.members()

    def member(self, name: str) -> Member:
        """Return one member, see ``collective.handle.Collective.member``."""
        return self.sync.member(name)

    @property
    def in_collective(self) -> bool:
        """Whether there are other members than this server."""
        return self.sync.in_collective

    async def leader(self) -> str | None:
        """Return who leads, see ``collective.handle.Collective.leader``."""
        return await in_thread(lambda _: self.sync.leader())

    async def quorum(self) -> bool:
        """Return whether a quorum answers now."""
        try:
            await self.check_quorum()
        except DegradedCollective:
            return False
        return True

    async def check_quorum(self, seconds: float = PROOF_SECONDS) -> None:
        """Raise unless a quorum answers now, see ``collective.handle.Collective``."""
        try:
            await self.store.newest(seconds)
        except DegradedCollective as error:
            why = await in_thread(lambda _: self.sync.why_at_rest())
            if why is None:
                raise
            raise why from error

    @property
    def last_quorum(self) -> QuorumState:
        """Whether there is a quorum, as it was last proven, and how long ago."""
        return self.sync.last_quorum

    def on_quorum_change(
        self, callback: Callable[[QuorumState], object], *, initial: bool = False
    ) -> QuorumSubscription:
        """Have something called in this loop when the quorum is lost, and when it is back.

        Args:
            callback: a function, or a coroutine function, which is awaited to its end.
            initial: as for ``collective.handle.Collective.on_quorum_change``.
        """
        return self.sync.on_quorum_change(called_in_this_loop(callback), initial=initial)

    def on_member_change(
        self, callback: Callable[[MemberChange], object], *, initial: bool = False
    ) -> Watch:
        """Have something called in this loop with each change of the members, in order.

        Args:
            callback: a function, or a coroutine function, which is awaited to its end before the
                next change is told.
            initial: as for ``collective.handle.Collective.on_member_change``.
        """
        return self.sync.on_member_change(called_in_this_loop(callback), initial=initial)

    # Coordination ----------------------------------------------------------------------------

    async def session(self, seconds: int = sessions.SECONDS) -> Session:
        """Open a session; end it with ``close_session``."""
        return await in_thread(lambda _: self.sync.session(seconds), Session.close)

    async def close_session(self, session: Session) -> None:
        """End a session, and with it all that is held in it."""
        await in_thread(lambda _: session.close())

    def lock(self, name: str, session: Session | None = None) -> Lock:
        """Return a lock of the whole collective, by its name."""
        return Lock(self.sync.lock(name, session))

    def election(self, name: str, session: Session | None = None) -> Election:
        """Return an election, by its name."""
        return Election(self.sync.election(name, session))

    async def assignments(
        self, group: str = "nodes", *, grace: float = GRACE_SECONDS
    ) -> Assignments:
        """Return a group of nodes, each of which has one manager at a time."""
        return Assignments(
            await in_thread(
                lambda _: self.sync.assignments(group, grace=grace), lambda made: made.close()
            )
        )

    # Calls -----------------------------------------------------------------------------------

    def serve(self, service: str, handler: Handler, *, most: int = MOST) -> Service:
        """Serve calls in this loop, with a coroutine function; see ``collective.handle``."""
        loop = asyncio.get_running_loop()
        return self.sync.serve(service, calls.served_in(loop, handler), most=most)

    async def call(self, member: str, service: str, *, seconds: float = SECONDS) -> Call:
        """Call a service on another member: ``async with await handle.call(...) as call``."""
        return await calls.dial(lambda: self.sync.call(member, service, seconds=seconds))

    async def ask(
        self, member: str, service: str, message: bytes = b"", *, seconds: float = SECONDS
    ) -> bytes:
        """Call a service with one message, and return all that it answers, joined."""
        check_message(message)
        async with await self.call(member, service, seconds=seconds) as call:
            with told_apart(f"the call to {service} on {member}"):
                # A handler may answer without reading, and be done before we are.
                with suppress(ClosedError):
                    await call.send(message)
                await call.finish()
                answer = b"".join([part async for part in call])
                await call.wait_done()
                return answer
