"""The certificate authority of a collective: make it, read it, issue and revoke with it.

It does not read or write files, does not know who is a member, and keeps no list of what it
issued; who may have a certificate, for which name and addresses, is decided before it is asked.

Invariants:
  * An Authority that exists has a self-signed CA certificate, and its key (if any) fits it.
  * Of a request nothing but the public key reaches a certificate.
  * A certificate names hosts one by one (no wildcard) and does not outlive its authority.
  * The key appears in no repr and no message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from collective.errors import InputError, ProtocolError, RefusedError
from collective.pki import codec

AUTHORITY_LIFETIME = timedelta(days=3652)  # ten years
LEAF_LIFETIME = timedelta(days=365)
BACKDATED = timedelta(hours=1)  # servers whose clocks are behind must accept it too

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}")


@dataclass(frozen=True)
class Authority:
    """The CA of one collective, with its private key where this server holds it.

    Attributes:
        certificate_pem: the self-signed certificate.
        key_pem: its private key, or None on a server that may only verify.
    """

    certificate_pem: bytes
    key_pem: bytes | None = field(default=None, repr=False)
    _certificate: x509.Certificate = field(init=False, repr=False, compare=False)
    _key: ec.EllipticCurvePrivateKey | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        certificate = codec.load_certificate(self.certificate_pem)
        _require_authority(certificate)
        key = None if self.key_pem is None else codec.load_key(self.key_pem)
        if key is not None and not _same_key(key.public_key(), certificate):
            raise InputError("private key does not belong to the CA certificate")
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        object.__setattr__(self, "certificate_pem", pem)
        object.__setattr__(self, "_certificate", certificate)
        object.__setattr__(self, "_key", key)

    @classmethod
    def create(cls, common_name: str, now: datetime) -> Authority:
        """Make a new authority with a new ECDSA P-384 key, valid for ten years.

        Args:
            common_name: what the certificate is called, 1 to 64 characters.
            now: the time, with a zone.

        Raises:
            InputError: the name or the time cannot stand in a certificate.
        """
        name = codec.subject(common_name)
        start = codec.whole_seconds(now)
        key, key_pem = codec.new_private_key(ec.SECP384R1())
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(start - BACKDATED)
            .not_valid_after(start + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(_subject_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA384())
        )
        return cls(certificate.public_bytes(serialization.Encoding.PEM), key_pem)

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes | None) -> Authority:
        """Read an authority that was made earlier.

        Args:
            certificate_pem: its certificate; of several, the first counts.
            key_pem: its private key, or None where this server does not hold it.

        Raises:
            ProtocolError: the certificate is not readable, or not one of a self-signed EC CA.
            InputError: the key is not readable, or belongs to another certificate.
        """
        return cls(certificate_pem, key_pem)

    @property
    def pin(self) -> bytes:
        """The SHA-256 (32 bytes) of the SubjectPublicKeyInfo, which invitation tokens carry."""
        return codec.spki_sha256(self._certificate)

    @property
    def holds_key(self) -> bool:
        """Whether this server can issue and revoke."""
        return self._key is not None

    @property
    def not_after(self) -> datetime:
        """When the authority, and with it all that it issued, ends (UTC)."""
        return self._certificate.not_valid_after_utc

    def issue(
        self,
        csr_pem: bytes,
        name: str,
        addresses: Sequence[str],
        now: datetime,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> bytes:
        """Sign a certificate for the key of a request, for use at both ends of a connection.

        Args:
            csr_pem: the request; only its public key is used.
            name: the server's name, which becomes the common name and the first SAN.
            addresses: IP addresses and host names that it is known by besides.
            now: the time, with a zone.
            lifetime: how long it is valid, if the authority does not end before.

        Returns:
            The certificate as PEM.

        Raises:
            ProtocolError: the request is not readable, not signed by its own key, or its key is
                not EC P-256 or P-384.
            InputError: the name, an address or the lifetime is not valid.
            RefusedError: this server does not hold the CA's key, or the CA has ended.
        """
        key = self.require_key(f"issue a certificate for {name}")
        public_key = codec.load_request_key(csr_pem)
        start = codec.whole_seconds(now)
        end = self._leaf_end(name, start, lifetime)
        certificate = (
            x509.CertificateBuilder(self._certificate.subject, codec.subject(name), public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - BACKDATED)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_BOTH_ENDS), critical=False)
            .add_extension(_alternative_names(name, addresses), critical=False)
            .add_extension(_subject_key(public_key), critical=False)
            .add_extension(self._authority_key(), critical=False)
            .sign(key, hashes.SHA384())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def crl(self, serials: Iterable[int | str], now: datetime) -> bytes:
        """Sign the list of revoked certificates.

        It is valid until the authority ends: etcd reads the file at each handshake and does not
        look at the dates, and a list that ran out must not open the door again. For the same
        reason it can still be made when the authority has ended.

        Args:
            serials: serial numbers, as numbers or as hexadecimal text; none gives an empty list.
            now: the time, with a zone.

        Returns:
            The list as DER.

        Raises:
            InputError: a serial number is not one.
            RefusedError: this server does not hold the CA's key.
        """
        key = self.require_key("sign a revocation list")
        moment = min(codec.whole_seconds(now), self.not_after) - BACKDATED
        builder = (
            x509.CertificateRevocationListBuilder(self._certificate.subject)
            .last_update(moment)
            .next_update(self.not_after)
            .add_extension(x509.CRLNumber(max(1, int(now.timestamp()))), critical=False)
            .add_extension(self._authority_key(), critical=False)
        )
        for serial in sorted({_serial_number(serial) for serial in serials}):
            revoked = x509.RevokedCertificateBuilder(serial, moment).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)

    def require_key(self, purpose: str) -> ec.EllipticCurvePrivateKey:
        """Return the private key.

        Raises:
            RefusedError: this server does not hold it.
        """
        if self._key is None:
            raise RefusedError(
                f"cannot {purpose}: this server does not hold the CA's key",
                hint="only a server that votes holds it",
            )
        return self._key

    def _leaf_end(self, name: str, start: datetime, lifetime: timedelta) -> datetime:
        if lifetime <= timedelta(0):
            raise InputError(f"lifetime of a certificate is {lifetime}, expected more than 0")
        if start >= self.not_after:
            raise RefusedError(
                f"cannot issue a certificate for {name}: the CA ended on {self.not_after:%Y-%m-%d}"
            )
        # Compared as spans, since the sum of a date and a long lifetime may not be a date.
        return start + min(lifetime, self.not_after - start)

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


_BOTH_ENDS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def _require_authority(certificate: x509.Certificate) -> None:
    """Raise ProtocolError unless the certificate is that of a CA, signed by its own EC key.

    The signature counts: the key of a CA is public, so anyone can write a certificate around
    it, with other names and dates; only its owner can sign one.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ProtocolError("CA certificate has a key that is not an EC key")
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise ProtocolError("certificate is not that of a CA") from error
    if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
        raise ProtocolError("certificate is not that of a CA")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (*codec.UNREADABLE, InvalidSignature) as error:
        raise ProtocolError("CA certificate is not signed by its own key") from error


