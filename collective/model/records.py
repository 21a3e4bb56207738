"""The records in the store, and their JSON.

It does not read or write the store; ``collective.etcd.store`` does.

Invariants:
  * Every record carries ``format``; a newer one is refused, never misread.
  * Unknown keys of a known format are kept out, not refused: a later release may add some.
  * Enum values and field names never change.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from collective.errors import ProtocolError
from collective.model.names import peer_url
from collective.model.typed import fields_of

FORMAT = 1
MOST_CERTIFICATES = 16


class Role(enum.Enum):
    """What a server is in the collective."""

    VOTER = "voter"
    LEARNER = "learner"
    NONVOTING = "nonvoting"


class ChangeKind(enum.Enum):
    """A change of the voters that must not overlap another one."""

    REMOVE = "remove"
    DEMOTE = "demote"


class Phase(enum.Enum):
    """How far a re-keying is; each phase begins when every member has done the one before.

    TRUST: every member trusts the old and the new CA, every voter holds the key of the new one.
    ISSUE: every member shows a certificate of the new CA.
    DROP: no member trusts the old CA any more, and its key is gone.
    """

    TRUST = "trust"
    ISSUE = "issue"
    DROP = "drop"
    DONE = "done"


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
        serials: serial numbers (hex) of the certificates issued to it, newest last.
        fingerprints: SHA-256 (hex) of the same certificates: who holds a copy of the CA's key
            can make a certificate with any name and serial number, but not with this.
        joined: seconds since the epoch.
        target: what it is to become; that differs from the role of a learner, and of a server
            that is being promoted.
        fallback: what a learner becomes again when it is given up; None: it is put out.
        held_key: whether it was ever given the CA's key, so that deleting it wants a re-keying.
    """

    name: str
    member_id: str
    role: Role
    address: str
    door_port: int
    peer_port: int
    serials: tuple[str, ...]
    fingerprints: tuple[str, ...]
    joined: float
    target: Role = Role.VOTER
    fallback: Role | None = None
    held_key: bool = False

    @property
    def url(self) -> str:
        """The URL of its etcd's peer door."""
        return peer_url(self.address, self.peer_port)

    def as_nonvoting(self) -> MemberRecord:
        """Return the record of this server when it has no etcd, and is not to get one."""
        return replace(
            self, role=Role.NONVOTING, target=Role.NONVOTING, fallback=None, member_id=""
        )

    def certified(
        self, serial: str, fingerprint: str, in_use: str = ""
    ) -> tuple[MemberRecord, tuple[str, ...]]:
        """Add a certificate.

        Args:
            serial, fingerprint: of the new one.
            in_use: serial number of the one that the server shows now: it stays, whatever number
                of others was written down and never heard of.

        Returns:
            The record with it, and the serial numbers of those that are too many now and are to
            be revoked: a transaction of etcd has 128 operations at most, and a deletion must
            revoke all in one.
        """
        known = list(zip(self.serials, self.fingerprints, strict=False))
        extra = max(0, len(known) + 1 - MOST_CERTIFICATES)
        out = tuple([s for s, _ in known if s != in_use][:extra])
        kept = [*(pair for pair in known if pair[0] not in out), (serial, fingerprint)]
        record = replace(
            self, serials=tuple(s for s, _ in kept), fingerprints=tuple(f for _, f in kept)
        )
        return record, out


@dataclass(frozen=True)
class Invitation:
    """A pending invitation. It holds nothing that lets a server in.

    Attributes:
        name: the server that it admits.
        role: what the server will be.
        public_key: Ed25519 public key, hex.
        issuer: the member that issued it.
        issued, expires: seconds since the epoch.
        claimed_by: SHA-256 (hex) of the public key of the CSR that claimed it, or None.
        pin: SHA-256 (hex) of the CA's public key that the token pins; it ends with that CA.
    """

    name: str
    role: Role
    public_key: str
    issuer: str
    issued: float
    expires: float
    claimed_by: str | None = None
    pin: str = ""


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
        rekey: whether a re-keying is to be begun when it is made.
        kept_key: whether a server that was removed may have kept the CA's key, and no re-keying
            has begun since.
    """

    kind: ChangeKind
    name: str
    member_id: str
    by: str
    done: bool
    rekey: bool = False
    kept_key: bool = False


@dataclass(frozen=True)
class Revocation:
    """A certificate that opens no door any more.

    Attributes:
        serial: hex.
        name: the server that it was issued to.
        when: seconds since the epoch.
    """

    serial: str
    name: str
    when: float


@dataclass(frozen=True)
class Rekey:
    """The re-keying that is under way, or the last one: from one CA to the next.

    Attributes:
        number: counts them, from 1.
        phase: how far it is.
        certificate: the new CA's certificate, PEM; its key is never in the store.
        by: the member that made the new CA.
        reason: for people, such as "mgt3 was deleted".
        began: seconds since the epoch.
        again: whether another one is to follow, since another key holder was deleted meanwhile.
    """

    number: int
    phase: Phase
    certificate: str
    by: str
    reason: str
    began: float
    again: bool = False

    @property
    def over(self) -> bool:
        """Whether it is done, and no other one is to follow."""
        return self.phase is Phase.DONE and not self.again


@dataclass(frozen=True)
class Turn:
    """Who restarts its etcd now: one server at a time, under a lease that ends by itself.

    Attributes:
        name: the member.
        doing: for people.
    """

    name: str
    doing: str


Record = MemberRecord | Invitation | Change | Revocation | Rekey | Turn
R = TypeVar("R", MemberRecord, Invitation, Change, Revocation, Rekey, Turn)


def to_json(record: Record) -> str:
    """Return the stored form of a record."""
    fields = {k: _plain(v) for k, v in asdict(record).items()}
    return json.dumps({"format": FORMAT, **fields}, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


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
        values = fields_of(cls, raw)
        return cls(**{k: _enum(k, v) for k, v in values.items()})
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"a {what} in the store is broken: {error!r}") from None


_ENUMS: Mapping[str, Callable[[Any], Any]] = {
    "role": Role,
    "target": Role,
    "fallback": Role,
    "kind": ChangeKind,
    "phase": Phase,
}


def _enum(field: str, value: Any) -> Any:
    make = _ENUMS.get(field)
    if make is None or (value is None and field == "fallback"):
        return value
    return make(value)
