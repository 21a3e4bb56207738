"""The revocation list file that etcd reads at each handshake.

etcd looks for serial numbers in it and at nothing else (field notes: neither signature nor dates),
so whoever runs the etcd signs it, with the key at hand.

It does not know what is revoked.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from collective.pki import codec
from collective.pki.certificate import VALID_FROM, VALID_UNTIL


def make_revocation_list(key_pem: bytes, name: str, serials: Iterable[str]) -> bytes:
    """Sign the list of certificates that etcd is to refuse.

    Args:
        key_pem: the private key of this server.
        name: of this server.
        serials: serial numbers, hexadecimal; none gives an empty list.

    Returns:
        The list as DER.

    Raises:
        InputError: the key is not readable.
    """
    builder = x509.CertificateRevocationListBuilder(codec.subject(name), VALID_FROM, VALID_UNTIL)
    for serial in sorted({int(serial, 16) for serial in serials}):
        revoked = x509.RevokedCertificateBuilder(serial, VALID_FROM).build()
        builder = builder.add_revoked_certificate(revoked)
    signed = builder.sign(codec.load_key(key_pem), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)
