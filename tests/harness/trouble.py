"""For tests of what is refused: what a refusal looks like, what must not change, false servers.

Invariants:
  * ``facts`` are read with etcdctl and from the disk, never through the code under test.
  * A false server ends with its ``with`` block, whatever its clients do.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collective.errors import CollectiveError
from collective.model.keyspace import COORDINATION, ONLINE
from collective.model.token import Token
from collective.protocol.peer import PeerClient, anybody, client_context
from tests.harness.doors import PATIENCE, read_to_end
from tests.harness.server import Result, Server
from tests.harness.waiting import wait_until
from tools.etcd_versions import Etcd, etcds_in_use

_SETTLE_SECONDS = 20.0
_NOBODY = "65534"

#: A command that runs what follows it as the user nobody; needs root.
AS_NOBODY = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--"]


def one_etcd() -> Etcd:
    """Return the newest etcd here, for tests that do not depend on its version."""
    return etcds_in_use()[-1]


@dataclass(frozen=True)
class Facts:
    """All that a refusal must leave alone.

    Attributes:
        members: what etcdctl lists.
        records: every key and value of the store, pending invitations among them.
        state: the bytes of the state file.
    """

    members: tuple[str, ...]
    records: tuple[str, ...]
    state: bytes


def facts(server: Server) -> Facts:
    """Return what a server, which has a quorum, holds now."""
    members = sorted(server.etcdctl("member", "list").lines)
    records = _without_who_is_there(server.etcdctl("get", "", "--from-key").lines)
    return Facts(tuple(members), tuple(records), state_file(server).read_bytes())


def _without_who_is_there(lines: Sequence[str]) -> list[str]:
    """Leave out what says which daemons run, and the value of each: it comes and goes."""
    hidden = {n for n, line in enumerate(lines) if line.startswith(COORDINATION + ONLINE)}
    return [line for n, line in enumerate(lines) if n not in hidden and n - 1 not in hidden]


def settle(server: Server) -> None:
    """Wait until a server that was just started has written all that a start writes."""

    def settled() -> bool:
        document = server.ask_show()
        names = [member["name"] for member in document["members"]] if document else []
        started = '"started": true' in state_file(server).read_text()
        remembered = Path(server.layout.state, "view.json")
        return (
            server.name in names
            and started
            and _says_whom_it_trusts(server, document)
            and remembered.exists()
            and f'members/{server.name}"' in remembered.read_text()
        )

    wait_until(settled, _SETTLE_SECONDS, f"{server.name} has settled")


def _says_whom_it_trusts(server: Server, document: dict[str, Any] | None) -> bool:
    """Tell whether nothing more is to be restarted, and, of a voter, that this is written down."""
    if document is None or document["restarting"] is not None or document["errors"]:
        return False
    roles = {member["name"]: member["role"] for member in document["members"]}
    if roles[server.name] != "voter":
        return True
    key = f"collective/v1/trust/{server.name}"
    return bool(server.etcdctl("get", key, "--keys-only", check=False).out)


def state_file(server: Server) -> Path:
    """Return where a server remembers what it is."""
    return Path(server.layout.state, "server.json")


def assert_refused(result: Result, error: type[CollectiveError], *words: str) -> None:
    """See that a command ended with one clear error and nothing else.

    Args:
        result: of the command.
        error: the class whose exit status is documented for this.
        words: what the error, or its hint, must name.
    """
    said = result.err
    assert result.code == error.exit_code, said
    assert result.out == ""
    assert_explained(said, *words)


def assert_explained(said: str, *words: str) -> None:
    """See that there is one ``error:`` line, at most one ``hint:``, and no traceback."""
    errors = [line for line in said.splitlines() if ": error: " in line]
    hints = [line for line in said.splitlines() if ": hint: " in line]
    assert len(errors) == 1, said
    assert len(hints) <= 1, said
    assert "Traceback" not in said
    assert "internal error" not in said
    for word in words:
        assert word in "\n".join(errors + hints), said


Behaviour = Callable[[socket.socket], None]


@dataclass
class FalseServer:
    """A TCP server on 127.0.0.1 that is not what its client expects.

    Attributes:
        port: where it listens.
        received: what clients sent, per connection; for TLS, what came after the handshake.
        handshakes: how many TLS handshakes were finished.
    """

    port: int
    received: list[bytes] = field(default_factory=list)
    handshakes: int = 0

    @property
    def where(self) -> str:
        """What to write after ``collective join``."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def silent_server() -> Iterator[FalseServer]:
    """Listen and never say a word: the kernel takes the connections, nobody reads them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield FalseServer(listener.getsockname()[1])


@contextmanager
def serving(behave: Callable[[FalseServer, socket.socket, int], None]) -> Iterator[FalseServer]:
    """Serve each connection, one after the other.

    Args:
        behave: gets the server, a connection and its number, from 0; the connection is closed
            when it returns.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        false = FalseServer(listener.getsockname()[1])

        def serve() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.settimeout(PATIENCE)
                    behave(false, connection, number)
                number += 1

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield false
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def answers_http(false: FalseServer, connection: socket.socket, _number: int) -> None:
    """Be a web server without TLS."""
    false.received.append(connection.recv(65536))
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def hangs_up(_false: FalseServer, _connection: socket.socket, _number: int) -> None:
    """Close at once."""


