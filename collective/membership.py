"""The members of the collective as embedders see them, and what happens to them.

It decides nothing about membership, and asks nobody: it reads what the follower brings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from collective.errors import CollectiveError, InputError
from collective.model.keyspace import online_key
from collective.model.names import natural_key
from collective.model.records import MemberRecord, Role, from_json
from collective.model.view import MEMBERS, PREFIX
from collective.store.cache import Cache
from collective.store.values import Event
from collective.store.watching import Hub, Watch

log = logging.getLogger(__name__)

# Below ``PREFIX``, in the cache of records.
_MEMBERS = MEMBERS.removeprefix(PREFIX)
_MOST_EVENTS = 1 << 20


@dataclass(frozen=True)
class Member:
    """One server of the collective.

    Attributes:
        name: unique in the collective.
        address: IP address that the others reach it by.
        port: TCP port of its daemon's door.
        votes: whether it counts in the quorum. One that is joining does not yet.
        role: ``voter``, ``learner`` or ``nonvoting``.
        fingerprints: SHA-256 (hex) of the certificates that it may show.
        online: whether its daemon is there, as this server has last heard: one that dies is told
            within 10 s, and without a quorum nothing is. No part of what makes two of them equal.
    """

    name: str
    address: str
    port: int
    votes: bool
    role: str
    fingerprints: tuple[str, ...]
    online: bool = field(default=False, compare=False)


class Change(Enum):
    """What happened to a member."""

    JOINED = "joined"
    LEFT = "left"
    CHANGED = "changed"


@dataclass(frozen=True)
class MemberChange:
    """One change of the membership.

    Attributes:
        change: what happened.
        member: as it is now, or, where it left, as it was.
        previous: as it was before, None where it joined.
        revision: of the store, at which it happened.
    """

    change: Change
    member: Member
    previous: Member | None
    revision: int


class Membership:
    """Who is a member, as the records here have it."""

    def __init__(self, records: Cache, hub: Hub, coordination: Cache) -> None:
        """Read from caches.

        Args:
            records: has what lies below ``collective.model.view.PREFIX``.
            hub: of its watches.
            coordination: has what lies below ``collective.model.keyspace.COORDINATION``.
        """
        self._records = records
        self._hub = hub
        self._coordination = coordination

    def all(self) -> list[Member]:
        """Return all members, in the natural order of their names."""
        _, entries = self._records.snapshot(_MEMBERS)
        members = [self._member(entry.value) for entry in entries]
        return sorted(members, key=lambda member: natural_key(member.name))

    def one(self, name: str) -> Member:
        """Return one member.

        Raises:
            InputError: there is no member of this name.
        """
        entry = self._records.entries.get(_MEMBERS + name)
        if entry is None:
            known = ", ".join(member.name for member in self.all())
            raise InputError(f"{name} is no member of this collective, which has {known}")
        return self._member(entry.value)

    def name_of(self, member_id: int) -> str | None:
        """Return the name of the server whose etcd member has an id, None where none has it."""
        wanted = f"{member_id:016x}"
        _, entries = self._records.snapshot(_MEMBERS)
        records = (from_json(MemberRecord, entry.value) for entry in entries)
        return next((r.name for r in records if r.member_id == wanted), None)

    def on_change(self, callback: Callable[[MemberChange], object], initial: bool) -> Watch:
        """Have something called with each change, see ``Collective.on_member_change``."""
        watch = Watch(self._hub, _MEMBERS, _MOST_EVENTS)
        self._records.locked(lambda at, entries: self._hub.open(watch, at, entries, initial))
        self._hub.call(watch, lambda event: self._tell(event, callback), None)
        return watch

    def _member(self, value: bytes) -> Member:
        record = from_json(MemberRecord, value)
        return Member(
            record.name,
            record.address,
            record.door_port,
            record.role is Role.VOTER,
            record.role.value,
            tuple(record.fingerprints),
            online_key(record.name) in self._coordination.entries,
        )

    def _tell(self, event: Event, callback: Callable[[MemberChange], object]) -> None:
        try:
            now = None if event.entry is None else self._member(event.entry.value)
            before = None if event.previous is None else self._member(event.previous.value)
        except CollectiveError as error:
            log.error("a member's record cannot be read: %s", error)
            return
        if now is not None:
            kind = Change.JOINED if before is None else Change.CHANGED
            if now != before:
                callback(MemberChange(kind, now, before, event.revision))
        elif before is not None:
            callback(MemberChange(Change.LEFT, before, before, event.revision))
