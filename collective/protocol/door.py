"""The doors of the daemon: a thread that serves HTTP on TLS ports and unix sockets.

It does not know a single route: a door's handler does. It does not check certificates against
the list of revoked ones: the handler does so at every request, and calls ``close_where``.

Invariants:
  * Strangers, members and unix sockets have threads of their own, so none can starve another;
    nor can one member the others: ``Limits`` says how many of these threads it has at most.
  * When ``close_where`` returns, no matching connection that was open can send or be sent a byte.
  * A TLS session is never resumed: each connection proves that its certificate is trusted now.
  * Whatever the network does, it causes at most one line a minute above debug level.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import threading
from asyncio import sslproto
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from operator import is_
from pathlib import Path
from typing import Any, TypeVar

from collective.protocol.connection import Connection, address_of
from collective.protocol.limits import Door, Limits
from collective.protocol.listening import bind_tcp, bind_unix, identity, remove_socket
from collective.protocol.streams import tune
from collective.protocol.web import Requester
from collective.protocol.workers import Workers

__all__ = ["Door", "DoorServer", "Limits"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_MakeContext = Callable[[], ssl.SSLContext]

_THREADS = {"anonymous": 8, "member": Limits.member_calls, "unix": 8, "store": 16}
# A member that does not vote has a stream open all its life, and so has whoever follows the store
# there. Threads are made when needed.
_STREAMS = {**_THREADS, "member": Limits.streams, "store": 128}
_CUT_SECONDS = 5.0
_ACCEPT_PAUSE_SECONDS = 0.1
_WARN_SECONDS = 60.0
_TLS_BUFFER = 16384
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def _shrink_tls_buffers() -> None:
    """Make asyncio's TLS take small pieces: requests are small, and strangers many.

    From Python 3.11 on each connection holds a buffer of 256 KiB, which is a class attribute of
    ``asyncio.sslproto.SSLProtocol`` and no setting. Python 3.10 has neither.
    """
    if hasattr(sslproto.SSLProtocol, "max_size"):
        sslproto.SSLProtocol.max_size = _TLS_BUFFER


def server_context(identity: Path, trusted: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context of a door that lets in whoever shows no certificate, or a trusted one.

    Args:
        identity: key and certificate that it shows, PEM.
        trusted: certificates, PEM, by fingerprint.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for fingerprint, pem in trusted.items():
        try:
            context.load_verify_locations(cadata=pem)
            context.verify_mode = ssl.CERT_OPTIONAL
        except ssl.SSLError as error:
            # One that OpenSSL does not take keeps nobody else out.
            _log.error("a certificate is left out: %s fingerprint=%s", error, fingerprint)
    context.load_cert_chain(identity)
    return without_resumption(context)


def without_resumption(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make a server's context ask for a whole handshake, and a certificate, each time."""
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


@dataclass
class _Listener:
    door: Door
    sock: socket.socket
    task: asyncio.Task[None]
    path: Path | None = None
    mode: int = 0
    inode: tuple[int, int] | None = None

    @property
    def is_gone(self) -> bool:
        """Whether its socket file was removed, or is another's."""
        try:
            return self.path is not None and identity(self.path) != self.inode
        except OSError:
            return True

    def is_at(self, host: str, port: int) -> bool:
        """Tell whether it listens there, on TCP."""
        return self.path is None and tuple(self.sock.getsockname()[:2]) == (host, port)


