"""What the store holds, at one revision: the value that decisions about records are made on.

It does not read the store.

Invariants:
  * A view is never changed; ``updated`` makes another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from collective.errors import ProtocolError
from collective.model.records import (
    FORMAT,
    Change,
    Invitation,
    LoadedTrust,
    MemberRecord,
    R,
    Revocation,
    Role,
    Turn,
    from_json,
)

_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    ProtocolError,
)
_LONGEST = 200
PREFIX = "collective/v1/"
MEMBERS = PREFIX + "members/"
INVITATIONS = PREFIX + "invitations/"
_REVOKED = PREFIX + "revoked/"
CHANGE_KEY = PREFIX + "change"
_LOADED = PREFIX + "trust/"
TURN_KEY = PREFIX + "turn"


def member_key(name: str) -> str:
    """Return the key of a member's record."""
    return MEMBERS + name


def invitation_key(name: str) -> str:
    """Return the key of the invitation for a server."""
    return INVITATIONS + name


def revoked_key(fingerprint: str) -> str:
    """Return the key of a revoked certificate."""
    return _REVOKED + fingerprint


def loaded_key(name: str) -> str:
    """Return the key that says whom a voter's etcd lets in."""
    return _LOADED + name


@dataclass(frozen=True)
class Item:
    """One stored key."""

    value: bytes
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True)
class View:
    """All records of the collective at one revision of the store."""

    revision: int
    items: Mapping[str, Item] = field(default_factory=dict)

    def updated(self, revision: int, puts: Mapping[str, Item], deletes: Iterable[str]) -> View:
        """Return the view after some events, at their revision."""
        gone = frozenset(deletes)
        items = {k: v for k, v in {**self.items, **puts}.items() if k not in gone}
        return View(revision, items)

    @property
    def newest(self) -> int:
        """Return the revision of the newest record; the store's own counts others' keys too."""
        return max((item.mod_revision for item in self.items.values()), default=0)

    def mod_revision(self, key: str) -> int:
        """Return the revision of a key's last change, 0 for one that is absent."""
        item = self.items.get(key)
        return 0 if item is None else item.mod_revision

    def lease(self, key: str) -> int:
        """Return the lease that a key is bound to, 0 for none."""
        item = self.items.get(key)
        return 0 if item is None else item.lease

    @cached_property
    def members(self) -> Mapping[str, MemberRecord]:
        """Members by name, but for those whose record cannot be read."""
        return self._members[0]

    @cached_property
    def unreadable(self) -> Mapping[str, str]:
        """Why a member is left out, by its name: its record is broken, or of a newer release."""
        return self._members[1]

    @cached_property
    def _members(self) -> tuple[Mapping[str, MemberRecord], Mapping[str, str]]:
        good: dict[str, MemberRecord] = {}
        bad: dict[str, str] = {}
        for key, item in self.items.items():
            if key.startswith(MEMBERS):
                name = key[len(MEMBERS) :]
                try:
                    record = from_json(MemberRecord, item.value)
                except ProtocolError as error:
                    bad[name] = error.message
                    continue
                if record.name == name:
                    good[name] = record
                else:
                    bad[name] = f"its record is for {record.name[:80]!r}"
        return good, bad

    @cached_property
    def invitations(self) -> Mapping[str, Invitation]:
        """Pending invitations by the invited name; who is no member any more has issued none."""
        found = self._all(Invitation, INVITATIONS)
        return {name: i for name, i in found.items() if i.issuer in self.members}

    @cached_property
    def revoked(self) -> Mapping[str, Revocation]:
        """Revoked certificates by fingerprint."""
        return self._all(Revocation, _REVOKED)

    @cached_property
    def change(self) -> Change | None:
        """The last change of the voters, made or under way."""
        return self._one(Change, CHANGE_KEY)

    @property
    def change_under_way(self) -> Change | None:
        """The change of the voters that is not made yet, None for none."""
        return self.change if self.change is not None and not self.change.done else None

    @cached_property
    def loaded(self) -> Mapping[str, LoadedTrust]:
        """Whom each voter's etcd lets in, by the voter's name."""
        return self._all(LoadedTrust, _LOADED)

    @cached_property
    def turn(self) -> Turn | None:
        """Who restarts its etcd now."""
        return self._one(Turn, TURN_KEY)

    @property
    def voters(self) -> Mapping[str, MemberRecord]:
        """Members that count in the quorum."""
        return {n: m for n, m in self.members.items() if m.role is Role.VOTER}

    def voters_but(self, name: str) -> list[MemberRecord]:
        """Return the voters without one."""
        return [member for member in self.voters.values() if member.name != name]

    @cached_property
    def certificates(self) -> Mapping[str, str]:
        """The name of the member whose each recorded certificate is, by its fingerprint."""
        return {
            fingerprint: member.name
            for member in self.members.values()
            for fingerprint in member.fingerprints
            if fingerprint and fingerprint not in self.revoked
        }

    def by_member_id(self, member_id: str) -> MemberRecord | None:
        """Return the member with an etcd id."""
        return next((m for m in self.members.values() if m.member_id == member_id), None)

    def to_json(self, collective: str) -> str:
        """Return what a server remembers of the view for a start without a quorum.

        That is members and revoked certificates. Invitations are left out: they are the store's.

        Args:
            collective: tells the collective, whose revisions say nothing in another one.
        """
        kept = {
            key: [item.value.decode("utf-8", "replace"), item.mod_revision]
            for key, item in self.items.items()
            if key.startswith((MEMBERS, _REVOKED))
        }
        fields = {"collective": collective, "revision": self.revision, "items": kept}
        return json.dumps({"format": FORMAT, **fields})

    @classmethod
    def from_json(cls, text: str, collective: str) -> View:
        """Read what ``to_json`` made; what cannot be read, or is of another, is an empty view."""
        try:
            return cls.read(text, collective) or cls(0)
        except ProtocolError:
            return cls(0)

    @classmethod
    def read(cls, text: str, collective: str) -> View | None:
        """Read what ``to_json`` made; None where it is of another collective.

        Raises:
            ProtocolError: it is broken, or of a newer format.
        """
        try:
            raw = json.loads(text)
            if raw["format"] != FORMAT:
                raise ProtocolError(f"it has format {raw['format']}, this release reads {FORMAT}")
            items = {
                str(key): Item(str(value).encode(), int(revision))
                for key, (value, revision) in raw["items"].items()
            }
            view = cls(int(raw["revision"]), items)
            _ = (view.members, view.revoked)
        except ProtocolError:
            raise
        except _UNREADABLE as error:
            raise ProtocolError(f"it cannot be read: {error!r}"[:_LONGEST]) from None
        return view if raw.get("collective") == collective else None

    def _one(self, cls: type[R], key: str) -> R | None:
        item = self.items.get(key)
        return None if item is None else from_json(cls, item.value)

    def _all(self, cls: type[R], prefix: str) -> Mapping[str, R]:
        return {
            key[len(prefix) :]: from_json(cls, item.value)
            for key, item in self.items.items()
            if key.startswith(prefix)
        }
