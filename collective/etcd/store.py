"""Our records in etcd: read them all at one revision, write them all or nothing.

It decides nothing: each write here is one transaction that the caller asked for, on the view
that the caller decided on.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from collective.errors import EtcdError
from collective.etcd.calls import EtcdCalls, Put, key_value
from collective.etcd.deadline import within
from collective.model.records import (
    Change,
    ChangeKind,
    Invitation,
    MemberRecord,
    Record,
    Rekey,
    Revocation,
    Turn,
    to_json,
)
from collective.model.view import (
    CHANGE_KEY,
    PREFIX,
    REKEY_KEY,
    TURN_KEY,
    Item,
    View,
    invitation_key,
    member_key,
    revoked_key,
)

READ_SECONDS = 3.0
WRITE_SECONDS = 5.0
# A certificate lives a year; revoking it longer than that serves nobody.
_REVOKED_SECONDS = 400 * 86400
_WATCH_SILENCE_SECONDS = 300.0


class Store:
    """The records of the collective, over one gateway."""

    def __init__(self, gateway: EtcdCalls) -> None:
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

    def prove(self, seconds: float) -> int:
        """Ask for a linearizable answer, and for as little as there is.

        Returns:
            The revision of the store, other software's keys included.

        Raises:
            EtcdError: there was none in time.
        """
        with within(seconds):
            return self._gateway.range(CHANGE_KEY)[0]

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

    def revoke_invitation(self, view: View, name: str) -> bool:
        """End an invitation; False when it, or the member, changed meanwhile."""
        key = invitation_key(name)
        return self._write(view, (key, member_key(name)), {}, deletes=(key,))

    def claim(self, view: View, invitation: Invitation) -> bool:
        """Claim an invitation for the CSR key that it now names; False if it changed."""
        key = invitation_key(invitation.name)
        return self._write(view, (key,), {key: invitation}, lease=view.lease(key))

    def put_member(
        self, view: View, member: MemberRecord, when: float, revoke: Sequence[str] = ()
    ) -> bool:
        """Write a member's record, and revoke certificates that it no longer lists.

        Returns:
            False when the record changed meanwhile.
        """
        key = member_key(member.name)
        return self._write(view, (key,), {key: member} | _revoked(member.name, revoke, when))

    def promote_member(self, view: View, member: MemberRecord) -> bool:
        """Write the record of a learner that became a voter, and end its invitation.

        Returns:
            False when the record changed meanwhile.
        """
        key = member_key(member.name)
        return self._write(view, (key,), {key: member}, deletes=(invitation_key(member.name),))

    def admit_member(
        self, view: View, member: MemberRecord, when: float, revoke: Sequence[str]
    ) -> bool:
        """Write the record of a server that is being taken in on its invitation.

        Returns:
            False when its record, its invitation, or the change of the voters is not what the
            view says any more.
        """
        key = member_key(member.name)
        unchanged = (key, invitation_key(member.name), CHANGE_KEY)
        return self._write(view, unchanged, {key: member} | _revoked(member.name, revoke, when))

    def readdress_member(
        self, view: View, member: MemberRecord, when: float, revoke: Sequence[str]
    ) -> bool:
        """Write a member's record with another address.

        Returns:
            False when a record of a member, or the change of the voters, is not what the view
            says any more.
        """
        unchanged = (CHANGE_KEY, *(member_key(name) for name in view.members))
        puts = {member_key(member.name): member} | _revoked(member.name, revoke, when)
        return self._write(view, unchanged, puts)

    def begin_change(self, view: View, change: Change, member: MemberRecord | None = None) -> bool:
        """Begin a change of the voters, and note it in the record of the member concerned.

        Returns:
            False if another one has begun, or a record changed, meanwhile.
        """
        unchanged = (CHANGE_KEY, *(member_key(name) for name in view.members))
        puts: dict[str, Record] = {CHANGE_KEY: change}
        if member is not None:
            puts[member_key(member.name)] = member
        return self._write(view, unchanged, puts)

    def put_learner(self, view: View, member: MemberRecord) -> bool:
        """Write the record of a member that becomes a learner.

        Returns:
            False if its record, or the change of the voters, is not what the view says any more.
        """
        key = member_key(member.name)
        return self._write(view, (key, CHANGE_KEY), {key: member})

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
            puts |= _revoked(member.name, member.serials, when)
            deletes = (member_key(change.name), invitation_key(change.name))
        return self._write(view, keys, puts, deletes=deletes)

    def begin_rekey(self, view: View, rekey: Rekey) -> bool:
        """Begin a re-keying, in place of one that is done or lost, or ask for another one.

        A removal that wanted it has got it with this, and what was kept is worthless soon.

        Returns:
            False when the last re-keying or the last removal changed meanwhile.
        """
        puts: dict[str, Record] = {REKEY_KEY: rekey}
        if view.change is not None and view.change.done:
            puts[CHANGE_KEY] = replace(view.change, rekey=False, kept_key=False)
        return self._write(view, (REKEY_KEY, CHANGE_KEY), puts)

    def advance_rekey(self, view: View, rekey: Rekey, ended: Sequence[str]) -> bool:
        """Begin the next phase, and end invitations that name the old CA.

        Args:
            view: on which everybody was found to have done the phase before.
            rekey: the re-keying in its new phase.
            ended: names of the invitations.

        Returns:
            False when the re-keying or a member changed meanwhile.
        """
        unchanged = (REKEY_KEY, *(member_key(name) for name in view.members))
        deletes = tuple(invitation_key(name) for name in ended)
        return self._write(view, unchanged, {REKEY_KEY: rekey}, deletes=deletes)

    def finish_demotion(self, view: View, change: Change) -> bool:
        """End a demotion: its record done, and that of a member that does not vote.

        Args:
            view: a view in which the change is under way.
            change: that change.
        """
        member = view.members.get(change.name)
        puts: dict[str, Record] = {CHANGE_KEY: replace(change, done=True)}
        if member is not None and member.member_id == change.member_id:
            puts[member_key(change.name)] = member.as_nonvoting()
        return self._write(view, (CHANGE_KEY, member_key(change.name)), puts)

    def put_out(
        self, view: View, member: MemberRecord, when: float, change: Change | None
    ) -> bool:
        """Drop the record of a member that etcd has none of, its invitation and certificates.

        Args:
            view: what the decision was made on.
            member: whom to drop.
            when: seconds since the epoch.
            change: what to write down as the last change of the voters, None to leave that.

        Returns:
            False when the record, or the last change, is not what the view says any more.
        """
        key = member_key(member.name)
        puts = _revoked(member.name, member.serials, when)
        unchanged: tuple[str, ...] = (key,)
        if change is not None:
            puts[CHANGE_KEY] = change
            unchanged = (key, CHANGE_KEY)
        deletes = (key, invitation_key(member.name))
        return self._write(view, unchanged, puts, deletes=deletes)

    def take_turn(self, view: View, turn: Turn, seconds: int) -> bool:
        """Take the turn to restart etcd, for so many seconds at most; False if another has it."""
        if view.turn is not None and view.turn.name != turn.name:
            return False
        with within(WRITE_SECONDS):
            lease = self._gateway.grant_lease(seconds)
        return self._write(view, (TURN_KEY,), {TURN_KEY: turn}, lease=lease)

    def end_turn(self, view: View) -> bool:
        """End the turn that the view has; False when it changed meanwhile."""
        return self._write(view, (TURN_KEY,), {}, deletes=(TURN_KEY,))

    def drop_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Drop the record of a learner that was given up, and revoke its certificates.

        Returns:
            False when the record changed meanwhile; then nothing was written.
        """
        key = member_key(member.name)
        unchanged, puts = _kept(view, member)
        puts |= _revoked(member.name, member.serials, when)
        return self._write(view, (key, *unchanged), puts, deletes=(key,))

    def give_up_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Drop a learner that gave up its join: its record and its invitation.

        Returns:
            False when the record changed meanwhile; then nothing was written.
        """
        key = member_key(member.name)
        unchanged, puts = _kept(view, member)
        puts |= _revoked(member.name, member.serials, when)
        deletes = (key, invitation_key(member.name))
        return self._write(view, (key, *unchanged), puts, deletes=deletes)

    def _write(
        self,
        view: View,
        unchanged: tuple[str, ...],
        puts: Mapping[str, Record],
        deletes: tuple[str, ...] = (),
        lease: int = 0,
    ) -> bool:
        compare = {key: view.mod_revision(key) for key in unchanged}
        revokes = any(isinstance(record, Revocation) for record in puts.values())
        with within(WRITE_SECONDS):
            until_expiry = self._gateway.grant_lease(_REVOKED_SECONDS) if revokes else 0
            wire = [
                Put(key, to_json(r), until_expiry if isinstance(r, Revocation) else lease)
                for key, r in puts.items()
            ]
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
                view = _apply(view, events)
                yield view
        raise EtcdError("the watch ended")


def _kept(view: View, member: MemberRecord) -> tuple[tuple[str, ...], dict[str, Record]]:
    """Return the key that must not change, and the record to write, if it kept the CA's key."""
    if not member.held_key:
        return (), {}
    last = view.change
    if last is None:
        last = Change(ChangeKind.REMOVE, member.name, member.member_id, member.name, done=True)
    return (CHANGE_KEY,), {CHANGE_KEY: replace(last, kept_key=True)}


def _revoked(name: str, serials: Sequence[str], when: float) -> dict[str, Record]:
    return {revoked_key(s): Revocation(s, name, when) for s in serials}


def _apply(view: View, events: list[dict[str, Any]]) -> View:
    """Return the view after a batch of events.

    Its revision is that of the last event. The header's may be the store's, which is ahead when
    the watch has to catch up.
    """
    revision = max(int(event["kv"]["mod_revision"]) for event in events)
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
