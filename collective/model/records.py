"""The records in the store, and their JSON.

It does not read or write the store; ``collective.etcd.record_store`` does.

Invariants:
  * Every record carries ``format``; a newer one is refused, never misread.
  * Unknown keys of a known format are kept out, not refused: a later release may add some.
  * Enum values and field names never change.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from typing import TypeVar, Union

from collective.errors import ProtocolError
from collective.model.fingerprint import fingerprint_of
from collective.model.names import peer_url
from collective.model.typed import fields_of, plain

FORMAT = 1
#: The one in use and, during a change, the next one.
MOST_CERTIFICATES = 2


class Role(enum.Enum):
    """What a server is in the collective."""

    VOTER = "voter"
    LEARNER = "learner"
    NONVOTING = "nonvoting"


class ChangeKind(enum.Enum):
    """A change of the voters that must not overlap another one."""

    REMOVE = "remove"
    DEMOTE = "demote"


@dataclass(frozen=True)
class MemberRecord:
    """One server of the collective, as the store knows it.

    Attributes:
        name: server name.
        member_id: etcd member id, 16 hexadecimal digits; "" before etcd has given one.
        role: learner until promoted.
        address: where it is reached, an IP address.
        door_port: TCP port of its daemon's door.
        peer_port: TCP port of its etcd's peer door.
        certificates: PEM; the one in use and, during a change, the next one.
        joined: seconds since the epoch.
        target: what it is to become; that differs from the role of a learner, and of a server
            that is being promoted.
        fallback: what a learner becomes again when it is given up; None: it is put out.
    """

    name: str
    member_id: str
    role: Role
    address: str
    door_port: int
    peer_port: int
    certificates: tuple[str, ...]
    joined: float
    target: Role = Role.VOTER
    fallback: Role | None = None

    @property
    def url(self) -> str:
        """The URL of its etcd's peer door."""
        return peer_url(self.address, self.peer_port)

    def as_nonvoting(self) -> MemberRecord:
        """Return the record of this server when it has no etcd, and is not to get one."""
        return replace(
            self, role=Role.NONVOTING, target=Role.NONVOTING, fallback=None, member_id=""
        )

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 (hex) of its certificates, "" for one that cannot be read."""
        return tuple(fingerprint_of(pem) for pem in self.certificates)

    @property
    def is_peer(self) -> bool:
        """Whether its etcd is let in by the others': it votes, or is taken in to vote."""
        return self.role is Role.VOTER or (self.role is Role.LEARNER and self.target is Role.VOTER)

    def with_next(self, pem: str, in_use: str) -> MemberRecord:
        """Return the record with a next certificate, in place of one that was to be it before.

        Args:
            pem: the next one.
            in_use: fingerprint of the one that the server shows now.
        """
        kept = tuple(c for c in self.certificates if fingerprint_of(c) == in_use)
        return replace(self, certificates=(*kept[:1], pem))

    def with_only(self, fingerprint: str) -> MemberRecord:
        """Return the record with one of its certificates alone."""
        kept = tuple(c for c in self.certificates if fingerprint_of(c) == fingerprint)
        return replace(self, certificates=kept)


@dataclass(frozen=True)
class Invitation:
    """A pending invitation. It holds nothing that lets a server in.

    Attributes:
        name: the server that it admits.
        role: what the server will be.
        public_key: Ed25519 public key, hex.
        issuer: the member that issued it.
        issued, expires: seconds since the epoch.
        claimed_by: fingerprint of the certificate that claimed it, or None.
        guests: fingerprints of the guest list, whose hash is in the token.
    """

    name: str
    role: Role
    public_key: str
    issuer: str
    issued: float
    expires: float
    claimed_by: str | None = None
    guests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """The one change of the voters that is under way, or the last one that was made.

    While ``done`` is false nobody may begin another; whoever leads finishes it. A change is
    never taken back, so one that is sent to etcd twice, or late, does no harm: it names a
    member id, and etcd never uses an id again.

    Attributes:
        kind, name, member_id: what is to be done, and to whom.
        by: who began it.
        done: whether it is made.
    """

    kind: ChangeKind
    name: str
    member_id: str
    by: str
    done: bool


@dataclass(frozen=True)
class Revocation:
    """A certificate that opens no door any more.

    Attributes:
        fingerprint: its SHA-256, hex.
        name: the server whose it was.
        when: seconds since the epoch.
    """

    fingerprint: str
    name: str
    when: float


@dataclass(frozen=True)
class Turn:
    """Who restarts its etcd now: one server at a time, under a lease that ends by itself.

    Attributes:
        name: the member.
        doing: for people.
    """

    name: str
    doing: str


@dataclass(frozen=True)
class LoadedTrust:
    """Whom the etcd of a voter lets in: what its trust file had when it was last started.

    Attributes:
        name: the member.
        fingerprints: of the certificates.
    """

    name: str
    fingerprints: tuple[str, ...]


Record = Union[MemberRecord, Invitation, Change, Revocation, LoadedTrust, Turn]
R = TypeVar("R", MemberRecord, Invitation, Change, Revocation, LoadedTrust, Turn)


def to_json(record: Record) -> str:
    """Return the stored form of a record."""
    return json.dumps({"format": FORMAT, **plain(record)}, sort_keys=True)


def from_json(cls: type[R], text: str | bytes) -> R:
    """Read a stored record.

    Args:
        cls: the record's class.
        text: what the store holds.

    Raises:
        ProtocolError: it has a newer format, or is not such a record.
    """
    what = cls.__name__
    try:
        raw = json.loads(text)
        version = int(raw["format"])
        if version > FORMAT:
            raise ProtocolError(
                f"a {what} has format {version}, this release reads up to {FORMAT}",
                "a server with a newer release wrote it: upgrade collectived here",
            )
        return cls(**fields_of(cls, raw))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"a {what} in the store is broken: {error!r}") from None
