"""Several authorities in one file, as while a collective changes from one CA to the next.

It does not read files and does not decide who is trusted.

Invariants:
  * Each authority is in a bundle once, and each is a self-signed CA.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from collective.errors import InputError, ProtocolError
from collective.pki.authority import Authority
from collective.pki.leaf import issued_by

_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\r?\n?", re.ASCII
)


def read_bundle(pem: bytes) -> tuple[Authority, ...]:
    """Read the authorities of a PEM file, in their order, without keys.

    Raises:
        ProtocolError: there is none, or one is not a CA's certificate.
    """
    found = {a.pin: a for a in map(_authority, _CERTIFICATE.findall(pem))}
    if not found:
        raise ProtocolError("there is no certificate of a CA")
    return tuple(found.values())


def _authority(pem: bytes) -> Authority:
    return Authority.from_pem(pem, None)


def write_bundle(authorities: Iterable[Authority]) -> bytes:
    """Return the PEM file of some authorities."""
    return b"".join(authority.certificate_pem for authority in authorities)


def with_key(bundle: Iterable[Authority], key_pem: bytes) -> Authority:
    """Return the authority of a bundle that a private key belongs to, with the key.

    Raises:
        InputError: it belongs to none of them.
    """
    for authority in bundle:
        try:
            return Authority.from_pem(authority.certificate_pem, key_pem)
        except InputError:
            continue
    raise InputError("private key does not belong to the CA certificate")


def issuer_of(leaf: bytes, bundle: Iterable[Authority]) -> Authority | None:
    """Return the authority of a bundle that issued a server's certificate, None for none."""
    return next((a for a in bundle if issued_by(leaf, a)), None)