class DoorServer:
    """One thread with an event loop, and the sockets and connections that it looks after.

    Its methods may be called from any thread but its own; handlers run in other threads.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listeners: list[_Listener] = []
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._workers = {
            kind: Workers.make(kind, most, _STREAMS[kind]) for kind, most in _THREADS.items()
        }
        self._warned = float("-inf")

    def start(self) -> None:
        """Start the thread; nothing listens yet."""
        _shrink_tls_buffers()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_loop_error)
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)
        self._thread.start()

    def listen_tls(
        self, door: Door, host: str, port: int, context: Callable[[], ssl.SSLContext]
    ) -> tuple[str, int]:
        """Open a door on a TCP port.

        Args:
            door: what answers there.
            host: an address of this machine; ``::`` takes IPv4 as well.
            port: 0 lets the kernel choose.
            context: gives the server's context for each connection, with ``verify_mode`` set
                and session tickets off (see ``without_resumption``), so that other trust needs
                no other listener. A certificate loaded into it later (``between_handshakes``)
                is used by the handshakes that begin after that.

        Returns:
            The address and port that it listens on.

        Raises:
            AccessError: the port is reserved for root.
            InputError: the address is not here, or the port is taken.
        """
        sock = bind_tcp(host, port)
        self._call(self._listen(door, sock, context))
        address = sock.getsockname()
        return str(address[0]), int(address[1])

    def listen_unix(self, door: Door, path: Path, mode: int) -> None:
        """Open a door on a unix socket; a socket that nobody answers on any more is replaced.

        Args:
            door: what answers there.
            path: its folder must exist.
            mode: the rights of the socket file.

        Raises:
            AccessError: no right to the folder or to the file that is there.
            InputError: another process answers there, or what is there is no socket.
        """
        self._call(self._listen(door, bind_unix(path, mode), None, path, mode))

    def vanished(self) -> list[Path]:
        """Return the paths of unix sockets that were removed, and that nobody can reach so."""
        return [each.path for each in self._listeners if each.path is not None and each.is_gone]

    def listen_again(self, path: Path) -> None:
        """Make a unix socket again that was removed; who is connected stays so.

        Args:
            path: one of ``vanished``; its folder must exist.

        Raises:
            AccessError, InputError: as for ``listen_unix``.
        """
        for gone in [each for each in self._listeners if each.path == path]:
            self.listen_unix(gone.door, path, gone.mode)
            self._call(self._stop_listening(partial(is_, gone)))

    def between_handshakes(self, action: Callable[[], _Result]) -> _Result:
        """Run something quick while no handshake makes a step, and return what it returns.

        For ``load_cert_chain`` on a context in use: OpenSSL reads the certificate and the key one
        after the other, and a handshake that begins in between fails.
        """

        async def act() -> _Result:
            return action()

        return self._call(act())

    def close_where(self, predicate: Callable[[Requester], bool]) -> int:
        """Cut the open connections of some peers, or that lead to them, and wait until that is so.

        A request that such a peer has in a handler runs on, but its answer goes nowhere. A
        connection still in its handshake is not matched: its first request meets the handler.

        Args:
            predicate: must be quick and must not call this object.

        Returns:
            How many were cut.
        """
        if self._loop is None:
            return 0
        return self._call(self._close_where(predicate))

    def stop_listening_at(self, host: str, port: int) -> None:
        """Close the sockets that listen on this address and TCP port."""
        if self._loop is not None:
            self._call(self._stop_listening(lambda listener: listener.is_at(host, port)))

    def close_door(self, door: Door) -> None:
        """Close the listening sockets of a door, and cut all connections that came through it."""
        if self._loop is not None:
            self._call(self._close_door(door))

    def stop_listening(self) -> None:
        """Close the listening sockets, and remove the unix ones; connections stay open."""
        if self._loop is not None:
            self._call(self._stop_listening())

    def stop(self, deadline_seconds: float) -> None:
        """Stop listening, let requests end, cut what is left at the deadline, end the thread.

        A handler or an iterator that does not return keeps its worker thread, which Python waits
        for at exit.
        """
        if self._loop is None or self._thread is None:
            return
        self._call(self._wind_down(deadline_seconds))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None
        for workers in self._workers.values():
            workers.dismiss()

    def after_fork(self) -> None:
        """Close all sockets in a child process; the loop, which it shares, is left alone."""
        for listener in self._listeners:
            listener.sock.close()
        for connection in list(self._connections):
            connection.after_fork()

    # -- in the loop's thread --------------------------------------------------------------

    def _run(self) -> None:
        loop = self._running()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the door server is not started")
        return self._loop

    def _call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            loop = self._running()
        except RuntimeError:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def _listen(
        self,
        door: Door,
        sock: socket.socket,
        context: _MakeContext | None,
        path: Path | None = None,
        mode: int = 0,
    ) -> None:
        task = asyncio.ensure_future(self._accept(door, sock, context))
        inode = None if path is None else identity(path)
        self._listeners.append(_Listener(door, sock, task, path, mode, inode))

    async def _accept(
        self, door: Door, listener: socket.socket, context: _MakeContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                await self._survive(door, error)
                continue
            try:
                self._admit(door, sock, context)
            except OSError as error:
                sock.close()
                _log.debug("a connection was not accepted door=%s: %s", door.name, error)
            except Exception as error:  # the caller's code gave no context: others may do better
                sock.close()
                self._warn("cannot serve a connection door=%s", door.name, error)
            await asyncio.sleep(0)  # a flood must not keep the loop to itself

    def _admit(self, door: Door, sock: socket.socket, make: _MakeContext | None) -> None:
        context = None if make is None else make()
        if sock.family != socket.AF_UNIX:
            tune(sock, door.limits.write_seconds)
        choose = partial(self._choose_workers, door)
        connection = Connection(door, sock, address_of(sock), context, choose)
        task = asyncio.ensure_future(connection.run())
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))

    async def _survive(self, door: Door, error: OSError) -> None:
        """Get over an accept that failed, because of that connection or a shortage here."""
        if error.errno not in _SHORTAGES:
            _log.debug("a connection was not accepted door=%s: %s", door.name, error)
            await asyncio.sleep(0)
            return
        self._warn("cannot accept connections for now door=%s", door.name, error)
        door.handshakes.make_room()
        door.strangers.make_room()
        await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)

    def _warn(self, message: str, name: str, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned >= _WARN_SECONDS:
            self._warned = now
            _log.warning(message, name, exc_info=error)

    def _choose_workers(self, door: Door, peer: Requester) -> Workers:
        if door.kind is not None:
            return self._workers[door.kind]
        if peer.transport == "unix":
            return self._workers["unix"]
        return self._workers["member" if peer.authenticated else "anonymous"]

    async def _close_where(self, predicate: Callable[[Requester], bool]) -> int:
        doomed = [
            connection
            for connection in self._connections
            if any(predicate(peer) for peer in connection.peers)
        ]
        for connection in doomed:
            connection.abort()
        closing = [asyncio.ensure_future(connection.wait_closed()) for connection in doomed]
        if closing:
            await asyncio.wait(closing, timeout=_CUT_SECONDS)
        return len(doomed)

    async def _close_door(self, door: Door) -> None:
        await self._stop_listening(lambda listener: listener.door is door)
        for connection in self._connections:
            if connection.door is door:
                connection.abort()

    async def _stop_listening(
        self, chosen: Callable[[_Listener], bool] = lambda listener: True
    ) -> None:
        listeners = [listener for listener in self._listeners if chosen(listener)]
        self._listeners = [listener for listener in self._listeners if listener not in listeners]
        for listener in listeners:
            listener.task.cancel()
        if listeners:
            await asyncio.wait([listener.task for listener in listeners])
        for listener in listeners:
            listener.sock.close()
            if listener.path is not None and listener.inode is not None:
                remove_socket(listener.path, listener.inode)

    async def _wind_down(self, seconds: float) -> None:
        await self._stop_listening()
        for connection in self._connections:
            connection.finish()
        if self._connections:
            await asyncio.wait(self._connections.values(), timeout=seconds)
        late = dict(self._connections)
        for connection, task in late.items():
            connection.abort()
            task.cancel()
        if late:
            await asyncio.wait(late.values(), timeout=_CUT_SECONDS)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio could not give to anyone; the network's doings are for debugging only."""
    error = context.get("exception")
    level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
    _log.log(level, "in the loop of the doors: %s", context.get("message"), exc_info=error)
