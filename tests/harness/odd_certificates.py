"""Certificates as our servers make them, but for one thing that not every library reads alike.

They are written octet by octet, since no library makes them. Python's ``cryptography``, OpenSSL
(our doors) and Go (etcd) each read X.509 in their own way; what one of them fails on fails whoever
loads it beside the others'.

It uses none of the code under test, and judges nothing.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: Object identifiers, with their tag: RFC 5280 appendix A, RFC 5480, RFC 5758.
_COMMON_NAME, _SERIAL_NUMBER = bytes.fromhex("0603550403"), bytes.fromhex("0603550405")
_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_NO_CA = bytes.fromhex("300c0603551d130101ff04023000")
_USAGE = bytes.fromhex("300e0603551d0f0101ff040403020780")
_BOTH_ENDS = bytes.fromhex("301d0603551d250416301406082b0601050507030106082b06010505070302")
_SANS, _KEY_ID = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d0e")
_VALIDITY = b"\x17\x0d700101000000Z\x18\x0f99991231235959Z"
_SEQUENCE, _SET, _INTEGER, _OCTETS, _BITS, _PRINTABLE = 0x30, 0x31, 2, 4, 3, 0x13


@dataclass(frozen=True)
class Odd:
    """A certificate and its key.

    Attributes:
        key_pem, pem: both, PEM.
        fingerprint: SHA-256 of the certificate, hexadecimal.
    """

    key_pem: bytes
    pem: str
    fingerprint: str


@dataclass(frozen=True)
class Form:
    """What is odd; without arguments nothing is.

    Attributes:
        name_tag, encoding: the kind of string that the common name is.
        compressed: whether the public key is written in the short form.
        sans: further entries of the SANs, DER.
        inner: what stands between the key and the extensions, DER.
    """

    name_tag: int = 0x0C
    encoding: str = "utf-8"
    compressed: bool = False
    sans: bytes = b""
    inner: bytes = b""

    def made(self, name: str, addresses: Sequence[str], serial: int | None = None) -> Odd:
        """Make one.

        Args:
            name: of the server.
            addresses: IP addresses in its SANs.
            serial: its number, None for any.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        serial = serial or x509.random_serial_number() >> 2
        body = self._to_sign(name, addresses, serial, key.public_key())
        signature = key.sign(body, ec.ECDSA(hashes.SHA256()))
        der = _tlv(_SEQUENCE, body + _ECDSA_SHA256 + _tlv(_BITS, b"\0" + signature))
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Odd(key_pem, _armoured(der), hashlib.sha256(der).hexdigest())

    def _to_sign(
        self, name: str, addresses: Sequence[str], serial: int, key: ec.EllipticCurvePublicKey
    ) -> bytes:
        number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        subject = _tlv(
            _SEQUENCE,
            _attribute(_COMMON_NAME, _tlv(self.name_tag, name.encode(self.encoding)))
            + _attribute(_SERIAL_NUMBER, _tlv(_PRINTABLE, f"{serial:x}".encode())),
        )
        kinds = serialization.PublicFormat
        form = kinds.CompressedPoint if self.compressed else kinds.UncompressedPoint
        point = key.public_bytes(serialization.Encoding.X962, form)
        return _tlv(
            _SEQUENCE,
            bytes.fromhex("a003020102")  # version 3
            + _tlv(_INTEGER, number)
            + _ECDSA_SHA256
            + subject
            + _tlv(_SEQUENCE, _VALIDITY)
            + subject
            + _tlv(_SEQUENCE, _P256 + _tlv(_BITS, b"\0" + point))
            + self.inner
            + _tlv(0xA3, _tlv(_SEQUENCE, self._extensions(name, addresses, point))),
        )

    def _extensions(self, name: str, addresses: Sequence[str], point: bytes) -> bytes:
        known = b"".join(_tlv(0x87, ipaddress.ip_address(a).packed) for a in addresses)
        names = _tlv(_SEQUENCE, _tlv(0x82, name.encode()) + known + self.sans)
        key_id = _tlv(_OCTETS, hashlib.sha1(point).digest())
        return (
            _NO_CA
            + _USAGE
            + _BOTH_ENDS
            + _tlv(_SEQUENCE, _SANS + _tlv(_OCTETS, names))
            + _tlv(_SEQUENCE, _KEY_ID + _tlv(_OCTETS, key_id))
        )


def _tlv(tag: int, value: bytes) -> bytes:
    """Return one value of DER with its tag and length (X.690, 8.1)."""
    size = len(value)
    if size < 0x80:
        return bytes([tag, size]) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + value


def _attribute(kind: bytes, value: bytes) -> bytes:
    return _tlv(_SET, _tlv(_SEQUENCE, kind + value))


def _armoured(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def _uri(text: bytes) -> bytes:
    return _tlv(0x86, text)


#: The control: of the form that all of them read.
PLAIN = Form()
#: OpenSSL 3.0 does not read it, Go and ``cryptography`` do.
VISIBLE = Form(name_tag=0x1A)
#: Go ends a program that is to trust it, OpenSSL and ``cryptography`` read it.
BAD_URI = Form(sans=_uri(b"http://[::1"))
ODD_FORMS = {
    "named in a VisibleString": VISIBLE,
    "named in a GeneralString": Form(name_tag=0x1B),
    "named in a PrintableString": Form(name_tag=_PRINTABLE),
    "named in an IA5String": Form(name_tag=0x16),
    "named in a T61String": Form(name_tag=0x14, encoding="latin-1"),
    "named in a BMPString": Form(name_tag=0x1E, encoding="utf-16-be"),
    "named in a UniversalString": Form(name_tag=0x1C, encoding="utf-32-be"),
    "with a point in the short form": Form(compressed=True),
    "with a URI that is none": BAD_URI,
    "with a URI of a host that is none": Form(sans=_uri(b"http://a..b/")),
    "with a URI that is not ASCII": Form(sans=_uri("http://é".encode())),
    "with a good URI": Form(sans=_uri(b"http://mgt1/")),
    "with a mail address": Form(sans=_tlv(0x81, b"a@b")),
    "with a directory name": Form(sans=_tlv(0xA4, _tlv(_SEQUENCE, b""))),
    "with another kind of name": Form(sans=_tlv(0xA0, bytes.fromhex("06022a03a0020500"))),
    "with an address of X.400": Form(sans=_tlv(0xA3, b"")),
    "with a number for its issuer": Form(inner=_tlv(0x81, b"\0\xff")),
}
