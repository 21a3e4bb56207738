"""The certificates that somebody can make who kept a server's keys, and a throw-away authority.

It asks nobody, and judges nothing.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NOW = datetime.datetime.now(datetime.timezone.utc)
_DAY = datetime.timedelta(days=1)
_SANS = ("127.0.0.1", "::1")

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Forger:
    """A key and the certificate that it signs with."""

    certificate: x509.Certificate
    key: Key

    @classmethod
    def authority(cls, name: str) -> Forger:
        """Make an authority of one's own."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        return cls(_certificate(subject, key.public_key(), subject, key, (), ca=True), key)

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, name: str, key: CertificatePublicKeyTypes) -> bytes:
        """Sign a certificate for a name; return it as PEM."""
        made = _certificate(_name(name), key, self.certificate.subject, self.key, (name, *_SANS))
        return made.public_bytes(serialization.Encoding.PEM)

    def sign_request(self, csr: bytes, name: str) -> bytes:
        """Sign what a request asks for; return it as PEM."""
        return self.sign(name, x509.load_pem_x509_csr(csr).public_key())

    def empty_list(self) -> bytes:
        """Return a revocation list (DER) that names nobody."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        dated = builder.last_update(_NOW - _DAY).next_update(_NOW + 3650 * _DAY)
        return dated.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def certificates_of(pki: Path, pem: Path, folder: Path, as_name: str) -> dict[str, Path]:
    """Make what can be made with a server's keys; return files with key and chain, by a word.

    Args:
        pki: the server's folder of keys.
        pem: its own key and certificate.
        folder: where the files go.
        as_name: of another member, to pass for.
    """
    data = pem.read_bytes()
    own, key = x509.load_pem_x509_certificate(data), _key(data)
    name = str(own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    fresh = ec.generate_private_key(ec.SECP256R1())
    as_authority = Forger(
        _certificate(own.subject, key.public_key(), own.subject, key, (name, *_SANS), ca=True), key
    )
    kept = Forger(own, key)
    made: dict[str, Sequence[bytes]] = {
        "signed with its key": [_private(fresh), kept.sign(name, fresh.public_key()), kept.pem],
        "signed with its key as another": [
            *(_private(fresh), kept.sign(as_name, fresh.public_key()), kept.pem)
        ],
        "signed by itself as an authority": [
            *(_private(fresh), as_authority.sign(name, fresh.public_key()), as_authority.pem),
        ],
        "same key and serial": [_private(key), _self_signed(name, key, own.serial_number)],
        "same key": [_private(key), _self_signed(name, key, None)],
        "as another": [_private(fresh), _self_signed(as_name, fresh, None)],
    }
    stolen = _authority_in(pki)
    if stolen is not None:
        for word, minted in (("minted", name), ("minted as another", as_name)):
            chain = [_private(fresh), stolen.sign(minted, fresh.public_key()), stolen.pem]
            made = {word: chain, **made}
    files = {}
    for number, (word, parts) in enumerate(made.items()):
        files[word] = folder / f"{number}.pem"
        files[word].write_bytes(b"".join(parts))
    return files


def _authority_in(pki: Path) -> Forger | None:
    """Return the collective's authority, where there is one whose key a server has."""
    certificate, key = pki / "ca.pem", pki / "ca.key"
    if not key.exists():
        return None
    return Forger(x509.load_pem_x509_certificate(certificate.read_bytes()), _key(key.read_bytes()))


def _self_signed(name: str, key: Key, serial: int | None) -> bytes:
    subject = _name(name)
    made = _certificate(subject, key.public_key(), subject, key, (name, *_SANS), serial)
    return made.public_bytes(serialization.Encoding.PEM)


def _certificate(
    subject: x509.Name,
    key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    signer: Key,
    names: Sequence[str],
    serial: int | None = None,
    *,
    ca: bool = False,
) -> x509.Certificate:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(_NOW - _DAY)
        .not_valid_after(_NOW + 365 * _DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        ).add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key(data: bytes) -> Key:
    key = serialization.load_pem_private_key(data, None)
    assert isinstance(key, Key)
    return key


def _private(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
