"""Ask the daemon of this server: one request over its control socket.

It imports neither ``http.client`` nor ``socket`` nor ``json``: the command starts in a few
hundredths of a second, and half of that would be imports. An HTTP/1.0 answer ends where the
connection ends, so reading one needs no library.

Invariants:
  * Every failure of the transport becomes one sentence, here and nowhere else.
"""

from __future__ import annotations

import _socket
import os
from time import monotonic

from collective.errors import AccessError, DaemonError, ProtocolError, from_wire

#: Of what is written here; the daemon reads up to that of its own release.
FORMAT = 1

_MOST_BYTES = 1 << 24
# One class from Python 3.10 on.
_LATE = (TimeoutError, _socket.timeout)
_LOG_HINT = "see its log: journalctl -u collectived"
_START_HINT = (
    "see whether it is stopped or fails at each start: systemctl status collectived; its log says "
    "why: journalctl -u collectived"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from collective.model.layout import Layout


def socket_of(layout: Layout) -> str:
    """Return the control socket: that of a daemon of release 0.2 while it is not restarted yet."""
    former = layout.former
    if former is None or os.path.exists(layout.control_socket):
        return layout.control_socket
    old = former.control_socket
    return old if os.path.exists(old) else layout.control_socket


def body_of(fields: dict[str, Any]) -> bytes:
    """Return the body of a request, whose fields ``collective.protocol.control`` names."""
    import json

    return json.dumps({"format": FORMAT, **fields}).encode()


def ask(path: str, method: str, route: str, body: dict[str, Any] | None, seconds: float) -> Any:
    """Make a request and return its result as data; steps on the way are dropped.

    Args:
        path: of the control socket.
        method, route: of the request.
        body: its fields, or None.
        seconds: how long it may take until the next step, or the end.

    Raises:
        CollectiveError: what the daemon answered, or why it did not.
    """
    import json

    request = _request(method, route, body_of(body or {}), "application/json")
    for line in _exchange(path, request, seconds, seconds):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ProtocolError("collectived answered with something other than JSON")
        if "error" in value:
            raise from_wire(value["error"])
        if "result" in value:
            return value["result"]
    raise DaemonError("collectived broke off without an answer", _LOG_HINT)


def stream(
    path: str, method: str, route: str, body: bytes, seconds: float, silence: float
) -> Iterator[tuple[str, str]]:
    """Make a request and yield each line of the answer as kind and text.

    Args:
        path: of the control socket.
        method, route: of the request; the answer is asked for as text.
        body: JSON, or nothing.
        seconds: how long it may take until the next line.
        silence: how long the daemon may give no sign of life.

    Raises:
        DaemonError: it does not run, broke off, or is late.
        AccessError: no right to the socket.
        ProtocolError: what comes back is not what a daemon answers.
    """
    for line in _exchange(path, _request(method, route, body, "text/plain"), seconds, silence):
        kind, _, text = line.partition(" ")
        yield kind, text


def _request(method: str, route: str, body: bytes, accept: str) -> bytes:
    head = (
        f"{method} {route} HTTP/1.0\r\nHost: collective\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _exchange(path: str, request: bytes, seconds: float, silence: float) -> Iterator[str]:
    waiting = _Waiting(seconds, silence)
    sock = _connect(path, waiting.left())
    try:
        sock.settimeout(waiting.left())
        sock.sendall(request)
        for line in _lines(sock, waiting):
            if line:
                yield line
                waiting.begin()
            else:
                waiting.beats = True
    except _LATE:
        raise waiting.late() from None
    except OSError as error:
        raise DaemonError(f"collectived broke off: {error.strerror}", _LOG_HINT) from None
    finally:
        sock.close()


class _Waiting:
    """How long is waited for the next line, and for a sign of life.

    Attributes:
        heard: whether anything has come.
        beats: whether the daemon says with empty lines that it is at work. One from before an
            update, that is still to be restarted, may not: its silence says nothing.
    """

    def __init__(self, seconds: float, silence: float) -> None:
        self._seconds, self._silence = seconds, silence
        self.heard = self.beats = False
        self.begin()

    def begin(self) -> None:
        """Wait for a line from now on."""
        self._until = monotonic() + self._seconds

    def left(self) -> float:
        """Return the seconds for which something is waited for now.

        Raises:
            TimeoutError: there are none.
        """
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self._silence) if self.beats or not self.heard else left

    def late(self) -> DaemonError:
        """Return the error of what did not come in time."""
        if self.beats and monotonic() >= self._until:
            return DaemonError(
                f"collectived is at work, and got no further within {self._seconds:.0f} s",
                "what was begun goes on there: see 'collective show'",
            )
        seconds = self._silence if monotonic() < self._until else self._seconds
        return DaemonError(f"collectived did not answer within {seconds:.0f} s", _LOG_HINT)


def _connect(path: str, seconds: float) -> Any:
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    except OSError as error:
        raise DaemonError(
            f"collectived cannot be asked from here: {error.strerror}",
            "this process has too many files open, see 'ulimit -n'",
        ) from None
    sock.settimeout(seconds)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        if isinstance(error, PermissionError):
            raise AccessError(
                f"no right to talk to collectived: {path}",
                f"run as root or as a member of the socket's group (you are user {os.geteuid()})",
            ) from None
        if isinstance(error, (BlockingIOError, _LATE)):
            raise DaemonError("collectived takes no command: too many wait", _LOG_HINT) from None
        reason = {
            FileNotFoundError: f"there is no socket {path}",
            ConnectionRefusedError: f"nobody answers on {path}",
        }.get(type(error), f"{path}: {error.strerror}")
        raise DaemonError(f"collectived does not run here: {reason}", _START_HINT) from None
    return sock


def _lines(sock: Any, waiting: _Waiting) -> Iterator[str]:
    rest, in_body, size = b"", False, 0
    while part := _part(sock, waiting):
        size += len(part)
        if size > _MOST_BYTES:
            raise ProtocolError("collectived answers without an end")
        rest += part
        if not in_body:
            head, gap, body = rest.partition(b"\r\n\r\n")
            if not gap:
                continue
            _check_head(head, body)
            in_body, rest = True, body
        *whole, rest = rest.split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)


def _part(sock: Any, waiting: _Waiting) -> bytes:
    sock.settimeout(waiting.left())
    part: bytes = sock.recv(65536)
    waiting.heard = True
    return part


def _check_head(head: bytes, body: bytes) -> None:
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ProtocolError("what answers on the control socket is not collectived")
    if words[1] != b"200":
        said = body.decode("utf-8", "replace").strip()[:200]
        raise ProtocolError(f"collectived refused the request: {said}")
