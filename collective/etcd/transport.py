"""HTTP over the unix socket of the etcd here, with as little between as there can be.

It knows nothing of etcd's calls; ``gateway`` does. It speaks HTTP with ``http.client``: what
requests adds to a call is a third of what a write takes (docs/dependencies.md has the figures).

Invariants:
  * Every request has a deadline, and an answer a most of bytes.
  * Where nothing was sent the error is a NotReachedError; a connection that etcd has closed is
    not used again.
  * No child process uses a connection of its parent: each would read the other's answers.
"""

from __future__ import annotations

import _socket
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from collective.errors import EtcdUnavailableError, NotReachedError
from collective.model.forks import tell_after_fork

#: Of one answer. It is held several times over, here and in etcd.
MOST_ANSWER_BYTES = 64 << 20
_HEAD = (
    "POST {} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)
_MOST_LINE, _MOST_LINES = 1 << 16, 100
_END_OF_HEAD = (b"\r\n", b"\n")
_MOST_IDLE = 8
_PART_BYTES = 1 << 16


def is_readable(sock: socket.socket) -> bool:
    """Tell whether there is something to read, or the other side has closed.

    Not with select(2), which knows no more than 1024 open files, nor poll(2), which eventlet and
    gevent take away; and with none of their sockets, which would wait.
    """
    bare = _socket.socket(fileno=sock.fileno())
    try:
        bare.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
    finally:
        bare.detach()
    return True


@dataclass(frozen=True)
class Answer:
    """The status of HTTP, and the body; None for one that has too many bytes."""

    status: int
    body: bytes | None


class _Response(http.client.HTTPResponse):
    """An answer whose head is not read by the parser of mails, which takes its time."""

    def begin(self) -> None:
        """Read the head."""
        version, self.status, _ = self._read_status()  # type: ignore[attr-defined]
        self.code, self.version = self.status, 11
        head: dict[bytes, bytes] = {}
        while (line := self.fp.readline(_MOST_LINE)) not in _END_OF_HEAD:
            if len(head) >= _MOST_LINES or not line.endswith(b"\n"):
                raise http.client.HTTPException("the head of an answer is no head")
            name, _, value = line.partition(b":")
            head[name.strip().lower()] = value.strip()
        length = head.get(b"content-length")
        if length is not None and not length.isdigit():
            raise http.client.HTTPException("the length of an answer is none")
        self.chunked = head.get(b"transfer-encoding") == b"chunked"
        self.chunk_left: int | None = None
        self.length = None if self.chunked or length is None else int(length)
        # Without a length the answer ends with the connection.
        self.will_close = (
            version != "HTTP/1.1"
            or head.get(b"connection") == b"close"
            or not (self.chunked or self.length is not None)
        )


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to the socket file.

    Attributes:
        is_last: whether the last answer said that no other comes.
    """

    def __init__(self, path: str, deadline: float) -> None:
        super().__init__("etcd")
        self.is_last = False
        self._path = path
        self._deadline = deadline

    def connect(self) -> None:
        """Connect, with what time is left."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(self._deadline))
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    @property
    def is_usable(self) -> bool:
        """Whether etcd has not closed it meanwhile."""
        return self.sock is not None and not is_readable(self.sock)


class Transport:
    """Connections to one socket, which are kept for the next requests."""

    def __init__(self, socket_path: Path) -> None:
        """Prepare; nothing is opened yet.

        Args:
            socket_path: etcd's client socket.
        """
        self._path = str(socket_path)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False
        tell_after_fork(self)

    def close(self) -> None:
        """Close all connections that are not in use; those that are, when they are done."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def after_fork(self) -> None:
        """Let go of all connections in a child process."""
        self._lock, self._closed = threading.Lock(), True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def post(self, path: str, body: Any, seconds: float) -> Answer:
        """Make a request.

        Args:
            path: of the URL.
            body: what becomes the JSON body.
            seconds: until it must have been answered.

        Raises:
            NotReachedError: nothing was sent.
            EtcdUnavailableError: no answer, or not in time.
        """
        deadline = monotonic() + seconds
        if self._closed:
            raise NotReachedError("the way to etcd was closed")
        connection = self._take(deadline)
        sock = connection.sock
        try:
            response = _send(connection, path, body, deadline)
            sock.settimeout(_left(deadline))
            raw = response.read(MOST_ANSWER_BYTES + 1)
            if len(raw) > MOST_ANSWER_BYTES:
                connection.close()
                return Answer(response.status, None)
            response.read()  # it has been read to its end when nothing is left
        except (TimeoutError, socket.timeout) as error:
            connection.close()
            raise EtcdUnavailableError("etcd did not answer in time") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EtcdUnavailableError(f"etcd broke off: {type(error).__name__}") from error
        self._give_back(connection)
        return Answer(response.status, raw)

    def open(self, path: str, body: Any, seconds: float, silence: float) -> Answer | ResponseLines:
        """Make a request that is answered line by line.

        Args:
            path, body, seconds: as for ``post``, until the answer begins.
            silence: so many seconds of it break the answer off.

        Returns:
            The lines; the answer where its status is another than 200.

        Raises:
            EtcdUnavailableError: no answer.
        """
        deadline = monotonic() + seconds
        connection = self._take(deadline, fresh=True)
        sock = connection.sock
        try:
            response = _send(connection, path, body, deadline)
            if response.status != http.client.OK:
                raw = response.read(MOST_ANSWER_BYTES)
                connection.close()
                return Answer(response.status, raw)
            sock.settimeout(silence)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EtcdUnavailableError(f"the watch broke off: {type(error).__name__}") from error
        return ResponseLines(connection, sock, response)

    def _take(self, deadline: float, fresh: bool = False) -> _Connection:
        """Return a connection that nobody else uses.

        Raises:
            NotReachedError: there is none to be had.
        """
        while not fresh:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        connection = _Connection(self._path, deadline)
        try:
            connection.connect()
        except (TimeoutError, socket.timeout) as error:
            raise NotReachedError("etcd takes no connection in time") from error
        except OSError as error:
            raise NotReachedError("etcd does not run here") from error
        return connection

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not (self._closed or connection.is_last) and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()


class ResponseLines:
    """The lines of an answer that has no end of its own."""

    def __init__(
        self, connection: _Connection, sock: socket.socket, response: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._response = response
        self._sock = sock

    def __iter__(self) -> Iterator[bytes]:
        begun: list[bytes] = []
        try:
            while part := self._response.read1(_PART_BYTES):
                first, *others = part.split(b"\n")
                begun.append(first)
                if others:
                    yield b"".join(begun)
                    yield from others[:-1]
                    begun = others[-1:]
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # http.client trips over its own file, where another thread has just closed it.
            raise EtcdUnavailableError(f"the watch broke off: {type(error).__name__}") from error

    def close(self) -> None:
        """End it, also while another thread waits for a line."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _send(
    connection: _Connection, path: str, body: Any, deadline: float
) -> http.client.HTTPResponse:
    sock = connection.sock
    sock.settimeout(_left(deadline))
    text = json.dumps(body, separators=(",", ":")).encode("ascii")
    # At once, so that etcd reads once.
    sock.sendall(_HEAD.format(path, len(text)).encode("ascii") + text)
    sock.settimeout(_left(deadline))
    response = _Response(sock, method="POST")
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    connection.is_last = response.will_close
    return response


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
