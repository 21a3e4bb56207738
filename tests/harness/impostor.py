"""A deleted server that did not give up: it kept its keys, and makes itself new certificates.

It tries the two doors the way an attacker would, without the code under test for what counts: a
TLS handshake and one request.

Invariants:
  * What these return is what the other side did, never what it was expected to do.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from collective.etcd.arguments import Files, Timing, etcd_arguments
from collective.model.plan import Plan
from collective.pki import Authority, make_request, new_key
from tests.harness.doors import PATIENCE, ask, connect_tls
from tests.harness.server import Server

_FAST = Timing(50, 450)
_END_SECONDS = 10.0
_OPENED, _SHUT = "opened", "shut"


@dataclass(frozen=True)
class Kept:
    """What a server had in its folder of keys.

    Attributes:
        leaf: path of its own key and certificate.
        ca_pem, ca_key: of the CA that it held as a voter.
        folder: where new ones go.
    """

    leaf: Path
    ca_pem: bytes
    ca_key: bytes
    folder: Path

    @classmethod
    def of(cls, server: Server, folder: Path) -> Kept:
        """Copy what a voter has now."""
        pki = Path(server.layout.pki)
        folder.mkdir()
        leaf = folder / "leaf.pem"
        leaf.write_bytes((pki / "leaf.pem").read_bytes())
        return cls(leaf, (pki / "ca.pem").read_bytes(), (pki / "ca.key").read_bytes(), folder)

    def mint(self, name: str, address: str) -> Path:
        """Make a certificate for a name with the CA's key; return the path of key and leaf."""
        authority = Authority.from_pem(self.ca_pem, self.ca_key)
        key = new_key()
        now = datetime.now(timezone.utc)
        leaf = authority.issue(make_request(key, name), name, [address, "127.0.0.1", "::1"], now)
        path = self.folder / f"{name}.pem"
        path.write_bytes(key + leaf + self.ca_pem)
        return path


@contextmanager
def own_etcd(server: Server, etcd: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an etcd on what a server had, without its daemon: its data, certificates and arguments.

    Args:
        server: whose; neither its daemon nor its etcd may run.
        etcd: the program.
        folder: a copy of the server's folder of data, with a short path.
    """
    plan = Plan.from_json((folder / "state" / "server.json").read_text())
    pki = folder / "pki"
    files = Files(
        str(folder / "etcd"), *(str(pki / name) for name in ("leaf.pem", "ca.pem", "crl.der"))
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(etcd), *etcd_arguments(plan, files, _FAST, [server.address])],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(_END_SECONDS)


def copy_of(server: Server, folder: Path) -> Path:
    """Copy all that a server has, keys and data, and return where it is."""
    shutil.copytree(server.layout.data, folder, ignore=shutil.ignore_patterns("*.lock"))
    return folder


def server_context(leaf: Path) -> ssl.SSLContext:
    """Return the context of a server that shows a certificate and asks for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    return context


def held_open(server: Server, leaf: Path) -> ssl.SSLSocket:
    """Open a connection to our door that is answered, and keep it open."""
    tls = connect_tls((server.address, server.port), _context(leaf))
    tls.settimeout(PATIENCE)
    tls.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = tls.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise AssertionError(answer)
    return tls


def _context(leaf: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # an attacker does not mind
    context.load_cert_chain(leaf)
    return context


def peer_port(server: Server, leaf: Path) -> str:
    """Say whether etcd's peer door answers a request with this certificate."""
    return _answers(server, server.peer_port, leaf, "/version")


def member_door(server: Server, leaf: Path) -> str:
    """Say whether our door answers a member's request with this certificate."""
    return _answers(server, server.port, leaf, "/v1/status")


def _answers(server: Server, port: int, leaf: Path, path: str) -> str:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    try:
        with connect_tls((server.address, port), _context(leaf)) as tls:
            tls.settimeout(PATIENCE)
            answer = ask(tls, request)
    except (ssl.SSLError, ConnectionError):
        return _SHUT
    return _OPENED if answer.startswith(b"HTTP/1.1 200") else _SHUT
