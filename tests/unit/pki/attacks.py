"""What a stranger can make of public material: changed octets, and certificates of every kind."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from collective.pki.certificate import VALID_FROM, VALID_UNTIL

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Extension = tuple[x509.ExtensionType, bool]

BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
NO_CA = x509.BasicConstraints(ca=False, path_length=None)


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


def named(*names: str) -> x509.SubjectAlternativeName:
    """Return SANs that are host names."""
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in names])


def unknown(octets: bytes) -> x509.UnrecognizedExtension:
    """Return an extension that nobody knows, with octets in it."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), octets)


@dataclass(frozen=True)
class Forged:
    """A certificate as anybody can write one; each field alone makes it one that is not ours.

    Attributes:
        key: that it is about; None makes one.
        signer: that signs it; None takes the key.
        subject: common names and serial numbers in it; None gives those of the server.
        issuer: None takes the subject.
        serial: its number.
        valid_from, valid_until: when it is good.
        ca: whether it says that it is a CA's; None says nothing of it.
        names: its SANs, None for none.
        usage: what it is for.
        more: further extensions.
    """

    name: str = "mgt2"
    key: Key | None = None
    signer: Key | None = None
    subject: x509.Name | None = None
    issuer: x509.Name | None = None
    serial: int = 0xABCDEF
    valid_from: datetime = VALID_FROM
    valid_until: datetime = VALID_UNTIL
    ca: bool | None = False
    names: x509.SubjectAlternativeName | None = None
    without_names: bool = False
    usage: Sequence[x509.ObjectIdentifier] = BOTH
    more: Sequence[Extension] = ()

    def pem(self) -> str:
        """Return it."""
        key = self.key or ec.generate_private_key(ec.SECP256R1())
        subject = self.subject
        if subject is None:
            subject = subject_of(self.name, f"{self.serial:x}")
        issuer = subject if self.issuer is None else self.issuer
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), self.serial)
        builder = builder.not_valid_before(self.valid_from).not_valid_after(self.valid_until)
        for extension, critical in self._extensions(key):
            builder = builder.add_extension(extension, critical=critical)
        signer = self.signer or key
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        signed = builder.sign(signer, algorithm)
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def _extensions(self, key: Key) -> Iterator[Extension]:
        if self.ca is not None:
            yield x509.BasicConstraints(ca=self.ca, path_length=None), True
        signs = (True, *(False for _ in range(8)))
        yield x509.KeyUsage(*signs), True
        if self.usage:
            yield x509.ExtendedKeyUsage(self.usage), False
        if not self.without_names:
            yield self.names or named(self.name), False
        yield x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
        yield from self.more


def with_serial(pem: str, key: ec.EllipticCurvePrivateKey, serial: int) -> str:
    """Return a certificate with a serial number of 160 bits, which the library makes none with.

    Args:
        pem: a certificate of that key whose number has 159 bits.
        key: signs it anew.
        serial: of 160 bits.
    """
    former = x509.load_pem_x509_certificate(pem.encode())
    old, new = former.serial_number.to_bytes(20, "big"), serial.to_bytes(21, "big")
    body = former.tbs_certificate_bytes[4:].replace(b"\x02\x14" + old, b"\x02\x15" + new, 1)
    tbs = _sequence(body)
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256, RFC 5758, 3.2
    return as_pem("CERTIFICATE", _sequence(tbs + algorithm + bits)).decode()


def _sequence(body: bytes) -> bytes:
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def subject_of(*names: str) -> x509.Name:
    """Return a subject: a common name, then a serial number, then more common names."""
    kinds = [NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER, *[NameOID.COMMON_NAME] * len(names)]
    return x509.Name([x509.NameAttribute(k, n) for k, n in zip(kinds, names, strict=False)])


def as_pem(kind: str, der: bytes) -> bytes:
    """Wrap octets, good or bad, in the armour of PEM."""
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {kind}-----\n{body}-----END {kind}-----\n".encode()
