"""Servers for tests: each with a key and a certificate of its own, made once in a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from collective.model.records import MemberRecord, Record, Role, to_json
from collective.model.view import (
    Item,
    View,
    invitation_key,
    loaded_key,
    member_key,
    revoked_key,
)
from collective.pki import Certificate, make_certificate, new_key


@dataclass(frozen=True)
class Identity:
    """A server's key and certificate."""

    key: bytes = field(repr=False)
    certificate: Certificate

    @property
    def fingerprint(self) -> str:
        """Of its certificate."""
        return self.certificate.fingerprint

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.pem


def identity(name: str, address: str = "10.0.0.9", number: int = 1) -> Identity:
    """Return the identity of a server: the same one for the same name, address and number."""
    return _identity(name, address, number)


@cache
def _identity(name: str, address: str, _number: int) -> Identity:
    key = new_key()
    return Identity(key, make_certificate(key, name, [address]))


def record_of(
    name: str,
    role: Role = Role.VOTER,
    address: str = "10.0.0.9",
    numbers: tuple[int, ...] = (1,),
    member_id: str = "1",
) -> MemberRecord:
    """Return the record of a member with the certificates of these numbers."""
    pems = tuple(identity(name, address, n).pem for n in numbers)
    return MemberRecord(name, member_id, role, address, 13002, 13003, pems, 0.0)


def view_of(*records: Record, revision: int = 1) -> View:
    """Return a view with these records."""
    items = {_key(r): Item(to_json(r).encode(), revision) for r in records}
    return View(revision, items)


def _key(record: Record) -> str:
    kind = type(record).__name__
    if kind == "Revocation":
        return revoked_key(record.fingerprint)  # type: ignore[union-attr]
    keys = {"MemberRecord": member_key, "Invitation": invitation_key, "LoadedTrust": loaded_key}
    return keys[kind](record.name)
