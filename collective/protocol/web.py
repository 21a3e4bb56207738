"""The values that pass through a door: who asks, what is asked, and what is answered.

It does not read or write a socket and does not know how HTTP looks on the wire: that is
``connection.py``. It imports nothing heavy, so a client may share it.

Invariants:
  * A peer has a certificate only if the TLS library found it among those that the door trusts.
  * An error crosses the door as ``{"error": {"code": ..., "message": ...}}``, and only a
    CollectiveError shows its text: anything else is "internal error" outside, a traceback inside.
  * Bodies and connection memories are kept out of reprs: they may hold secrets.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from collective.errors import (
    AccessError,
    CollectiveError,
    InputError,
    InvitationError,
    PendingError,
    ProtocolError,
    QuorumError,
    RefusedError,
    RemovedError,
)

if TYPE_CHECKING:
    from collective.protocol.tunnel import Tunnel

_log = logging.getLogger(__name__)

#: Lists, objects and what is in them, in one request: one with 10,000 operations has fewer.
#: Commas and brackets within texts count, too.
MOST_VALUES = 65536

_INTERNAL = {"code": CollectiveError.code, "message": "internal error"}
_STATUSES: tuple[tuple[type[CollectiveError], int], ...] = (
    (InputError, 400),
    (ProtocolError, 400),
    (AccessError, 403),
    (InvitationError, 403),
    (RemovedError, 403),
    (RefusedError, 409),
    (QuorumError, 503),
    (PendingError, 503),
)


@dataclass(frozen=True)
class PeerCertificate:
    """What a verified client certificate says.

    Attributes:
        name: the subject's common name.
        fingerprint: SHA-256 of the DER form, lower-case hex.
    """

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Requester:
    """The other end of a connection.

    Attributes:
        transport: "unix" or "tls".
        address: its IP address, or ``uid=N`` for a unix socket.
        certificate: its verified certificate, or None for a stranger and for a unix socket.
    """

    transport: Literal["unix", "tls"]
    address: str
    certificate: PeerCertificate | None = None

    @property
    def authenticated(self) -> bool:
        """Whether it showed a verified certificate; who may open a unix socket, its mode says."""
        return self.certificate is not None


@dataclass(frozen=True)
class Request:
    """One whole request.

    Attributes:
        method: upper case, as sent.
        path: percent-decoded, printable, begins with a slash.
        query: the last value of each name.
        body: all of it.
        peer: who asks.
        accepts_text: whether it accepts ``text/plain`` only.
        memory: one per connection and as long-lived as it, the same for all of its requests.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    peer: Requester
    memory: dict[str, Any] = field(repr=False)
    accepts_text: bool = False

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            ProtocolError: the body is not JSON, or not an object, or has too many values: each
                takes far more memory than octets of the body.
        """
        if len(self.body) - len(self.body.translate(None, b"[{,")) > MOST_VALUES:
            raise ProtocolError(
                f"the body of {self.method} {self.path} has more than {MOST_VALUES} values"
            )
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"the body of {self.method} {self.path} is not JSON") from error
        if not isinstance(value, dict):
            raise ProtocolError(f"the body of {self.method} {self.path} is not a JSON object")
        return value


@dataclass(frozen=True)
class Response:
    """One answer.

    Attributes:
        status: the HTTP status, 200 to 599, or 101 with a tunnel.
        body: all of it, or an iterator whose chunks are sent as they come. An empty chunk sends
            nothing, but lets the door notice that the peer is gone: an iterator that may be
            silent for long should yield one now and then. A ``close`` method is called at the end.
            Or a tunnel: the connection becomes it.
        content_type: the media type.
    """

    status: int
    body: bytes | Iterator[bytes] | Tunnel = field(repr=False, default=b"")
    content_type: str = "application/json"


Handler = Callable[[Request], Response]


def json_response(status: int, value: object) -> Response:
    """Answer with one JSON value."""
    return Response(status, _line(value))


def lines_response(items: Iterable[Mapping[str, Any] | None], status: int = 200) -> Response:
    """Answer with one JSON object per line, each sent as soon as it is there.

    Args:
        items: the objects; None sends nothing and lets the door notice that the peer is gone.
            An exception out of it becomes a last line ``{"error": ...}``, since the status has
            been sent by then and the end of an HTTP/1.0 body does not tell whole from cut.
        status: the HTTP status.
    """
    return Response(status, _Lines(items), "application/x-ndjson")


def error_response(error: CollectiveError, status: int | None = None) -> Response:
    """Answer with an error.

    Args:
        error: what went wrong.
        status: the HTTP status; None takes the one that belongs to the kind of error.
    """
    if status is None:
        status = next((number for kind, number in _STATUSES if isinstance(error, kind)), 500)
    return json_response(status, {"error": error.to_wire()})


def internal_error_response() -> Response:
    """Answer that something failed here, and nothing about what."""
    return json_response(500, {"error": _INTERNAL})


class _Lines:
    """An iterator of JSON lines that also closes what it reads from, started or not."""

    def __init__(self, items: Iterable[Mapping[str, Any] | None]) -> None:
        self._items = iter(items)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            item = next(self._items)
            return b"" if item is None else _line(item)
        except StopIteration:
            raise
        except CollectiveError as error:
            wire = error.to_wire()
        except Exception:
            _log.exception("a stream of lines failed")
            wire = _INTERNAL
        self.close()
        self._items = iter(())
        return _line({"error": wire})

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
