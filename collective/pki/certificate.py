"""The certificates of servers: make one, read one, judge whether a server may have it.

Each server signs its own: nobody can sign for anybody else, so a certificate is
trusted when it is recorded, and for nothing that it says.

It does not read files, looks at no clock, and does not know whose certificates are recorded.

Invariants:
  * A certificate that was made here can sign nothing but itself, names hosts one by one (no
    wildcard), and is valid for ever: time plays no part in who is trusted.
  * No two that were made here have the same subject: OpenSSL looks a certificate that it is to
    trust up by its subject, and compares it with one of those that it finds (tried with 3.0: of
    two certificates of one server, with its name alone as subject, the second one was refused).
  * Fingerprints and serial numbers are lower-case hexadecimal text, these without leading zeros.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from collective.errors import InputError, ProtocolError
from collective.pki import codec

#: Of the PEM form. One with 16 addresses has 1200.
MOST_BYTES = 4096
#: A server that was born in 1970, without a clock battery, shows one that the others take.
VALID_FROM = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: RFC 5280, 4.1.2.5: for a certificate that has no good date to end.
VALID_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_BOTH_ENDS = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_KNOWN = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
)


@dataclass(frozen=True)
class Certificate:
    """A server's certificate.

    Attributes:
        pem: the certificate alone, PEM.
        name: the common name.
        serial: the serial number, hexadecimal.
        addresses: the IP addresses and host names in its SANs, in order, without the name.
        fingerprint: SHA-256 of the DER, hexadecimal.
    """

    pem: str
    name: str
    serial: str
    addresses: tuple[str, ...]
    fingerprint: str


def new_key() -> bytes:
    """Make an EC P-256 private key; return it as PEM (PKCS #8, no passphrase)."""
    return codec.new_private_key(ec.SECP256R1())[1]


def make_certificate(key_pem: bytes, name: str, addresses: Sequence[str]) -> Certificate:
    """Make the certificate of a server, signed by its own key, for both ends of a connection.

    Args:
        key_pem: the private key.
        name: the server's name, which becomes the common name and the first SAN.
        addresses: IP addresses and host names that it is known by besides.

    Raises:
        InputError: the key is not readable, or the name or an address cannot stand in one.
    """
    key, serial = codec.load_key(key_pem), x509.random_serial_number()
    return _read(_built(key.public_key(), key, name, addresses, serial))


def _built(
    public_key: ec.EllipticCurvePublicKey,
    signed_by: ec.EllipticCurvePrivateKey,
    name: str,
    addresses: Sequence[str],
    serial: int,
) -> x509.Certificate:
    subject = codec.subject(name, f"{serial:x}")
    return (
        x509.CertificateBuilder(subject, subject, public_key, serial)
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(_BOTH_ENDS), critical=False)
        .add_extension(_alternative_names(name, addresses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(signed_by, hashes.SHA256())
    )


def read_certificate(data: bytes | str) -> Certificate:
    """Read a server's certificate, without judging it.

    Args:
        data: the certificate, PEM (the first one counts) or DER.

    Raises:
        ProtocolError: it is not a certificate, or has no common name.
    """
    return _read(codec.load_certificate(_octets(data) if isinstance(data, str) else data))


def judge_certificate(pem: str, name: str) -> Certificate:
    """Read a certificate that a server wants to be recorded, and refuse what none of ours is.

    Args:
        pem: as it came.
        name: of the server.

    Raises:
        ProtocolError: it is not readable, too long, for another name, that of a CA, without
            SANs, of another kind of key, not signed by its own key, valid for a time only,
            without its serial number in its subject, has extensions that none of ours has, or
            is in any other way not what we would make.
    """
    if len(pem) > MOST_BYTES:
        raise ProtocolError(
            f"the certificate of {name} has {len(pem)} bytes, at most are {MOST_BYTES}"
        )
    certificate = codec.load_certificate(_octets(pem))
    found = _read(certificate)
    if found.name != name:
        raise ProtocolError(f"the certificate is for {found.name}, not for {name}")
    if (wrong := _what_is_wrong(certificate, name)) is not None:
        raise ProtocolError(
            f"the certificate of {name} {wrong}",
            f"'collective gencert' on {name} makes a good one",
        )
    return found


def _octets(pem: str) -> bytes:
    return pem.encode("ascii", "replace")  # JSON can hold half of a surrogate pair


def _what_is_wrong(certificate: x509.Certificate, name: str) -> str | None:
    extensions = certificate.extensions
    found = {type(extension.value): extension.value for extension in extensions}
    constraints, usage = found.get(x509.BasicConstraints), found.get(x509.ExtendedKeyUsage)
    names = found.get(x509.SubjectAlternativeName)
    key = certificate.public_key()
    checks = (
        (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1),
            "has a key that is not EC P-256",
        ),
        (
            isinstance(constraints, x509.BasicConstraints) and not constraints.ca,
            "is that of a CA, or does not say that it is none",
        ),
        (
            certificate.subject == codec.subject(name, f"{certificate.serial_number:x}"),
            "does not have its name and serial number, and no more, as its subject",
        ),
        (
            isinstance(names, x509.SubjectAlternativeName)
            and name in [n.lower() for n in names.get_values_for_type(x509.DNSName)],
            "does not have its name among its SANs",
        ),
        (
            isinstance(usage, x509.ExtendedKeyUsage) and set(_BOTH_ENDS) <= set(usage),
            "is not for both ends of a connection",
        ),
        (all(issubclass(kind, _KNOWN) for kind in found), "has extensions that are not known"),
        (
            (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
            == (VALID_FROM, VALID_UNTIL),
            "is valid for a time only",
        ),
        (
            certificate.serial_number.bit_length() < 160,
            "has a serial number of more than 159 bits",
        ),
        (_signs_itself(certificate), "is not signed by its own key"),
        (_is_as_built(certificate, name), "is not of the form that ours have"),
    )
    return next((wrong for good, wrong in checks if not good), None)


def _is_as_built(certificate: x509.Certificate, name: str) -> bool:
    """Tell whether a certificate is, octet for octet, what we would make of what it says.

    Three libraries read certificates here (OpenSSL's, Go's and ours), and no two of them take the
    same forms: one that etcd cannot read would end it at each start.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        addresses = [a for a in _names_in(certificate) if a.lower() != name.lower()]
        built = _built(key, _anybody(), name, addresses, certificate.serial_number)
    except (InputError, *codec.UNREADABLE):
        return False
    return built.tbs_certificate_bytes == certificate.tbs_certificate_bytes


@cache
def _anybody() -> ec.EllipticCurvePrivateKey:
    """Return a key to build with what is compared without its signature."""
    return ec.generate_private_key(ec.SECP256R1())


def _signs_itself(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (*codec.UNREADABLE, InvalidSignature):
        return False
    return True


def _read(certificate: x509.Certificate) -> Certificate:
    name = _common_name(certificate)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        name=name,
        serial=f"{certificate.serial_number:x}",
        addresses=tuple(a for a in _names_in(certificate) if a.lower() != name.lower()),
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise ProtocolError(f"certificate has {len(names)} common names, expected 1")
    return names[0].value


def _names_in(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    wanted = (x509.DNSName, x509.IPAddress)
    return [str(entry.value) for entry in extension.value if isinstance(entry, wanted)]


_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _alternative_names(name: str, addresses: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return the SANs, each once: the name first, then the addresses in their order."""
    if not _HOST.fullmatch(name):
        raise InputError(f"name {name!r} is not a host name")
    names: dict[x509.GeneralName, None] = {x509.DNSName(name): None}
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
