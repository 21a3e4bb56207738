"""One connection to a door, from the accept to the last byte: TLS, HTTP/1.1 and its deadlines.

It does not decide who may come in (``limits.py``) nor what is answered (the door's handler).
HTTP's rules are h11's. A request body must come with a Content-Length: chunked ones are refused,
since they cost far more to take apart than to send.

Invariants:
  * Every wait for the peer ends by a deadline; a deadline that passes cuts the connection.
  * While a request is being answered, no more than a bounded part of the next one is read.
  * A member's body is read when there is room for it in that member's part, which it keeps until
    the answer is written; between requests nothing of one is kept.
  * Nothing that a peer sends gets into a log above debug level.
  * An iterator that was handed over is closed, however the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import h11

from collective.errors import CollectiveError, InputError, ProtocolError, RefusedError
from collective.protocol import upgrade
from collective.protocol.limits import Door, Places, origin_of
from collective.protocol.streams import certificate_of, let_it_read, wait_for_the_kernel
from collective.protocol.tunnel import StreamPair, Tunnel, through
from collective.protocol.web import (
    Request,
    Requester,
    Response,
    error_response,
    internal_error_response,
)
from collective.protocol.workers import Stream, Workers

_log = logging.getLogger(__name__)

_SLICE = 65536
_READ = 16384
_QUERY_FIELDS = 32
# What is answered to a request for a tunnel, where it is agreed.
_AGREED = h11.InformationalResponse(
    status_code=101, headers=[("Connection", "Upgrade"), ("Upgrade", upgrade.NAME)]
)
# How long to read on after a refusal: closing on unread bytes would destroy the answer (RST).
_LINGER_SECONDS = 1.0


class _Refusal(Exception):
    """A request that the door itself turns down, and ends the connection for."""

    def __init__(self, status: int, error: CollectiveError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


def _wrong(status: int, message: str) -> _Refusal:
    return _Refusal(status, ProtocolError(message))


class Connection:
    """One accepted socket and all that happens on it.

    Attributes:
        door: through which it came.
        peer: who is at the other end; None until TLS is up.
        origin: what its limits are counted by.
        waiting_since: when it began to wait for the peer; None while it serves.
    """

    def __init__(
        self,
        door: Door,
        sock: socket.socket,
        address: str,
        context: ssl.SSLContext | None,
        choose_workers: Callable[[Requester], Workers],
    ) -> None:
        """Take over a socket that was just accepted; must be called in the loop's thread."""
        self.peer: Requester | None = None
        self.origin = origin_of(address)
        self._loop = asyncio.get_running_loop()
        self.waiting_since: float | None = self._loop.time()
        self.door = door
        self._limits = door.limits
        self._sock = sock
        self._address = address
        self._context = context
        self._choose_workers = choose_workers
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=door.limits.header_bytes)
        self._reader = asyncio.StreamReader(limit=_READ, loop=self._loop)
        self._writer: asyncio.StreamWriter | None = None
        self._memory: dict[str, Any] = {}
        self._last = False
        self._bodiless = False
        self._upgrades = False
        self._tunnel: Tunnel | None = None
        self._far: StreamPair | None = None

    @property
    def peers(self) -> list[Requester]:
        """Who is at the other end, and, where it is a tunnel, who is at the end of that."""
        beyond = None if self._tunnel is None else self._tunnel.leads_to
        return [peer for peer in (self.peer, beyond) if peer is not None]

    def abort(self) -> None:
        """Cut the connection at once, whatever it does."""
        if self._far is not None:
            self._far.abort()
        if self._writer is not None:
            self._writer.transport.abort()
        else:
            # The handshake owns the transport; to it this looks like a peer that went away.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def after_fork(self) -> None:
        """Close the socket in a child process, where it would outlive its end in the parent."""
        self._sock.close()

    def finish(self) -> None:
        """Close after the answer that is under way, or at once if there is none, or a tunnel."""
        self._last = True
        if self.waiting_since is not None or self._tunnel is not None:
            self.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, and that at the end of a tunnel."""
        far = None if self._far is None else self._far.writer
        for writer in (self._writer, far):
            if writer is not None:
                with suppress(OSError):
                    await writer.wait_closed()

    async def run(self) -> None:
        """Serve the peer until either side has had enough. Never raises but for cancellation."""
        door = self.door
        door.handshakes.enter(self)
        try:
            peer = await self._open()
            door.handshakes.leave(self)
            if peer.certificate is not None:
                self.origin = peer.certificate.name  # wherever it comes from
            if self._places(peer).enter(self):
                await self._converse(peer)
            else:
                self.abort()  # it has no place to wait for a tidy close in
        except OSError as error:
            _log.debug("a connection broke door=%s from=%s: %s", door.name, self._address, error)
        except Exception:
            _log.exception("a connection failed door=%s", door.name)
        finally:
            await self._close()
            for places in (door.handshakes, door.strangers, door.members, door.locals):
                places.leave(self)

    def _places(self, peer: Requester) -> Places:
        if self._is_stranger(peer):
            return self.door.strangers
        return self.door.members if peer.authenticated else self.door.locals

    @staticmethod
    def _is_stranger(peer: Requester) -> bool:
        return peer.transport == "tls" and not peer.authenticated

    # -- opening and closing ---------------------------------------------------------------

    async def _open(self) -> Requester:
        """Bring up TLS, where the door has it, and say who came.

        Raises:
            OSError: the handshake failed or took too long.
        """
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=self._loop)
        seconds = None if self._context is None else self._limits.handshake_seconds
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol, self._sock, ssl=self._context, ssl_handshake_timeout=seconds
        )
        wait_for_the_kernel(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, self._loop)
        if self._context is None:
            self.peer = Requester("unix", self._address)
        else:
            self.peer = Requester("tls", self._address, certificate_of(transport))
        return self.peer

    async def _close(self) -> None:
        self.waiting_since = self._loop.time()
        if self._writer is None:
            return
        self._writer.close()
        # Also bounds the exchange of TLS close alerts, which the peer may leave unanswered.
        with self._within(self._limits.write_seconds):
            await self.wait_closed()

    async def _linger(self) -> None:
        """Read and forget until the peer has seen the refusal and closes, for a moment at most."""
        writer = self._open_writer()
        if writer.can_write_eof():
            writer.write_eof()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._forget(), _LINGER_SECONDS)

    async def _forget(self) -> None:
        while await self._reader.read(_SLICE):
            pass

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Cut the connection if the block takes longer; what it waits for then ends."""
        fuse = self._loop.call_later(seconds, self._burn)
        try:
            yield
        finally:
            fuse.cancel()

    def _burn(self) -> None:
        _log.debug("a deadline passed door=%s from=%s", self.door.name, self._address)
        self.abort()

    def _open_writer(self) -> asyncio.StreamWriter:
        if self._writer is None:
            raise ConnectionResetError("not open")
        return self._writer

    # -- requests and answers --------------------------------------------------------------

    async def _converse(self, peer: Requester) -> None:
        workers = self._choose_workers(peer)
        try:
            while await self._exchange(peer, workers):
                self._http.start_next_cycle()
                await asyncio.sleep(0)  # a peer that pipelines must not keep the loop to itself
        except _Refusal as refusal:
            await self._refuse(refusal)
        except h11.RemoteProtocolError as error:
            wrong = "this is not HTTP/1.1 as it should be"
            await self._refuse(_wrong(error.error_status_hint, wrong))

    async def _exchange(self, peer: Requester, workers: Workers) -> bool:
        """Take a request and answer it; tell whether another one may follow."""
        with ExitStack() as room, ExitStack() as turn:
            request = await self._next_request(peer, room)
            if request is None:
                return False
            self.waiting_since = None
            response = await self._answer(request, workers, turn)
            if not isinstance(response.body, bytes):
                turn.close()  # it lasts, and has its own limits
            await self._send(request.method, response, workers)
            self.waiting_since = self._loop.time()
        return not self._last and self._http.our_state is h11.DONE

    async def _next_request(self, peer: Requester, room: ExitStack) -> Request | None:
        """Wait for a request until it is whole; None when the peer has no more.

        Args:
            peer: whose.
            room: gets what gives back the room that the body takes.
        """
        self._bodiless = False
        if not self._http.trailing_data[0]:
            stranger = self._is_stranger(peer)
            limits = self._limits
            with self._within(limits.idle_seconds if stranger else limits.member_idle_seconds):
                self._http.receive_data(await self._reader.read(_READ))
        began = self._loop.time()
        with self._within(self._limits.request_seconds):
            head = await self._next_event()
            if not isinstance(head, h11.Request):
                return None
        self._bodiless = head.method == b"HEAD"
        self._upgrades = (b"upgrade", upgrade.NAME.encode()) in head.headers
        method, path, query = self._check_head(head, self._most_bytes(peer))
        left = began + self._limits.request_seconds - self._loop.time()
        if peer.authenticated:
            room.callback(await self._find_room(_body_bytes(head)))
        with self._within(left):
            body = await self._read_body()
        text = (b"accept", b"text/plain") in head.headers
        return Request(method, path, query, body, peer, self._memory, text)

    async def _find_room(self, size: int) -> Callable[[], None]:
        """Wait until there is room for a body in the member's part; return what gives it back."""
        try:
            return await self.door.bytes.take(self.origin, size, self._limits.waiting_seconds)
        except RefusedError as error:
            raise _Refusal(429, error) from None

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._emit(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_READ))
        return event

    def _most_bytes(self, peer: Requester) -> int:
        limits = self._limits
        return limits.member_body_bytes if peer.authenticated else limits.body_bytes

    def _check_head(self, head: h11.Request, most: int) -> tuple[str, str, Mapping[str, str]]:
        size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        if size > self._limits.header_bytes:
            raise _wrong(431, f"headers of {size} bytes, at most {self._limits.header_bytes}")
        if head.method == b"CONNECT" or not head.target.startswith(b"/"):
            raise _wrong(400, "only requests for a path are answered here")
        for name, value in head.headers:
            if name == b"transfer-encoding":
                raise _wrong(411, "a body needs a Content-Length")
            if name == b"content-length" and _number(value) > most:
                raise _wrong(413, f"the body is larger than {most} bytes")
        path, query = _split_target(head.target)
        return head.method.decode("ascii"), path, query

    async def _read_body(self) -> bytes:
        parts = []
        while isinstance(event := await self._next_event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def _answer(self, request: Request, workers: Workers, turn: ExitStack) -> Response:
        """Have a request handled; a member's when it is its turn, which ends with ``turn``."""
        if self._is_stranger(request.peer) and not self.door.rate.allow(
            self.origin, self._loop.time()
        ):
            return error_response(RefusedError("too many requests from this address"), 429)
        if request.peer.authenticated:
            try:
                turn.callback(await self._wait_for_turn())
            except RefusedError as error:
                return error_response(error, 429)
        try:
            return await self._loop.run_in_executor(workers.calls, self.door.handler, request)
        except CollectiveError as error:
            return error_response(error)
        except Exception:
            where = (self.door.name, request.method, request.path[:200])
            _log.exception("a handler failed door=%s method=%s path=%s", *where)
            return internal_error_response()

    async def _wait_for_turn(self) -> Callable[[], None]:
        end = await self.door.calls.take(self.origin, 1, self._limits.waiting_seconds)
        if self._open_writer().is_closing():
            end()
            raise ConnectionResetError("the peer went away while it waited")
        return end

    async def _refuse(self, refusal: _Refusal) -> None:
        _log.debug("refused door=%s from=%s: %s", self.door.name, self._address, refusal)
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        self._last = True
        answer = error_response(refusal.error, refusal.status)
        body = [] if self._bodiless else [h11.Data(data=cast(bytes, answer.body))]
        await self._emit(self._head(answer), *body)
        await self._emit(h11.EndOfMessage())
        await self._linger()

    # -- sending ---------------------------------------------------------------------------

    def _head(self, response: Response) -> h11.Response:
        headers = [("content-type", response.content_type)]
        if isinstance(response.body, bytes):
            headers.append(("content-length", str(len(response.body))))
        if self._last:
            headers.append(("connection", "close"))
        return h11.Response(status_code=response.status, headers=headers)

    async def _send(self, method: str, response: Response, workers: Workers) -> None:
        if isinstance(response.body, Tunnel):
            await self._pass_through(response.body, workers)
            return
        body, head = response.body, self._head(response)
        bodiless = method == "HEAD" or response.status in (204, 304)
        if isinstance(body, bytes):
            data = [] if bodiless else [h11.Data(data=body)]
            await self._emit(head, *data, h11.EndOfMessage())
            return
        stream = Stream(body)
        try:
            end = await self._begin_stream()
        except RefusedError as error:
            workers.streams.submit(stream.close)
            await self._send(method, error_response(error, 429), workers)
            return
        try:
            await self._emit(head)
            if not bodiless:
                await self._pump(stream, workers)
            await self._emit(h11.EndOfMessage())
        except Exception as error:
            # Without TLS's goodbye, or the last chunk, the body does not look whole. HTTP/1.0 on a
            # unix socket has neither: streams of lines end with a line that tells.
            self.abort()
            if not isinstance(error, OSError) or stream.failed:
                _log.exception("a stream failed door=%s", self.door.name)
        finally:
            end()
            with suppress(RuntimeError):  # no new work while the interpreter ends
                workers.streams.submit(stream.close)

    async def _begin_stream(self) -> Callable[[], None]:
        """Take one of the streams that this peer may have open; return what gives it back."""
        stranger = self.peer is not None and self._is_stranger(self.peer)
        return await self.door.streams.take(self.origin, 0 if stranger else 1)

    async def _pass_through(self, tunnel: Tunnel, workers: Workers) -> None:
        """Open a tunnel, and stay with it to its end; or answer why it cannot be opened."""
        self._tunnel = tunnel
        try:
            try:
                if not self._upgrades:
                    raise InputError("this is answered to a request for an upgrade only")
                self._far = await tunnel.open()
            except CollectiveError as error:
                self._tunnel = None
                await self._send("POST", error_response(error), workers)
                return
            await self._emit(_AGREED)
            let_it_read(self._sock)
            self._far.writer.write(self._http.trailing_data[0])
            await through(StreamPair(self._reader, self._open_writer()), self._far, tunnel.seconds)
            await self._linger()
        finally:
            if self._far is not None:
                self._far.abort()
            tunnel.close()

    async def _pump(self, stream: Stream, workers: Workers) -> None:
        writer = self._open_writer()
        while True:
            chunk = await self._loop.run_in_executor(workers.streams, stream.step)
            if chunk is None:
                return
            if writer.is_closing() or self._reader.at_eof():
                raise ConnectionResetError("the peer went away")
            if chunk:
                await self._emit(h11.Data(data=chunk))

    async def _emit(self, *events: h11.Event) -> None:
        """Write, and wait until the kernel has taken it all."""
        writer = self._open_writer()
        data = b"".join(self._http.send(event) or b"" for event in events)
        for start in range(0, len(data), _SLICE):
            writer.write(data[start : start + _SLICE])
            with self._within(self._limits.write_seconds):
                await writer.drain()
            if writer.is_closing():
                raise ConnectionResetError("the peer went away")


def address_of(sock: socket.socket) -> str:
    """Return who is at the other end of an accepted socket: its IP address, or its user.

    Raises:
        OSError: it is gone already.
    """
    if sock.family == socket.AF_UNIX:
        # struct ucred of unix(7): pid, uid, gid.
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        return f"uid={struct.unpack('iII', raw)[1]}"
    host = str(sock.getpeername()[0])
    return host.removeprefix("::ffff:") if "." in host else host


def _body_bytes(head: h11.Request) -> int:
    return sum(_number(value) for name, value in head.headers if name == b"content-length")


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) <= 15 else 10**15


def _split_target(target: bytes) -> tuple[str, Mapping[str, str]]:
    raw_path, _, raw_query = target.partition(b"?")
    try:
        path = unquote(raw_path.decode("ascii"), errors="strict")
        query = dict(
            parse_qsl(
                raw_query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_QUERY_FIELDS,
            )
        )
    except ValueError as error:
        raise _wrong(400, "the path or the query is not readable") from error
    if not path.isprintable():
        raise _wrong(400, "the path holds characters that it may not")
    return path, query
