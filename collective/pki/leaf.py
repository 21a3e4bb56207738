"""The certificates of servers: make a key and a request, read a certificate, tell who signed it.

It does not read files and looks at no clock: whether a certificate is valid now, or revoked, is
for the caller (and for TLS) to ask.

Invariants:
  * A certificate counts as issued only when the signature was verified, never by names alone.
  * A pinned CA is taken from a chain only when the chain's own server was issued by it.
  * Fingerprints, key ids and serials are lower-case hexadecimal text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collective.errors import InvitationError, ProtocolError
from collective.pki import codec
from collective.pki.authority import Authority


@dataclass(frozen=True)
class LeafInfo:
    """What a server's certificate says.

    Attributes:
        name: the common name.
        serial: the serial number, hexadecimal, no leading zeros.
        not_before: when it starts (UTC).
        not_after: when it ends (UTC).
        addresses: the IP addresses and host names in its SANs, in order, without the name.
        fingerprint: SHA-256 of the DER, hexadecimal.
        key_id: SHA-256 of the DER SubjectPublicKeyInfo, hexadecimal.
    """

    name: str
    serial: str
    not_before: datetime
    not_after: datetime
    addresses: tuple[str, ...]
    fingerprint: str
    key_id: str


def new_key() -> bytes:
    """Make an EC P-256 private key; return it as PEM (PKCS #8, no passphrase)."""
    return codec.new_private_key(ec.SECP256R1())[1]


def make_request(key_pem: bytes, name: str) -> bytes:
    """Make a certificate request.

    Args:
        key_pem: the private key of the server.
        name: its name, 1 to 64 characters.

    Returns:
        The request (CSR, RFC 2986) as PEM.

    Raises:
        InputError: the key is not readable, or the name cannot stand in a certificate.
    """
    builder = x509.CertificateSigningRequestBuilder(codec.subject(name))
    request = builder.sign(codec.load_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def read_leaf(data: bytes) -> LeafInfo:
    """Read a server's certificate, without judging it.

    Args:
        data: the certificate, PEM (the first one counts) or DER.

    Raises:
        ProtocolError: it is not a certificate, or has no common name.
    """
    certificate = codec.load_certificate(data)
    name = _common_name(certificate)
    return LeafInfo(
        name=name,
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        addresses=tuple(a for a in _alternative_names(certificate) if a.lower() != name.lower()),
        fingerprint=hashlib.sha256(_der(certificate)).hexdigest(),
        key_id=codec.spki_sha256(certificate).hex(),
    )


def request_key_id(csr_pem: bytes) -> str:
    """Return the key id (as in LeafInfo) of a certificate request.

    Raises:
        ProtocolError: it is not a request, is not signed by its own key, or the key is not EC
            P-256 or P-384.
    """
    return codec.spki_sha256(codec.load_request_key(csr_pem)).hex()


def key_id_of_private(key_pem: bytes) -> str:
    """Return the key id (as in LeafInfo) that belongs to a private key.

    Raises:
        InputError: it is not a private key, or not EC P-256 or P-384.
    """
    return codec.spki_sha256(codec.load_key(key_pem).public_key()).hex()


def issued_by(leaf: bytes, authority: Authority) -> bool:
    """Tell whether the authority signed this certificate of a server; dates do not count.

    Args:
        leaf: the certificate, PEM (the first one counts) or DER. What is not readable, and the
            certificate of a CA, was not issued.
        authority: who should have signed it; its key is not needed.
    """
    try:
        certificate = codec.load_certificate(leaf)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(codec.load_certificate(authority.certificate_pem))
    except (ProtocolError, x509.ExtensionNotFound, InvalidSignature, *codec.UNREADABLE):
        return False
    return not constraints.value.ca


def authority_in_chain(chain_der: Sequence[bytes], pin: bytes, where: str = "the server") -> bytes:
    """Find the pinned CA among the certificates that a server showed.

    A CA certificate is no secret: anyone can send a copy of it after a certificate of their own.
    So the server's certificate, the first one, must have been issued by the pinned CA.

    Args:
        chain_der: the chain as TLS gave it, DER, the server's own certificate first.
        pin: the SHA-256 of the CA's SubjectPublicKeyInfo, from the token.
        where: the server as the message should call it.

    Returns:
        The CA's certificate as PEM.

    Raises:
        InvitationError: no genuine certificate of the pinned CA is there, or the server's
            certificate is not from it.
    """
    for der in chain_der:
        authority = _pinned(der, pin)
        if authority is not None and issued_by(chain_der[0], authority):
            return authority.certificate_pem
    raise InvitationError(f"{where} is not of the collective that the token is for")


def _pinned(der: bytes, pin: bytes) -> Authority | None:
    try:
        certificate = codec.load_certificate(der)
        if not hmac.compare_digest(codec.spki_sha256(certificate), pin):
            return None
        return Authority.from_pem(certificate.public_bytes(serialization.Encoding.PEM), None)
    except ProtocolError:
        return None


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise ProtocolError(f"certificate has {len(names)} common names, expected 1")
    return names[0].value


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    wanted = (x509.DNSName, x509.IPAddress)
    return [str(entry.value) for entry in extension.value if isinstance(entry, wanted)]


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
