"""Calls to another server's door: JSON over HTTP over TLS, with deadlines.

Servers are known by the fingerprints of their certificates: TLS proves that the other side has the
key of the one that it shows, and the caller's check says whether that is the one wanted.

It decides nothing about trust beyond that check.

Invariants:
  * Nothing is sent before the check was passed.
  * No proxy is used (``http.client`` knows none).
  * A call ends by its deadline, however slowly the other side answers.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collective.errors import (
    CollectiveError,
    IdentityError,
    ProtocolError,
    UnreachableError,
    from_wire,
)
from collective.model.names import bracketed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_BYTES = 1 << 20
_LINE_BYTES = 1 << 18
# tcpi_min_rtt in microseconds, of struct tcp_info (linux/tcp.h), since Linux 4.6.
_MIN_RTT_OFFSET, _INFO_BYTES, _NO_RTT = 148, 152, (1 << 32) - 1


def client_context(identity: Path | None = None) -> ssl.SSLContext:
    """Return a context that takes whatever certificate is shown: who uses it checks which it is.

    Args:
        identity: key and certificate that we show, PEM; None for none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = _Socket
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(identity)
    return context


def where(host: str, port: int) -> str:
    """Return ``host:port`` for people."""
    return f"{bracketed(host)}:{port}"


def unreachable(host: str, port: int, error: Exception, seconds: float) -> UnreachableError:
    """Translate what a socket said."""
    hint = "check that collectived runs there and that no firewall is in between"
    if isinstance(error, TimeoutError):
        reason = f"no answer within {seconds:.0f} s" if seconds >= 1 else "no answer in time"
    elif isinstance(error, ConnectionRefusedError):
        reason = "connection refused"
    elif isinstance(error, ssl.SSLError):
        reason = f"TLS failed: {error.reason or error}"
    else:
        reason = getattr(error, "strerror", None) or type(error).__name__
    return UnreachableError(f"cannot reach {where(host, port)}: {reason[:200]}", hint)


def is_refusal(error: BaseException) -> bool:
    """Tell whether a call may have failed since the other side refused our certificate.

    In TLS 1.3 that is heard after the handshake: as an alert, or as the end of the connection.
    """
    cause = error.__cause__
    alert = isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or "")
    return alert or isinstance(cause, ConnectionResetError | BrokenPipeError)


def served_certificate(host: str, port: int, seconds: float) -> bytes:
    """Return the certificate (DER) that a door serves, whose key it has proven; send it nothing.

    Raises:
        UnreachableError: no TLS server answers there in time.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=seconds) as raw,
            client_context().wrap_socket(raw) as tls,
        ):
            return tls.getpeercert(True) or b""
    except OSError as error:
        raise unreachable(host, port, error, seconds) from error


#: Gets the fingerprint of the certificate that is served; returns why it is not wanted, or None.
Check = Callable[[str], str | None]


def anybody(_served: str) -> str | None:
    """Object to nothing: for what is neither secret nor believed."""
    return None


def only(fingerprints: Iterable[str], otherwise: str) -> Check:
    """Return a check that wants one of some certificates, and what it says to another one."""
    wanted = frozenset(fingerprints)
    return lambda served: None if served in wanted else otherwise


class _Socket(ssl.SSLSocket):
    """A socket whose reads, all together, end by a deadline of the monotonic clock."""

    deadline: float | None = None

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Read, with the time that is left."""
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)


