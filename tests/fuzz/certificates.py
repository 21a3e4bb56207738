"""Certificates that no server of ours makes: what a hostile one may want recorded, or show.

It sends nothing, and does not judge. They are built with ``cryptography`` alone, so that what they
are does not hang on the code that is to refuse them.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_UNTIL = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)
_DAY = datetime.timedelta(days=1)
_UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")

_SIGNS = x509.KeyUsage(
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

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Shape:
    """What a certificate is like; unless something else is said, like one of ours.

    Attributes:
        name: the common name.
        serial: the serial number.
        told: what its subject tells as the serial number, None for nothing.
        sans: host names and addresses, None for no such extension.
        ca: of the basic constraints, None for no such extension.
        usage: whether it is for both ends of a connection.
        key_usage: whether it says what its key is for.
        key_id: whether it has an identifier of its key.
        until: when it ends.
        kind: of the key.
        inside: octets in an extension that nobody knows, b"" for no such extension.
        other_signer: whether another key than its own has signed it.
    """

    name: str
    serial: int
    told: str | None
    sans: Sequence[str] | None
    ca: bool | None = False
    usage: bool = True
    key_usage: bool = True
    key_id: bool = True
    until: datetime.datetime = _UNTIL
    kind: str = "p256"
    inside: bytes = b""
    other_signer: bool = False


@dataclass(frozen=True)
class Made:
    """A certificate with its key, PEM both."""

    pem: str
    key: bytes = field(repr=False)

    @property
    def both(self) -> bytes:
        """Key and certificate, as a TLS library reads them from one file."""
        return self.key + self.pem.encode()


@functools.cache
def _key(kind: str, number: int = 0) -> _Key:
    """Return a key; the same one each time, since an RSA one takes long to make."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP256R1())


def make(shape: Shape) -> Made:
    """Make a certificate."""
    key = _key(shape.kind)
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, shape.name)]
    if shape.told is not None:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, shape.told))
    subject = x509.Name(parts)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), shape.serial, _FROM, shape.until
    )
    if shape.ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(shape.ca, None), critical=True)
    if shape.key_usage:
        builder = builder.add_extension(_SIGNS, critical=True)
    if shape.usage:
        both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    if shape.sans is not None:
        names = x509.SubjectAlternativeName([_general(name) for name in shape.sans])
        builder = builder.add_extension(names, critical=False)
    if shape.key_id:
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(key_id, critical=False)
    if shape.inside:
        unknown = x509.UnrecognizedExtension(_UNKNOWN, shape.inside)
        builder = builder.add_extension(unknown, critical=False)
    signer = _key(shape.kind, 1) if shape.other_signer else key
    signed = builder.sign(signer, None if shape.kind == "ed25519" else hashes.SHA256())
    return Made(
        signed.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def good(name: str, address: str, serial: int = 7) -> Made:
    """Return one like ours."""
    return make(_like_ours(name, address, serial))


def _like_ours(name: str, address: str, serial: int) -> Shape:
    return Shape(name, serial, f"{serial:x}", (name, address, "127.0.0.1", "::1"))


def hostile(name: str, address: str, serial: int = 7) -> dict[str, Made]:
    """Return those that no door may take for a server's own, by what is wrong with them.

    Args:
        name: of the server whose each says to be, but for those of another name.
        address: of that server.
        serial: the number of each, but for those that tell another one.
    """
    ours = _like_ours(name, address, serial)
    many = (name, address, *(f"10.{n // 250}.{n % 250}.1" for n in range(1250)))

    def but(**changes: Any) -> Made:
        return make(replace(ours, **changes))

    return {
        "10 KB of SANs": but(sans=many),
        "10 KB in an extension": but(inside=b"x" * 10_000),
        "a CA": but(ca=True),
        "maybe a CA": but(ca=None),
        "RSA": but(kind="rsa"),
        "P-384": but(kind="p384"),
        "Ed25519": but(kind="ed25519"),
        "no SAN": but(sans=None),
        "SANs without the name": but(sans=(address,)),
        "a wildcard": but(sans=(name, address, "*.example.org")),
        "a host's name": but(sans=(name, address, "mgt1")),
        "another name": but(name="mgt1", sans=("mgt1", address)),
        "a name with an at": but(name=f"{name}@x"),
        "a name in other letters": but(name=name.replace("m", "\u217f")),  # small roman 1000
        "no number in the subject": but(told=None),
        "another number in the subject": but(told=f"{serial + 1:x}"),
        "a number of 160 bits": but(serial=1 << 159, told=f"{1 << 159:x}"),
        "over tomorrow": but(until=datetime.datetime.now(datetime.timezone.utc) + _DAY),
        "over long ago": but(until=_FROM + _DAY),
        "for no end": but(usage=False),
        "for no use of its key": but(key_usage=False),
        "without a number of its key": but(key_id=False),
        "an unknown extension": but(inside=b"x"),
        "signed by another key": but(other_signer=True),
    }
