"""What the tests of a door need around it: a throw-away CA, raw clients and a listening door.

It does not judge anything.
"""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collective.protocol.door import without_resumption
from collective.protocol.web import PeerCertificate

PATIENCE = 10.0
_NOW = datetime.datetime.now(datetime.timezone.utc)
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key in one PEM file, and what a door should make of it."""

    file: Path
    facts: PeerCertificate


class Authority:
    """A CA in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        """Make key and certificate.

        Args:
            folder: where the files go.
            name: its common name, and the beginning of each file name.
        """
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int = 1
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(_NOW - _DAY)
            .not_valid_after(_NOW + _DAY)
        )

    def issue(self, name: str | None, serial: int) -> Leaf:
        """Issue a certificate.

        Args:
            name: the common name; None leaves it out.
            serial: the serial number.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")]
        if name is not None:
            parts.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        builder = self._builder(x509.Name(parts), key, serial)
        certificate = builder.sign(self._key, hashes.SHA256())
        file = self._folder / f"{name}-{serial:x}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        return Leaf(file, PeerCertificate(name or "", fingerprint))

    def server_context(self, leaf: Leaf) -> ssl.SSLContext:
        """Return a context as the daemon makes it: a client certificate is welcome."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(leaf.file)
        context.load_verify_locations(self.file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return without_resumption(context)

    def client_context(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        """Return a client's context; None comes as a stranger."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.file)
        if leaf is not None:
            context.load_cert_chain(leaf.file)
        return context


def connect_tls(address: tuple[str, int], context: ssl.SSLContext) -> ssl.SSLSocket:
    """Open a TLS connection."""
    return context.wrap_socket(socket.create_connection(address, timeout=PATIENCE))


def connect_unix(path: Path) -> socket.socket:
    """Open a connection to a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def http_over(sock: socket.socket) -> http.client.HTTPConnection:
    """Speak HTTP/1.1 over an open socket."""
    connection = http.client.HTTPConnection("door")
    connection.sock = sock
    return connection


def read_to_end(sock: socket.socket) -> bytes:
    """Read until the other side closes; a connection that is cut ends there too."""
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass
    return b"".join(parts)


def ask(sock: socket.socket, raw: bytes) -> bytes:
    """Send raw bytes, read until the other side closes, and close."""
    with sock:
        with suppress(ConnectionResetError, BrokenPipeError):  # turned down before the last byte
            sock.sendall(raw)
        return read_to_end(sock)


def said_by_the_door(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the door has logged; a daemon's thread that an earlier test left logs, too."""
    of_the_door = ("collective.protocol", "asyncio")
    return [each.getMessage() for each in caplog.records if each.name.startswith(of_the_door)]
