"""A daemon under hostile input: send it, and judge what comes back and what is logged.

It makes no input.

Invariants:
  * An answer is a finding if it is no clean HTTP, or says that something failed inside; so is
    a log line with a traceback, and a secret in either.
"""

from __future__ import annotations

import http.client
import io
import itertools
import json
import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from collective.daemon.member.credentials import Credentials
from collective.protocol import messages
from collective.protocol.peer import PeerClient, anybody
from tests.fuzz.inputs import Input
from tests.harness.server import Server

_ANSWER_SECONDS = 30.0
_BROKEN_SECONDS = 0.05
_BAD_LOG = ("Traceback", "internal error", "failed door=", "a stream of lines failed")
# A challenge, what a preflight finds in a bad proof, an admission without a claim, how a claim
# stands that nobody made, which certificates this server had, and whether one was revoked.
_FOR_STRANGERS = (
    {"nonce", "guests", "name", "release", "now", "seen"},
    {"findings", "pauses"},
    {"error"},
    {"claimed"},
    {"steps"},
    {"deleted"},
)
_CLEAN = frozenset((200, 400, 403, 404, 409, 411, 413, 429, 431, 500, 501, 503))


def _is_for_strangers(text: str) -> bool:
    told = json.loads(text)
    if told.get("claimed") or told.get("deleted"):
        return False
    found = told.get("findings", [{"code": "invitation"}])
    return told.keys() - {"format"} in _FOR_STRANGERS and found[0]["code"] == "invitation"


class Finding(AssertionError):
    """Something that must not be."""


@dataclass
class Target:
    """One daemon, seen from the network.

    Attributes:
        server: whose door it is.
        member: another member, whose certificate is used where one is.
        secrets: texts that nobody may see.
        sent: how many requests were sent.
        answers: how many answers had which status.
    """

    server: Server
    member: Server
    secrets: tuple[str, ...]
    sent: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    _read: int = 0

    def __post_init__(self) -> None:
        self._credentials = Credentials(Path(self.member.layout.pki))
        self._stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._stranger.check_hostname = False
        self._stranger.verify_mode = ssl.CERT_NONE
        self._known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._known.check_hostname = False
        self._known.verify_mode = ssl.CERT_NONE
        self._known.load_cert_chain(self._credentials.identity_file)
        self._turn = threading.Lock()
        self._sources = itertools.cycle(
            f"127.{net}.{a}.{b}" for b in range(1, 200) for a in range(1, 20) for net in (7, 8)
        )

    def dial(self) -> socket.socket:
        """Open a TCP connection from an address that was not used for long."""
        with self._turn:  # a generator is for one thread at a time
            source = next(self._sources)
        return socket.create_connection(
            (self.server.address, self.server.port), _ANSWER_SECONDS, (source, 0)
        )

    def connect(self, member: bool = False) -> ssl.SSLSocket:
        """Open a TLS connection, as a stranger or a member."""
        return (self._known if member else self._stranger).wrap_socket(self.dial())

    def attack(self, attempt: Input) -> None:
        """Send one input and judge all that comes of it.

        Raises:
            Finding: what should not be.
        """
        with self.connect(attempt.member) as sock:
            if attempt.whole:
                self._converse(sock, attempt)
            else:
                self._throw(sock, attempt.requests[0])
        self.judge_log()

    def _converse(self, sock: ssl.SSLSocket, attempt: Input) -> None:
        for request in attempt.requests:
            self.sent += 1
            try:
                sock.sendall(request)
                response = http.client.HTTPResponse(sock)
                response.begin()
                body = self._body(response)
            except (http.client.BadStatusLine, ConnectionError, ssl.SSLError):
                return  # cut: that is clean
            except TimeoutError:
                raise Finding(f"no answer to {request[:80]!r}") from None
            self._judge(response.status, body, attempt.member)
            if response.will_close:
                return

    @staticmethod
    def _body(response: http.client.HTTPResponse) -> bytes:
        if response.getheader("content-type") == "application/x-ndjson":
            return response.readline()  # a watch goes on
        return response.read()

    def _throw(self, sock: ssl.SSLSocket, octets: bytes) -> None:
        self.sent += 1
        sock.settimeout(_BROKEN_SECONDS)
        answer = b""
        with suppress(OSError):
            sock.sendall(octets)
            while part := sock.recv(65536):
                answer += part
        if answer:
            if not answer.startswith(b"HTTP/1.1 "):
                raise Finding(f"no HTTP: {answer[:80]!r}")
            self._judge(int(answer[9:12]), _body_of(answer), False)

    def _judge(self, status: int, body: bytes, member: bool) -> None:
        self.answers[status] = self.answers.get(status, 0) + 1
        if status not in _CLEAN and status != 100:
            raise Finding(f"status {status}: {body[:200]!r}")
        text = body.decode(errors="replace")
        if "internal error" in text or "Traceback" in text:
            raise Finding(f"status {status}: {text[:200]}")
        if status == 200 and not member and not _is_for_strangers(text):
            raise Finding(f"a stranger got {text[:200]}")
        self._judge_secrets(text, "an answer")

    def _judge_secrets(self, text: str, where: str) -> None:
        for secret in self.secrets:
            if secret in text:
                raise Finding(f"a secret is in {where}")

    def judge_log(self) -> None:
        """Judge what was logged since the last time.

        Raises:
            Finding: what should not be.
        """
        with self.server.log_file.open("rb") as log:
            log.seek(self._read)
            text = log.read().decode(errors="replace")
            self._read = log.tell()
        for bad in _BAD_LOG:
            if bad in text:
                raise Finding(text[-3000:])
        self._judge_secrets(text, "the log")

    def ask_as_member(self, seconds: float = 30.0) -> float:
        """Ask as a member, on a connection of its own, how the daemon is.

        Returns:
            How long that took, in seconds, connecting included.

        Raises:
            CollectiveError: it was not answered.
        """
        peer = PeerClient(
            self.server.address, self.server.port, self._credentials.client_context, anybody
        )
        began = time.monotonic()
        try:
            peer.call("GET", messages.STATUS, None, seconds)
        finally:
            peer.close()
        return time.monotonic() - began

    def memory(self) -> int:
        """Return the resident memory of the daemon, etcd not included, in bytes."""
        pages = Path(f"/proc/{self.server.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def secrets_of(server: Server, *tokens: str) -> tuple[str, ...]:
    """Return what of a server's keys and of tokens nobody may see, in pieces that stand for it."""
    found = [token.strip()[-60:-4] for token in tokens]
    pem = (Path(server.layout.pki) / "server.pem").read_text()
    # The first line says what kind of key it is, and is the same for all.
    found += [line for line in pem.splitlines()[2:4] if len(line) > 40]
    found += [json.dumps(piece)[1:-1] for piece in found if json.dumps(piece)[1:-1] != piece]
    return tuple(found)


class _Heard:
    """What was heard, in the place of a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._octets)


def _body_of(answer: bytes) -> bytes:
    """Return the body of the first answer: steps of a long one come in chunks."""
    response = http.client.HTTPResponse(cast(socket.socket, _Heard(answer)))
    try:
        response.begin()
        return response.read()
    except http.client.HTTPException:  # not whole
        return answer.partition(b"\r\n\r\n")[2]