class _Connection(http.client.HTTPSConnection):
    """A connection whose TLS handshake gets only the time that connecting has left."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, deadline: float) -> None:
        super().__init__(host, port, timeout=_left(deadline), context=context)
        self._own_context = context
        self._deadline = deadline

    def connect(self) -> None:
        """Connect and shake hands."""
        http.client.HTTPConnection.connect(self)
        self.sock.settimeout(_left(self._deadline))
        self.sock = self._own_context.wrap_socket(self.sock)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class PeerClient:
    """A connection to one door, opened when first needed and kept for the next call."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        check: Check,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            host: IP address.
            port: TCP port.
            context: with our own certificate, where we show one.
            check: says whether the certificate is the one wanted.
            most_bytes: of an answer, or of a line of one.
        """
        self.host = host
        self.port = port
        self._context = context
        self._check = check
        self._most_bytes = most_bytes
        self._connection: http.client.HTTPSConnection | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the certificate that the other side served."""
        return hashlib.sha256(self._tls().getpeercert(True) or b"").hexdigest()

    @property
    def local_address(self) -> str:
        """The address that this connection comes from."""
        return str(self._tls().getsockname()[0])

    @property
    def round_trip(self) -> float | None:
        """Seconds that a packet takes there and back at least, as the kernel has measured.

        None where there is no connection, or the kernel does not say.
        """
        sock = None if self._connection is None else self._connection.sock
        if sock is None:
            return None
        try:
            told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return None
        if len(told) < _INFO_BYTES:
            return None
        micros: int = struct.unpack_from("=I", told, _MIN_RTT_OFFSET)[0]
        return None if micros == _NO_RTT else micros / 1e6

    def _tls(self) -> ssl.SSLSocket:
        sock = None if self._connection is None else self._connection.sock
        if not isinstance(sock, ssl.SSLSocket):
            raise UnreachableError(f"{where(self.host, self.port)} closed the connection")
        return sock

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def use(self, context: ssl.SSLContext) -> None:
        """Close the connection, and open the next one with another context."""
        self.close()
        self._context = context

    def insist(self, check: Check) -> None:
        """Want something else of the certificate from now on, on this connection too.

        Raises:
            IdentityError: the one that is open is not to one that is wanted, and was closed.
        """
        self._check = check
        if self._connection is not None:
            try:
                self._verify_identity()
            except UnreachableError:
                self.close()
                raise

    def abort(self) -> None:
        """Cut the connection, also under another thread that waits for an answer on it."""
        connection = self._connection
        sock = None if connection is None else connection.sock
        if sock is not None:
            with suppress(OSError):
                # Not SSLSocket's: it would take the TLS object from under the other thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def is_open(self) -> bool:
        """Tell whether there is a connection that the other side has not closed, or spoken on."""
        sock = None if self._connection is None else self._connection.sock
        if sock is None:
            return False
        # Not with select(2), which knows no more than 1024 open files.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def open(self, seconds: float) -> None:
        """Connect and verify, if that has not been done.

        Raises:
            UnreachableError: no answer in time.
            IdentityError: the certificate is not the one wanted.
        """
        if self._connection is not None and self._connection.sock is not None:
            return
        try:
            connection = _Connection(
                self.host, self.port, self._context, time.monotonic() + seconds
            )
            connection.connect()
            self._connection = connection
            self._verify_identity()
        except OSError as error:
            self.close()
            raise unreachable(self.host, self.port, error, seconds) from error
        except UnreachableError:
            self.close()
            raise

    def _verify_identity(self) -> None:
        objection = self._check(self.fingerprint)
        if objection is not None:
            raise IdentityError(f"will not talk to {where(self.host, self.port)}: {objection}")

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        """Make one call and return the JSON object that comes back.

        Args:
            method, path: of the HTTP request.
            body: sent as JSON, or None.
            seconds: deadline for all of it.

        Raises:
            UnreachableError: no answer in time.
            ProtocolError: the answer is no JSON object.
            CollectiveError: what the other side answered with, as its own class.
        """
        deadline = time.monotonic() + seconds
        try:
            response = self._send(method, path, body, deadline)
            raw = self._read_all(response)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise unreachable(self.host, self.port, error, seconds) from error
        return self._decode(raw, response.status)

    def lines(
        self, method: str, path: str, body: Mapping[str, Any], seconds: float
    ) -> Iterator[dict[str, Any]]:
        """Make a call whose answer is a JSON object a line; yield them as they come.

        Raises:
            CollectiveError: as ``call``; also for a line that holds an error.
        """
        deadline = time.monotonic() + seconds
        try:
            response = self._send(method, path, body, deadline)
            if response.status != 200:
                self._decode(self._read_all(response), response.status)
            while line := response.readline(_LINE_BYTES):
                value = self._decode(line, 200)
                if "error" in value:
                    raise from_wire(value["error"])
                yield value
            response.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise unreachable(self.host, self.port, error, seconds) from error

    def stream(
        self, method: str, path: str, body: Mapping[str, Any], seconds: float, silence: float
    ) -> Iterator[bytes]:
        """Make a call whose answer is a line now and then, without an end; yield them raw.

        The request is made when the first line is asked for.

        Args:
            method, path, body: of the HTTP request.
            seconds: deadline for the beginning of the answer.
            silence: deadline for each line; an empty line will do.

        Raises:
            CollectiveError: as ``call``.
        """
        try:
            response = self._send(method, path, body, time.monotonic() + seconds)
            if response.status != 200:
                self._decode(self._read_all(response), response.status)
            self._allow(silence)
            while line := response.readline(self._most_bytes):
                yield line
                self._allow(silence)
            response.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise unreachable(self.host, self.port, error, silence) from error

    def _allow(self, seconds: float) -> None:
        tls = self._tls()
        if isinstance(tls, _Socket):
            tls.deadline = time.monotonic() + seconds

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, deadline: float
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, whose body is still to be read.

        Raises:
            OSError, HTTPException: the connection broke; UnreachableError: there is none.
        """
        fresh = self._connection is None or self._connection.sock is None
        self.open(_left(deadline))
        connection = self._connection
        assert connection is not None
        tls = self._tls()
        tls.settimeout(_left(deadline))
        if isinstance(tls, _Socket):
            tls.deadline = deadline
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, path, data, headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh or isinstance(error, TimeoutError) or method != "GET":
                raise
            # The other side may have closed an idle connection: once more, on a new one.
            return self._send(method, path, body, deadline)

    def _read_all(self, response: http.client.HTTPResponse) -> bytes:
        data = response.read(self._most_bytes + 1)
        if len(data) > self._most_bytes:
            raise http.client.HTTPException("the answer is too long")
        if response.length:
            # http.client says nothing where it read less than was announced.
            raise http.client.HTTPException("the answer was cut off")
        response.close()
        return data

    def _decode(self, raw: bytes, status: int) -> dict[str, Any]:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ProtocolError(
                f"{where(self.host, self.port)} answered {status} and no JSON object"
            )
        if status >= 400:
            raise _told(value)
        return value


def _told(value: Mapping[str, Any]) -> CollectiveError:
    return from_wire(value.get("error"))
