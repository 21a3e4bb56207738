"""Read certificates and keys, and say in our own errors what is wrong.

It does not decide whom to trust: a certificate that is read here is well formed, no more.

Invariants:
  * What ``load_…`` returns was parsed whole, so that no later look at it can fail.
  * No message holds a part of a key.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collective.errors import InputError, ProtocolError

# What the library raises for octets that it cannot read; which one depends on where it stumbles.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

_DER_MARK = b"\x30"  # a SEQUENCE, as which every certificate starts (X.690)


def subject(common_name: str, serial: str = "") -> x509.Name:
    """Return the X.509 name that holds ``common_name``, and a serial number if there is one.

    Raises:
        InputError: it is empty or longer than 64 characters (RFC 5280, appendix A.1).
    """
    size = len(common_name)
    if not 1 <= size <= 64:
        raise InputError(f"name {common_name!r} has {size} characters, expected 1 to 64")
    try:
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if serial:
            parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial))
        return x509.Name(parts)
    except ValueError as error:
        raise InputError(f"name {common_name!r} cannot stand in a certificate") from error


def load_certificate(data: bytes) -> x509.Certificate:
    """Read one certificate, PEM (the first one) or DER.

    What starts like DER is never searched for PEM: a stranger's certificate may carry the text
    of someone else's inside, and would be taken for it.

    Raises:
        ProtocolError: it is not a certificate, or one that this server cannot read.
    """
    try:
        if data.startswith(_DER_MARK):
            certificate = x509.load_der_x509_certificate(data)
        else:
            certificate = x509.load_pem_x509_certificate(data)
        certificate.public_key()
        _ = certificate.extensions, certificate.subject, certificate.issuer
        serial = certificate.serial_number
    except UNREADABLE as error:
        raise ProtocolError("certificate is not readable") from error
    if serial < 1:  # RFC 5280, 4.1.2.2: it could not be revoked
        raise ProtocolError("certificate has no positive serial number")
    return certificate


def load_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key without a passphrase.

    Raises:
        InputError: it is not a private key, or not EC P-256.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except UNREADABLE as error:
        raise InputError("private key is not readable") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError("private key is not EC P-256")
    return key


def new_private_key(curve: ec.EllipticCurve) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Make a private key; return it and its PEM (PKCS #8, no passphrase)."""
    key = ec.generate_private_key(curve)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key, pem
