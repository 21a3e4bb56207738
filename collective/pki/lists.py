"""The revocation list of an authority, as somebody who trusts that authority reads it.

It fetches nothing and does not say what to do with a server that is in it.

Invariants:
  * A list counts only when the authority itself signed it, however it came here.
"""

from __future__ import annotations

import hmac

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from collective.errors import ProtocolError
from collective.pki import codec
from collective.pki.authority import Authority


def revoked_by(crl: bytes, ca_pem: bytes, pin: bytes) -> frozenset[str]:
    """Return the serial numbers that an authority has revoked.

    Args:
        crl: its revocation list, DER.
        ca_pem: its certificate; it may come from anybody.
        pin: the SHA-256 of the SubjectPublicKeyInfo by which the authority is known.

    Returns:
        Serial numbers as in ``LeafInfo``.

    Raises:
        ProtocolError: it is no list, or not one of that authority.
    """
    # First what costs least: whoever sent this may send a lot.
    certificate = codec.load_certificate(ca_pem)
    if not hmac.compare_digest(codec.spki_sha256(certificate), pin):
        raise ProtocolError("a revocation list is from another CA than the one that was asked for")
    Authority.from_pem(ca_pem, None)  # refuses what is not a CA's
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey), "an Authority sees to that"
    try:
        found = x509.load_der_x509_crl(crl)
        signed = found.is_signature_valid(key)
        serials = frozenset(f"{entry.serial_number:x}" for entry in found)
    except (*codec.UNREADABLE, InvalidSignature) as error:
        raise ProtocolError("a revocation list is not readable") from error
    if not signed:
        raise ProtocolError("a revocation list is not signed by its CA")
    return serials
