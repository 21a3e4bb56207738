"""Self-signed certificates as servers have them, and an empty revocation list, for bare etcds.

It is not the product's: the other side of a comparison must not change with it.

Invariants:
  * A certificate signs no other: CA:FALSE. It serves and connects, and time plays no part in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BEGIN = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: No end at all (RFC 5280, 4.1.2.5).
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Leaf:
    """A key and its certificate, each as PEM."""

    key: bytes
    certificate: bytes


def make_leaf(name: str, addresses: Sequence[str]) -> Leaf:
    """Make a P-256 key and a certificate that it signs itself.

    Args:
        name: of the server; the common name, and a SAN.
        addresses: IP addresses, the other SANs.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    others = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USAGES), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *others]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Leaf(private, certificate.public_bytes(pem))


def empty_list() -> bytes:
    """Return a revocation list (DER) that names nobody; etcd does not look at its signature."""
    now = datetime.now(timezone.utc)
    made = x509.CertificateRevocationListBuilder(
        _subject("nobody"), now, now + timedelta(days=1)
    ).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