def records_tls(context: ssl.SSLContext) -> Callable[[FalseServer, socket.socket, int], None]:
    """Return the behaviour of a TLS server that keeps what it is sent, and answers nothing."""

    def behave(false: FalseServer, connection: socket.socket, _number: int) -> None:
        # do_handshake by itself: a client that is content shows in ``handshakes``.
        with context.wrap_socket(connection, server_side=True) as tls:
            false.handshakes += 1
            false.received.append(read_to_end(tls))

    return behave


def answers_tls(
    context: ssl.SSLContext, body: bytes
) -> Callable[[FalseServer, socket.socket, int], None]:
    """Return the behaviour of a TLS server that answers whatever it is asked with a body."""

    def behave(false: FalseServer, connection: socket.socket, _number: int) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            false.handshakes += 1
            false.received.append(_read_request(tls))
            length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            tls.sendall(b"HTTP/1.1 200 OK\r\n" + length.encode() + body)

    return behave


def _read_request(tls: ssl.SSLSocket) -> bytes:
    """Read a request with its body: to close before it is read resets the connection."""
    with tls.makefile("rb") as stream:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (line := stream.readline()):
            head += line
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        return head + (stream.read(int(found.group(1))) if found is not None else b"")


def relays_first(
    target: tuple[str, int], then: Callable[[FalseServer, socket.socket, int], None]
) -> Callable[[FalseServer, socket.socket, int], None]:
    """Return the behaviour of one who passes the first connection on, and serves the others."""

    def behave(false: FalseServer, connection: socket.socket, number: int) -> None:
        if number > 0:
            then(false, connection, number)
            return
        with socket.create_connection(target, timeout=PATIENCE) as upstream:
            back = threading.Thread(target=_pump, args=(upstream, connection), daemon=True)
            back.start()
            _pump(connection, upstream)
            back.join(PATIENCE)

    return behave


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)


def challenge_of(server: Server) -> dict[str, Any]:
    """Return what a server says to any stranger, its guest lists among it."""
    peer = PeerClient(server.address, server.port, client_context(), anybody)
    try:
        return peer.call("GET", "/v1/enroll/challenge", None, PATIENCE)
    finally:
        peer.close()


def assert_stranger_asked(false: FalseServer, token: str) -> None:
    """See that a joiner sent no more than a question that has nothing of its own in it."""
    # The first connection is for a look at the certificate alone.
    (sent,) = [each for each in false.received if each]
    assert sent.startswith(b"GET /v1/enroll/challenge HTTP")
    assert sent.endswith(b"\r\n\r\n"), "a body was sent"
    seed = Token.parse(token).seed
    assert not [s for s in (token.strip()[:40].encode(), seed, seed.hex().encode()) if s in sent]
