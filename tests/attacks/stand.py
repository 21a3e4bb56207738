"""A door of an attacker's own: it shows a certificate, and answers what a function says.

It judges nothing, and knows no route.

Invariants:
  * When its block ends it is gone, and so is every connection that it had.
"""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_END_SECONDS = 10.0


@dataclass(frozen=True)
class Heard:
    """One request."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Said:
    """One answer.

    Attributes:
        lines: objects, one a line.
        status: of HTTP.
    """

    lines: tuple[Any, ...]
    status: int = 200

    @classmethod
    def one(cls, status: int = 200, **members: Any) -> Said:
        """Return an answer of one object, with our format."""
        return cls(({"format": 1, **members},), status)


Answers = Callable[[str, dict[str, Any]], Said]


@dataclass
class Stand:
    """Where it stands, what it shows, and what it heard.

    Attributes:
        place: address and port, which must be free.
        pem: key and certificate that it shows, and whatever it shows after it.
        answers: returns what is said to a path with a body.
        requests: that came, in order.
    """

    place: tuple[str, int]
    pem: Path
    answers: Answers
    requests: list[Heard] = field(default_factory=list)
    _open: list[ssl.SSLSocket] = field(default_factory=list)

    @contextmanager
    def standing(self) -> Iterator[Stand]:
        """Stand there while a block runs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        handler = type("Handler", (_Handler,), {"stand": self, "context": context})
        with _Listener(self.place, handler) as listener:
            thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                listener.shutdown()
                thread.join(_END_SECONDS)
                self._hang_up()

    def note(self, connection: ssl.SSLSocket) -> None:
        """Keep a connection in mind, to end it in the end."""
        self._open.append(connection)

    def _hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                # That of the socket itself: a thread may be reading with TLS just now.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(1 for request in list(self.requests) if request.path == path)


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing: who hangs up, at whatever moment, has a reason."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection; TLS is spoken in its own thread."""

    stand: Stand
    context: ssl.SSLContext
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Shake hands."""
        self.request.settimeout(_END_SECONDS)
        self.request = self.context.wrap_socket(self.request, server_side=True)
        self.stand.note(self.request)
        super().setup()

    def handle(self) -> None:
        """Serve; who hangs up has a reason."""
        with suppress(OSError):
            super().handle()

    def finish(self) -> None:
        """Close."""
        with suppress(OSError):
            super().finish()
        self.request.close()

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.stand.requests.append(Heard(str(self.command), self.path, body))
        raw: Any = {}
        with suppress(ValueError):
            raw = json.loads(body)
        said = self.stand.answers(self.path, raw if isinstance(raw, dict) else {})
        data = b"".join(json.dumps(line).encode() + b"\n" for line in said.lines)
        self.send_response(said.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""