def _same_key(key: ec.EllipticCurvePublicKey, certificate: x509.Certificate) -> bool:
    return codec.spki_sha256(key) == codec.spki_sha256(certificate)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _subject_key(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _alternative_names(name: str, addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return the SANs, each once: the name first, then the addresses in their order."""
    if not _HOST.fullmatch(name):
        raise InputError(f"name {name!r} is not a host name")
    own = x509.DNSName(name)
    names: dict[x509.GeneralName, None] = {own: None}
    for address in addresses:
        if address.lower() != name.lower():
            names[_address_name(address)] = None
    return x509.SubjectAlternativeName(names)


def _address_name(address: str) -> x509.GeneralName:
    """Return an IP address as such, anything else as a DNS name if it can be one.

    A wildcard would let its owner pass for other servers. What ends in a number is an IP address
    or a mistake (WHATWG URL, "ends in a number"): some resolvers read 10.1 as 10.0.0.1.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        if _HOST.fullmatch(address) and not address.rpartition(".")[2].isdigit():
            return x509.DNSName(address)
        raise InputError(f"{address!r} is neither an IP address nor a host name") from None
    return x509.IPAddress(ipaddress.ip_address(parsed.packed))  # the zone (%eth0) has no place


def _serial_number(serial: int | str) -> int:
    if isinstance(serial, str):
        if not _SERIAL.fullmatch(serial):
            raise InputError(f"serial number {serial!r} is not hexadecimal")
        serial = int(serial, 16)
    if not 0 < serial < 1 << 159:
        raise InputError(f"serial number {serial:x} is out of range, expected 1 to 159 bits")
    return serial
