"""A deleted server that did not give up: it kept its certificate, and makes itself new ones.

It tries the two doors the way an attacker would, without the code under test for what counts: a
TLS handshake and one request.

Invariants:
  * What these return is what the other side did, never what it was expected to do.
"""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from collective.etcd.arguments import Files, Timing, etcd_arguments
from collective.model.plan import Plan
from tests.harness.certificates import identity_of
from tests.harness.doors import PATIENCE, ask, connect_tls
from tests.harness.server import Server

_FAST = Timing(50, 450)
_END_SECONDS = 10.0
_OPENED, _SHUT = "opened", "shut"
_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_UNTIL = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)
_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Kept:
    """What a server had in its folder of keys.

    Attributes:
        identity: path of its own key and certificate.
        folder: where new ones go.
    """

    identity: Path
    folder: Path

    @classmethod
    def of(cls, server: Server, folder: Path) -> Kept:
        """Copy what a server has now."""
        folder.mkdir()
        identity = folder / "server.pem"
        identity.write_bytes(identity_of(server).read_bytes())
        return cls(identity, folder)

    def with_same_key(self, name: str, address: str) -> Path:
        """Make another certificate, for whatever name, with the key that was kept."""
        key = self._key
        return self._made(f"same-key-{name}", key, None, name, address)

    def signed(self, name: str, address: str) -> Path:
        """Make a certificate with a new key, issued by the one that was kept; with its issuer."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.load_pem_x509_certificate(self._pem)
        return self._made(f"signed-{name}", key, issuer, name, address)

    def look_alike(self) -> Path:
        """Make one with a new key and all else, serial number too, of the one that was kept."""
        old = x509.load_pem_x509_certificate(self._pem)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder(old.issuer, old.subject, key.public_key(), old.serial_number)
            .not_valid_before(old.not_valid_before_utc)
            .not_valid_after(old.not_valid_after_utc)
        )
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return self._write("look-alike", key, builder.sign(key, hashes.SHA256()), b"")

    def all_new(self, name: str, address: str) -> list[Path]:
        """Make every kind of new certificate there is."""
        return [
            self.with_same_key(name, address),
            self.signed(name, address),
            self.look_alike(),
        ]

    @property
    def _pem(self) -> bytes:
        data = self.identity.read_bytes()
        return data[data.index(b"-----BEGIN CERTIFICATE") :]

    @property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.identity.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def _made(
        self,
        file: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        name: str,
        address: str,
    ) -> Path:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        addresses = [ipaddress.ip_address(a) for a in (address, "127.0.0.1", "::1")]
        names = [x509.DNSName(name), *(x509.IPAddress(a) for a in addresses)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(_UNTIL)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USAGES), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        signer = key if issuer is None else self._key
        chain = b"" if issuer is None else self._pem
        return self._write(file, key, builder.sign(signer, hashes.SHA256()), chain)

    def _write(
        self, file: str, key: ec.EllipticCurvePrivateKey, made: x509.Certificate, chain: bytes
    ) -> Path:
        path = self.folder / f"{file}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM) + chain)
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
        str(folder / "etcd"),
        *(str(pki / name) for name in ("server.pem", "trusted.pem", "crl.der")),
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
