"""The certificates of servers, read from the disk, over TLS and with etcdctl.

It judges nothing, and asks no code under test: certificates are read with ``cryptography``.
"""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.harness.server import Server

_SECONDS = 5.0


def fingerprint_of(pem: str | bytes) -> str:
    """Return the SHA-256 (hex) of the first certificate in a PEM text."""
    data = pem.encode() if isinstance(pem, str) else pem
    return x509.load_pem_x509_certificates(data)[0].fingerprint(hashes.SHA256()).hex()


def identity_of(server: Server) -> Path:
    """Return where key and certificate of a server are."""
    return Path(server.layout.pki, "server.pem")


def own(server: Server) -> str:
    """Return the fingerprint of the certificate on the disk of a server."""
    return fingerprint_of(identity_of(server).read_bytes())


def served_by(server: Server, port: int | None = None) -> x509.Certificate:
    """Return the certificate that a server shows at its door, or at another port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    place = (server.address, port or server.port)
    with (
        socket.create_connection(place, _SECONDS) as raw,
        context.wrap_socket(raw) as tls,
    ):
        der = tls.getpeercert(True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def served_fingerprint(server: Server, port: int | None = None) -> str:
    """Return the fingerprint of what a server shows."""
    return served_by(server, port).fingerprint(hashes.SHA256()).hex()


def recorded(seen_by: Server, name: str) -> list[str]:
    """Return the fingerprints of a member's recorded certificates, as a voter's etcd has them."""
    found = seen_by.etcdctl("get", f"collective/v1/members/{name}", "--print-value-only").out
    return [fingerprint_of(pem) for pem in json.loads(found)["certificates"]]


def revoked(seen_by: Server) -> set[str]:
    """Return the fingerprints of what was revoked, as a voter's etcd has them."""
    prefix = "collective/v1/revoked/"
    keys = seen_by.etcdctl("get", prefix, "--prefix", "--keys-only").lines
    return {key.removeprefix(prefix) for key in keys if key}


def trusted_by_etcd(server: Server) -> set[str]:
    """Return the fingerprints in the trust file with which a voter's etcd was started."""
    data = Path(server.layout.pki, "trusted.pem").read_bytes()
    found = x509.load_pem_x509_certificates(data)
    return {certificate.fingerprint(hashes.SHA256()).hex() for certificate in found}


def restarts_to_take_up(server: Server) -> list[str]:
    """Return for whom a voter's etcd was restarted, once for each restart, as its log has it."""
    mark = "etcd is restarted to take up names="
    return [line.partition(mark)[2] for line in server.log_text.splitlines() if mark in line]
