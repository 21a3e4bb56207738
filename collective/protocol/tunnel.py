"""A way through a door: once it is open, bytes pass both ways until either end closes.

It does not know what passes. Who may have one, and where it leads, the door's handler decides.

Invariants:
  * What the far end said before it closed still reaches the near one, where that says nothing
    more: to write to who has closed breaks the way. So who serves a call lets its caller close.
  * No more than a bounded part is held, however slow an end reads.
  * It ends by its deadline.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from collective.errors import CollectiveError, IdentityError, UnreachableError
from collective.protocol.peer import Check, unreachable, where
from collective.protocol.streams import let_it_read, served_by, tune, wait_for_the_kernel
from collective.protocol.upgrade import Upgrade
from collective.protocol.web import PeerCertificate, Requester

_SLICE = 65536
_READ = 16384
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class StreamPair:
    """Two streams to one place."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def abort(self) -> None:
        """Cut it at once."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Send what is left, and close; cut it where that takes long."""
        with suppress(OSError):
            self.writer.close()
            try:
                await asyncio.wait_for(self.writer.wait_closed(), _CLOSE_SECONDS)
            except asyncio.TimeoutError:
                self.abort()


class Tunnel(ABC):
    """A way that is yet to be opened.

    Attributes:
        seconds: how long it may last.
    """

    def __init__(self, seconds: float, done: Callable[[], None] = lambda: None) -> None:
        """Prepare.

        Args:
            seconds: how long it may last.
            done: is called once, when it has ended or was never opened.
        """
        self.seconds = seconds
        self._done: Callable[[], None] | None = done

    @property
    def leads_to(self) -> Requester | None:
        """Who is at the far end, None for software on this server, and before it is open."""
        return None

    @abstractmethod
    async def open(self) -> StreamPair:
        """Open it.

        Raises:
            CollectiveError: nobody is there, or it does not want to.
        """

    def close(self) -> None:
        """Note that it has ended."""
        done, self._done = self._done, None
        if done is not None:
            done()


class ToSocket(Tunnel):
    """A way to whoever listens on a unix socket here."""

    def __init__(
        self,
        path: Path,
        greeting: bytes,
        absent: CollectiveError,
        seconds: float,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            path: of the socket.
            greeting: what it is told first.
            absent: raised where nobody listens.
            seconds, done: see ``Tunnel``.
        """
        super().__init__(seconds, done)
        self._path = path
        self._greeting = greeting
        self._absent = absent

    async def open(self) -> StreamPair:
        """Connect, and greet."""
        connecting = asyncio.open_unix_connection(str(self._path), limit=_READ)
        try:
            ends = StreamPair(*await asyncio.wait_for(connecting, self.seconds))
        except (FileNotFoundError, ConnectionRefusedError):
            raise self._absent from None
        except (OSError, asyncio.TimeoutError) as error:
            reason = getattr(error, "strerror", None) or "it does not answer"
            raise UnreachableError(f"cannot pass on a call here: {reason}") from error
        wait_for_the_kernel(ends.writer.transport)
        ends.writer.write(self._greeting)
        return ends


@dataclass(frozen=True)
class Way:
    """How another server's door is reached.

    Attributes:
        name: of the server.
        host, port: where it is.
        context: with our own certificate.
        check: see ``collective.protocol.peer.PeerClient``.
    """

    name: str
    host: str
    port: int
    context: ssl.SSLContext
    check: Check


class ToDoor(Tunnel):
    """A way through the door of another server."""

    def __init__(
        self,
        way: Way,
        target: str,
        seconds: float,
        open_seconds: float,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            way: to the door.
            target: path and query of the request.
            seconds, done: see ``Tunnel``.
            open_seconds: how long it may take to be let in.
        """
        super().__init__(seconds, done)
        self._way = way
        self._target = target
        self._open_seconds = open_seconds
        self._leads_to: Requester | None = None

    @property
    def leads_to(self) -> Requester | None:
        """Who is at the far end."""
        return self._leads_to

    async def open(self) -> StreamPair:
        """Connect, verify who is there, and be let through."""
        try:
            return await asyncio.wait_for(self._open(), self._open_seconds)
        except asyncio.TimeoutError:
            error: Exception = TimeoutError()
        except OSError as raised:
            error = raised
        raise unreachable(self._way.host, self._way.port, error, self._open_seconds) from error

    async def _open(self) -> StreamPair:
        reader, writer = await asyncio.open_connection(
            self._way.host, self._way.port, ssl=self._way.context, limit=_READ
        )
        ends = StreamPair(reader, writer)
        try:
            self._verify(writer)
            wait_for_the_kernel(writer.transport)
            tune(writer.get_extra_info("socket"))
            await self._be_let_in(ends)
            let_it_read(writer.get_extra_info("socket"))
        except BaseException:
            ends.abort()
            raise
        return ends

    def _verify(self, writer: asyncio.StreamWriter) -> None:
        here = where(self._way.host, self._way.port)
        fingerprint = served_by(writer.transport)
        objection = self._way.check(fingerprint)
        if objection is not None:
            raise IdentityError(f"will not talk to {here}: {objection}")
        certificate = PeerCertificate(self._way.name, fingerprint)
        self._leads_to = Requester("tls", self._way.host, certificate)

    async def _be_let_in(self, ends: StreamPair) -> None:
        """Ask for the tunnel, and raise what is answered in its place."""
        asking = Upgrade(self._target, where(self._way.host, self._way.port))
        ends.writer.write(asking.request)
        await ends.writer.drain()
        while not asking.hear(await ends.reader.read(_READ)):
            pass


async def through(near: StreamPair, far: StreamPair, seconds: float) -> None:
    """Pass bytes both ways until either end closes, or time is up; the far one is closed then."""
    ways = [
        asyncio.ensure_future(_copy(near.reader, far.writer)),
        asyncio.ensure_future(_copy(far.reader, near.writer)),
    ]
    try:
        await asyncio.wait(ways, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        await far.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_SLICE):
            writer.write(data)
            await writer.drain()
