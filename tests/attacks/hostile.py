"""A server that turned bad: what it has, the certificates that it can make, and what it asks.

It uses none of the code under test for what counts: a TLS handshake, one request, one answer.

Invariants:
  * What these return is what the other side did, never what it was expected to do.
  * Whoever attacks knows what any member may know: ids, records, terms, ports.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attacks import raft
from tests.attacks.forging import certificates_of
from tests.harness import Server, wait_until
from tests.harness.doors import connect_tls, http_over

#: An etcd that has no leader takes a proposal, and waits. In TLS 1.3 a refusal comes at once.
SILENT = 0
MEMBERS = "collective/v1/members/"
REVOKED = "collective/v1/revoked/"
_ROUND_SECONDS = 60.0
_PAUSE_SECONDS = 0.02
_SILENCE_SECONDS = 10.0


def identity(folder: Path) -> Path:
    """Return the file with a server's key and certificate.

    Args:
        folder: the one for keys, in use or a copy.
    """
    present, former = folder / "server.pem", folder / "leaf.pem"
    return present if present.exists() or not former.exists() else former


def fingerprint(server: Server) -> str:
    """Return the SHA-256 (hex) of the certificate that a server shows."""
    pem = identity(Path(server.layout.pki)).read_text()
    begin = pem.index("-----BEGIN CERTIFICATE-----")
    end = pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[begin:end])).hexdigest()


@dataclass(frozen=True)
class Kept:
    """What a server had, and what its keys can make.

    Attributes:
        pem: a copy of its own key and certificate.
        all: every certificate that it can show, with its key, by a word for it.
    """

    pem: Path
    all: Mapping[str, Path]

    @classmethod
    def of(cls, server: Server, folder: Path, as_name: str) -> Kept:
        """Copy what a server has now.

        Args:
            server: the one that turns bad.
            folder: a new one, for the copies.
            as_name: of another member, to pass for.
        """
        folder.mkdir()
        pki = Path(server.layout.pki)
        pem = folder / "kept.pem"
        pem.write_bytes(identity(pki).read_bytes())
        return cls(pem, {"kept": pem, **certificates_of(pki, pem, folder, as_name)})


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP; SILENT from who took the request and did not answer; None where the door
            was shut, or nobody listens.
        body: of the answer, or why there is none.
    """

    status: int | None
    body: str

    @property
    def is_good(self) -> bool:
        """Whether what was asked for was done."""
        return self.status is not None and 200 <= self.status < 300


def ask(
    place: tuple[str, int],
    pem: Path,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make one request over a new connection, whoever answers.

    Args:
        place: address and port.
        pem: key and certificate to show.
        method, path, body, headers: of the request.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # an attacker does not mind
    context.load_cert_chain(pem)
    try:
        with connect_tls(place, context) as tls:
            return _ask(tls, method, path, body, {"Connection": "close", **(headers or {})})
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, repr(error))


def _ask(
    tls: ssl.SSLSocket, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> Answer:
    tls.settimeout(_SILENCE_SECONDS)
    connection = http_over(tls)
    connection.request(method, path, body, dict(headers))
    try:
        response = connection.getresponse()
    except TimeoutError as error:
        return Answer(SILENT, repr(error))
    return Answer(response.status, response.read().decode(errors="replace"))


def at_peer_port(server: Server, pem: Path, to_ask: str = "/version") -> Answer:
    """Ask a voter's etcd something harmless at its peer port."""
    return ask((server.address, server.peer_port), pem, "GET", to_ask)


def at_door(
    server: Server, pem: Path, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Answer:
    """Ask a daemon something at its door."""
    data = None if body is None else json.dumps(body).encode()
    return ask((server.address, server.port), pem, method, path, data)


def through_relay(server: Server, pem: Path, path: str, body: Mapping[str, Any]) -> Answer:
    """Ask a voter's etcd something through the voter's daemon, as a server without a vote does."""
    message = {"format": 1, "seconds": 5.0, "body": dict(body)}
    return at_door(server, pem, "POST", f"/v1/etcd{path}", message)


def propose(
    server: Server, pem: Path, cluster: raft.Cluster, data: bytes, sender: str = "mgt1"
) -> Answer:
    """Send a proposal to a voter's etcd, in the name of a voter."""
    message = cluster.proposal(sender, server.name, data)
    headers = cluster.headers(sender, server.name)
    return ask((server.address, server.peer_port), pem, "POST", raft.PATH, message, headers)


def member_routes(server: Server, pem: Path) -> dict[str, Answer]:
    """Ask a daemon for what members may ask for; return the answers by what was asked."""
    everything = {"key": base64.b64encode(b"\0").decode(), "range_end": "AA=="}
    return {
        "status": at_door(server, pem, "GET", "/v1/status"),
        "self": at_door(server, pem, "GET", "/v1/self"),
        "store": through_relay(server, pem, "/kv/range", everything),
    }


class Siege:
    """Tries every certificate at both doors of servers, over and over, while a block runs.

    Attributes:
        opened: what was not refused: server, what was asked, the certificate, the answer's status.
        doors: names of the servers whose own door counts; the peer port of each does.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        certificates: Mapping[str, Path],
        cluster: raft.Cluster,
        data: bytes,
        doors: Iterable[str] | None = None,
    ) -> None:
        """Prepare.

        Args:
            servers: to try.
            certificates: with their keys, by a word for each.
            cluster: of etcd.
            data: of the proposal that is sent to every etcd.
            doors: as the attribute; None for all.
        """
        self._servers = list(servers)
        self._certificates = certificates
        self._cluster = cluster
        self._data = data
        self.doors = {server.name for server in self._servers} if doors is None else set(doors)
        self.opened: set[tuple[str, str, str, int]] = set()
        self._rounds = dict.fromkeys((server.name for server in self._servers), 0)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._besiege, args=(server,), daemon=True)
            for server in self._servers
        ]

    def __enter__(self) -> Siege:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_rounds(self, count: int) -> None:
        """Wait until each server was tried so many times more, with everything, or one opened."""
        wanted = {name: done + count + 1 for name, done in self._rounds.items()}

        def done() -> bool:
            tried = all(self._rounds[name] >= number for name, number in wanted.items())
            return tried or bool(self.opened)

        wait_until(done, _ROUND_SECONDS, f"{count} rounds of the siege")

    def _besiege(self, server: Server) -> None:
        while not self._over.is_set():
            for word, pem in self._certificates.items():
                self._note(server, "raft", word, propose(server, pem, self._cluster, self._data))
                if server.name in self.doors:
                    for asked, answer in member_routes(server, pem).items():
                        # Somebody without a certificate may be told "no" there.
                        self._note(server, asked, word, answer, answer.is_good)
            self._rounds[server.name] += 1
            self._over.wait(_PAUSE_SECONDS)

    def _note(
        self, server: Server, asked: str, word: str, answer: Answer, counts: bool = True
    ) -> None:
        if answer.status is not None and counts:
            self.opened.add((server.name, asked, word, answer.status))


def held_for(seconds: float, look: Callable[[], bool]) -> bool:
    """Tell whether something was true at every look, for some seconds."""
    deadline = threading.Event()
    timer = threading.Timer(seconds, deadline.set)
    timer.start()
    try:
        while look():
            if deadline.wait(_PAUSE_SECONDS):
                return True
        return False
    finally:
        timer.cancel()
