"""Our records in etcd: read them all at one revision, write them all or nothing.

It decides nothing: each write here is one transaction that the caller asked for, on the view
that the caller decided on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from collective.errors import EtcdError
from collective.etcd.gateway import Gateway, Put, key_value, within
from collective.model.records import (
    Change,
    Invitation,
    MemberRecord,
    Record,
    Revocation,
    to_json,
)
from collective.model.view import (
    CHANGE_KEY,
    PREFIX,
    Item,
    View,
    invitation_key,
    member_key,
    revoked_key,
)

READ_SECONDS = 3.0
WRITE_SECONDS = 5.0
_WATCH_SILENCE_SECONDS = 300.0


class Store:
    """The records of the collective, over one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def read(self, seconds: float = READ_SECONDS) -> View:
        """Read everything, linearizable: an answer proves a quorum.

        Args:
            seconds: deadline.

        Raises:
            EtcdError: no proof in time.
        """
        return self._range(seconds, serializable=False)

    def read_local(self, seconds: float = READ_SECONDS) -> View:
        """Read what this server's etcd holds, however old; works without a quorum."""
        return self._range(seconds, serializable=True)

    def _range(self, seconds: float, serializable: bool) -> View:
        with within(seconds):
            revision, kvs = self._gateway.range(PREFIX, serializable)
        return View(revision, {kv.key: Item(kv.value, kv.mod_revision, kv.lease) for kv in kvs})

    def invite(self, view: View, invitation: Invitation, seconds: int) -> bool:
        """Write an invitation, in place of an older one for the same name.

        Args:
            view: what the decision was made on.
            invitation: the record.
            seconds: its time to live.

        Returns:
            False when the member or the invitation changed meanwhile.
        """
        member, key = member_key(invitation.name), invitation_key(invitation.name)
        with within(WRITE_SECONDS):
            lease = self._gateway.grant_lease(seconds)
        return self._write(view, (member, key), {key: invitation}, lease=lease)

    def claim(self, view: View, invitation: Invitation) -> bool:
        """Claim an invitation for the CSR key that it now names; False if it changed."""
        key = invitation_key(invitation.name)
        return self._write(view, (key,), {key: invitation}, lease=view.lease(key))

    def withdraw(self, view: View, name: str) -> bool:
        """Delete an invitation; False if it changed."""
        key = invitation_key(name)
        return self._write(view, (key,), {}, deletes=(key,))

    def put_member(self, view: View, member: MemberRecord, complete: bool = False) -> bool:
        """Write a member's record; ``complete`` also ends its invitation.

        Returns:
            False when the record changed meanwhile.
        """
        key = member_key(member.name)
        deletes = (invitation_key(member.name),) if complete else ()
        return self._write(view, (key,), {key: member}, deletes=deletes)

    def begin_change(self, view: View, change: Change) -> bool:
        """Begin a change of the voters; False if any other has begun or ended meanwhile."""
        return self._write(view, (CHANGE_KEY,), {CHANGE_KEY: change})

    def finish_removal(self, view: View, change: Change, when: float) -> bool:
        """End a removal: its record done, certificates revoked, member and invitation gone.

        Args:
            view: a view in which the change is under way.
            change: that change.
            when: seconds since the epoch.
        """
        member = view.members.get(change.name)
        keys = (CHANGE_KEY, member_key(change.name))
        puts: dict[str, Record] = {CHANGE_KEY: replace(change, done=True)}
        deletes: tuple[str, ...] = ()
        if member is not None and member.member_id == change.member_id:
            puts |= {revoked_key(s): Revocation(s, member.name, when) for s in member.serials}
            deletes = (member_key(change.name), invitation_key(change.name))
        return self._write(view, keys, puts, deletes=deletes)

    def drop_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Drop the record of a learner that was given up, and revoke its certificates.

        Returns:
            False when the record changed meanwhile; then nothing was written.
        """
        key = member_key(member.name)
        puts = {revoked_key(s): Revocation(s, member.name, when) for s in member.serials}
        return self._write(view, (key,), puts, deletes=(key,))

    def _write(
        self,
        view: View,
        unchanged: tuple[str, ...],
        puts: Mapping[str, Record],
        deletes: tuple[str, ...] = (),
        lease: int = 0,
    ) -> bool:
        wire = [Put(key, to_json(record), lease) for key, record in puts.items()]
        compare = {key: view.mod_revision(key) for key in unchanged}
        with within(WRITE_SECONDS):
            return self._gateway.transact(compare, wire, deletes)[0]

    def follow(self, view: View) -> Iterator[View]:
        """Yield a new view after each batch of events, from a view on, until the stream ends.

        Raises:
            EtcdError: the stream broke, or was cancelled (compacted): read again.
        """
        stream = self._gateway.watch(PREFIX, view.revision + 1, _WATCH_SILENCE_SECONDS)
        for result in stream:
            events = result.get("events", ())
            if events:
                view = _apply(view, int(result["header"]["revision"]), events)
                yield view
        raise EtcdError("the watch ended")


def _apply(view: View, revision: int, events: list[dict[str, Any]]) -> View:
    puts: dict[str, Item] = {}
    deletes: set[str] = set()
    for event in events:
        if event.get("type", "PUT") == "DELETE":
            key = base64.b64decode(event["kv"]["key"]).decode("ascii")
            puts.pop(key, None)
            deletes.add(key)
        else:
            kv = key_value(event["kv"])
            deletes.discard(kv.key)
            puts[kv.key] = Item(kv.value, kv.mod_revision, kv.lease)
    return view.updated(revision, puts, deletes)
