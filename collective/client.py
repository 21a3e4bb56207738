"""Ask the daemon of this server: one request over its control socket.

It imports neither ``http.client`` nor ``socket``'s friends beyond the C module: the command line
starts in a few hundredths of a second, and half of that would be imports. HTTP/1.0 answers end
where the connection ends, so reading one needs no library.

Invariants:
  * Every failure of the transport becomes one sentence, here and nowhere else.
"""

from __future__ import annotations

import _socket
import json
import os
from collections.abc import Iterator

from collective.errors import AccessError, DaemonError, ProtocolError, from_wire

FORMAT = 1
_CONNECT_SECONDS = 5.0
_MOST_BYTES = 1 << 24

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def ask(path: str, method: str, route: str, body: dict[str, Any] | None, seconds: float) -> Any:
    """Make a request and return its result; steps on the way are dropped.

    Args:
        path: of the control socket.
        method, route: of the request.
        body: sent as JSON, or None.
        seconds: how long the daemon may be silent.

    Raises:
        CollectiveError: what the daemon answered, or why it did not.
    """
    for line in stream(path, method, route, body, seconds):
        if "result" in line:
            return line["result"]
    raise DaemonError("collectived broke off without an answer", _LOG_HINT)


_LOG_HINT = "see its log: journalctl -u collectived"
_START_HINT = "start it: systemctl start collectived"


def stream(
    path: str, method: str, route: str, body: dict[str, Any] | None, seconds: float
) -> Iterator[dict[str, Any]]:
    """Make a request and yield each line of the answer.

    Raises:
        CollectiveError: as ``ask``; an ``error`` line becomes its class.
    """
    data = json.dumps({"format": FORMAT, **(body or {})}).encode()
    head = f"{method} {route} HTTP/1.0\r\nHost: collective\r\nContent-Length: {len(data)}\r\n\r\n"
    sock = _connect(path, seconds)
    try:
        sock.sendall(head.encode() + data)
        yield from _lines(sock, seconds)
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
    sock.settimeout(_CONNECT_SECONDS)
    try:
        sock.connect(path)
    except FileNotFoundError:
        sock.close()
        raise DaemonError(
            f"collectived does not run here: no socket {path}", _START_HINT
        ) from None
    except ConnectionRefusedError:
        sock.close()
        raise DaemonError(
            f"collectived does not run here: nobody answers on {path}", _START_HINT
        ) from None
    except PermissionError:
        sock.close()
        raise AccessError(
            f"no right to talk to collectived: {path}",
            f"run as root or as a member of the socket's group (you are user {os.geteuid()})",
        ) from None
    except OSError as error:
        sock.close()
        raise DaemonError(f"cannot connect to {path}: {error.strerror}", _START_HINT) from None
    sock.settimeout(seconds)
    return sock


def _lines(sock: Any, seconds: float) -> Iterator[dict[str, Any]]:
    rest = b""
    in_body = False
    size = 0
    while part := sock.recv(65536):
        size += len(part)
        if size > _MOST_BYTES:
            raise ProtocolError("collectived answers without an end")
        rest += part
        if not in_body:
            _head, gap, body = rest.partition(b"\r\n\r\n")
            if not gap:
                continue
            in_body, rest = True, body
        *whole, rest = rest.split(b"\n")
        yield from (_decoded(line) for line in whole if line)
    if rest.strip():
        yield _decoded(rest)


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProtocolError("collectived answered with something other than JSON")
    if "error" in value:
        raise from_wire(value["error"])
    return value
