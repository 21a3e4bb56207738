"""What a stranger can make of public material: changed octets, and certificates around any key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def one_bit_changes(der: bytes, signature: bytes) -> Iterator[bytes]:
    """Yield copies of a signed structure, each with one bit flipped in another octet.

    The octet before the signature says how many of its last bits do not count. It is left alone:
    for a signature that happens to end in zero bits, another number there means the same.
    """
    uncounted = der.index(signature) - 1
    for position in range(len(der)):
        if position != uncounted:
            changed = bytearray(der)
            changed[position] ^= 1 << position % 8
            yield bytes(changed)


def certificate_around(
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    *,
    ca: bool = True,
    inside: bytes = b"",
) -> bytes:
    """Return a certificate (PEM) that looks like a CA's, around any public key.

    Args:
        public: the key that it is about.
        signer: the key that signs it.
        now: when it starts.
        ca: whether it says that it is a CA's.
        inside: octets that it carries in an extension that nobody knows.
    """
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), inside)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collective")])
    usage = x509.KeyUsage(False, False, False, False, False, ca, ca, False, False)
    return (
        x509.CertificateBuilder(name, name, public, 7, now, now + timedelta(days=9999))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(unknown, critical=False)
        .sign(signer, hashes.SHA384())
        .public_bytes(serialization.Encoding.PEM)
    )


def as_pem(kind: str, der: bytes) -> bytes:
    """Wrap octets, good or bad, in the armour of PEM."""
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()
