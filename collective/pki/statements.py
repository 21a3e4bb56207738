"""What servers sign: that they hold a token, and that one certificate of theirs replaces another.

It does not know the form of a token, keeps no record of invitations, and compares no statement
with the facts: whoever verifies builds the statement from what it saw itself.

Invariants:
  * Two statements that differ in anything, their kind included, have different octets.
  * The octets of a published format never change.
  * Verifying answers yes or no; it does not raise for what came from outside.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from collective.errors import InputError, ProtocolError
from collective.pki import codec

SEED_SIZE = 32
STATEMENT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """What can be signed: a prefix for its kind, then every field in the order it is declared."""

    prefix: ClassVar[bytes]

    def __post_init__(self) -> None:
        self.to_bytes()  # a statement that exists can be signed

    def to_bytes(self) -> bytes:
        """Return the octets to sign: each field tagged with its type and its length.

        Raises:
            ProtocolError: a field holds something other than a whole number from 0, a text, or
                a tuple of texts; so does making such a statement.
        """
        parts = [_encode(entry.name, getattr(self, entry.name)) for entry in fields(self)]
        return self.prefix + b"".join(parts)


@dataclass(frozen=True, kw_only=True)
class EnrollmentStatement(_Statement):
    """What a joiner signs with the seed of its token.

    Attributes:
        format: the version of this statement.
        name: the name it was invited under.
        role: the role it was invited for.
        server_fingerprint: SHA-256 of the server certificate that it saw, hexadecimal.
        nonce: what that server asked it to sign, hexadecimal.
        certificate_fingerprint: SHA-256 of its own certificate, hexadecimal.
        addresses: every address that it asks to be known by.
        door_port: the port of its daemon.
        peer_port: the port of its etcd.
    """

    prefix: ClassVar[bytes] = b"collective enrollment v1\0"

    format: int = STATEMENT_FORMAT
    name: str
    role: str
    server_fingerprint: str
    nonce: str
    certificate_fingerprint: str
    addresses: tuple[str, ...]
    door_port: int
    peer_port: int

    def __post_init__(self) -> None:
        if self.format != STATEMENT_FORMAT:
            raise ProtocolError(
                f"enrollment statement has format {self.format!r}, expected {STATEMENT_FORMAT}"
            )
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class ReplacementStatement(_Statement):
    """What a server signs with the key of its former certificate, when it takes the next one.

    So a server that was off meanwhile, and has the former one recorded, knows the next one.

    Attributes:
        name: of the server.
        former: fingerprint of the certificate that is replaced, hexadecimal.
        following: fingerprint of the one that takes its place, hexadecimal.
    """

    prefix: ClassVar[bytes] = b"collective replacement v1\0"

    name: str
    former: str
    following: str


def new_seed() -> bytes:
    """Make the secret of an invitation: an Ed25519 private seed (32 bytes, RFC 8032)."""
    return secrets.token_bytes(SEED_SIZE)


def public_key_of(seed: bytes) -> bytes:
    """Return the Ed25519 public key (32 bytes) that belongs to a seed.

    Raises:
        InputError: the seed is not 32 bytes.
    """
    return _private_key(seed).public_key().public_bytes_raw()


def sign_enrollment(seed: bytes, statement: EnrollmentStatement) -> bytes:
    """Sign a statement with the seed of a token; return the signature (64 bytes).

    Raises:
        InputError: the seed is not 32 bytes.
    """
    return _private_key(seed).sign(statement.to_bytes())


def verify_enrollment(public_key: bytes, statement: EnrollmentStatement, signature: bytes) -> bool:
    """Tell whether the signature over the statement is by the seed of this public key.

    Args:
        public_key: the 32 bytes that the store keeps for the invitation.
        statement: built from what the verifier saw, not from what it was told.
        signature: 64 bytes; anything else is not a signature.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(signature, statement.to_bytes())
    except (InvalidSignature, *codec.UNREADABLE):
        return False
    return True


def sign_replacement(key_pem: bytes, statement: ReplacementStatement) -> bytes:
    """Sign with the key of the former certificate (ECDSA, SHA-256); return the DER signature.

    Raises:
        InputError: the key is not readable, or not EC P-256.
    """
    return codec.load_key(key_pem).sign(statement.to_bytes(), ec.ECDSA(hashes.SHA256()))


def verify_replacement(pem: str, statement: ReplacementStatement, signature: bytes) -> bool:
    """Tell whether the signature over the statement is by the key of the former certificate.

    Args:
        pem: the former certificate; one that is not good gives False.
        statement: built from what the verifier saw.
        signature: the DER signature; anything else is not one.
    """
    try:
        key = codec.load_certificate(pem.encode()).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(signature, statement.to_bytes(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ProtocolError, *codec.UNREADABLE):
        return False
    return True


def _private_key(seed: bytes) -> Ed25519PrivateKey:
    if len(seed) != SEED_SIZE:
        raise InputError(f"seed has {len(seed)} bytes, expected {SEED_SIZE}")
    return Ed25519PrivateKey.from_private_bytes(seed)


def _encode(name: str, value: object) -> bytes:
    """Return one field in a form that cannot be read as another: tag, length, content."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return b"i" + value.to_bytes(8, "big")
    if isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError as error:
            raise ProtocolError(f"cannot sign a statement: {name} is not a text") from error
        return b"s" + len(text).to_bytes(4, "big") + text
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        items = b"".join(_encode(name, item) for item in value)
        return b"t" + len(value).to_bytes(4, "big") + items
    raise ProtocolError(f"cannot sign a statement: {name} is of type {type(value).__name__}")
