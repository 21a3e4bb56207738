"""A small CONNECT proxy on loopback: leads etcd to where the other members are now.

etcd dials the addresses that it has stored, and cannot be told others without a quorum. It does
obey HTTPS_PROXY, so this stands in between and connects to somewhere else. TLS goes through it
end to end: it sees nothing, and what etcd verifies stays the same.

It does not know who is where; its caller does.

Invariants:
  * It listens on loopback only, and connects to nothing but what it was given.
  * A connection that says nothing is closed; so are those of a target that does not answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

log = logging.getLogger(__name__)

Place = tuple[str, int]

_REQUEST = re.compile(rb"CONNECT \[?([0-9A-Za-z.:%-]{1,64}?)\]?:([0-9]{1,5}) HTTP/1\.[01]\r\n")
_HEAD_BYTES = 4096
_HEAD_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
_CHUNK_BYTES = 65536
_MOST_CONNECTIONS = 64


class TunnelProxy:
    """The proxy, with a thread of its own."""

    def __init__(self, ways: Mapping[Place, Place]) -> None:
        """Prepare.

        Args:
            ways: from what is dialled to what it is connected to.
        """
        self._ways = dict(ways)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="detour", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Begin to listen, on a port that the kernel chooses."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_CLOSE_SECONDS)

    def lead(self, ways: Mapping[Place, Place]) -> None:
        """Lead connections that are opened from now on elsewhere."""
        self._ways = dict(ways)

    def stop(self) -> None:
        """Close everything, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """What HTTPS_PROXY is to say."""
        return f"http://127.0.0.1:{self.port}"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES, family=socket.AF_INET
        )
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= _MOST_CONNECTIONS:
                await self._lead_one(reader, writer)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("a connection by a detour ended: %s", error)
        except asyncio.CancelledError:
            log.debug("a connection by a detour is closed with it")
        except asyncio.LimitOverrunError:
            log.debug("a request for a detour was too long")
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _lead_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_SECONDS)
        match = _REQUEST.match(head)
        target = self._ways.get((match[1].decode(), int(match[2]))) if match else None
        if target is None:
            log.debug("a detour was refused: %r", head[:100])
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        try:
            there = await asyncio.wait_for(asyncio.open_connection(*target), _CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        try:
            _keep_alive(there[1])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _join((reader, writer), there)
        finally:
            there[1].close()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice a target that vanished: a stream of raft may be quiet for long."""
    sock = writer.get_extra_info("socket")
    if isinstance(sock, socket.socket) or hasattr(sock, "setsockopt"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_CLOSE_SECONDS * 1000))


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(here: Stream, there: Stream) -> None:
    """Pass bytes on in both directions until either ends."""
    pumps = [
        asyncio.ensure_future(_pump(here[0], there[1])),
        asyncio.ensure_future(_pump(there[0], here[1])),
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(_CHUNK_BYTES):
            writer.write(part)
            await writer.drain()
