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

from collective.errors import AccessError, DaemonError, ProtocolError, from_wire

#: Of what is written here; the daemon reads up to that of its own release.
FORMAT = 1

_CONNECT_SECONDS = 5.0
_MOST_BYTES = 1 << 24
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
        seconds: how long the daemon may be silent.

    Raises:
        CollectiveError: what the daemon answered, or why it did not.
    """
    import json

    for line in _exchange(path, method, route, body_of(body or {}), seconds, "application/json"):
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
    path: str, method: str, route: str, body: bytes, seconds: float
) -> Iterator[tuple[str, str]]:
    """Make a request and yield each line of the answer as kind and text.

    Args:
        path: of the control socket.
        method, route: of the request; the answer is asked for as text.
        body: JSON, or nothing.
        seconds: how long the daemon may be silent.

    Raises:
        DaemonError: it does not run, or broke off.
        AccessError: no right to the socket.
        ProtocolError: what comes back is not what a daemon answers.
    """
    for line in _exchange(path, method, route, body, seconds, "text/plain"):
        kind, _, text = line.partition(" ")
        yield kind, text


def _exchange(
    path: str, method: str, route: str, body: bytes, seconds: float, accept: str
) -> Iterator[str]:
    head = (
        f"{method} {route} HTTP/1.0\r\nHost: collective\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    sock = _connect(path, min(seconds, _CONNECT_SECONDS))
    try:
        sock.settimeout(seconds)
        sock.sendall(head.encode() + body)
        yield from _lines(sock)
    except TimeoutError:
        raise DaemonError(
            f"collectived did not answer within {seconds:.0f} s", _LOG_HINT
        ) from None
    except OSError as error:
        raise DaemonError(f"collectived broke off: {error.strerror}", _LOG_HINT) from None
    finally:
        sock.close()


def _connect(path: str, seconds: float) -> Any:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
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
        reason = {
            FileNotFoundError: f"there is no socket {path}",
            ConnectionRefusedError: f"nobody answers on {path}",
        }.get(type(error), f"{path}: {error.strerror}")
        raise DaemonError(f"collectived does not run here: {reason}", _START_HINT) from None
    return sock


def _lines(sock: Any) -> Iterator[str]:
    rest, in_body, size = b"", False, 0
    while part := sock.recv(65536):
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


def _check_head(head: bytes, body: bytes) -> None:
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ProtocolError("what answers on the control socket is not collectived")
    if words[1] != b"200":
        said = body.decode("utf-8", "replace").strip()[:200]
        raise ProtocolError(f"collectived refused the request: {said}")
