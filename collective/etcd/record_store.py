"""Our records in etcd: read them all at one revision, write them all or nothing.

It decides nothing: each write here is one transaction that the caller asked for, on the view
that the caller decided on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd.api import EtcdApi, KeyValue
from collective.etcd.deadline import within
from collective.etcd.requests import PutRequest
from collective.model.changes import EFFECTS, make
from collective.model.records import (
    Change,
    Invitation,
    LoadedTrust,
    MemberRecord,
    Record,
    Revocation,
    Turn,
    to_json,
)
from collective.model.view import (
    CHANGE_KEY,
    PREFIX,
    TURN_KEY,
    Item,
    View,
    invitation_key,
    loaded_key,
    member_key,
    revoked_key,
)

#: Revocations of one member that stays. A server that shows a certificate from before so many
#: changes must be invited again anyway (``succession``).
MOST_REVOKED = 32
# Of one transaction: etcd takes 128 (--max-txn-ops).
_MOST_OPERATIONS = 120
READ_SECONDS = 3.0
WRITE_SECONDS = 5.0
# An election is over by then.
_LEASE_SECONDS = 2.0
# A transaction of etcd has 128 operations at most.
_MOST_ENDED = 64


class RecordStore:
    """The records of the collective, over one gateway.

    Attributes:
        proven_at: when a quorum was proven here last, seconds of the monotonic clock.
    """

    def __init__(self, gateway: EtcdApi) -> None:
        self._gateway = gateway
        self.proven_at = float("-inf")

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

    def read_at_commit(self, seconds: float = READ_SECONDS) -> View:
        """Read everything at a commit that is made for it, and that each voter must follow.

        That proves a quorum, too. A full database may take no commit; then it is a read.

        Args:
            seconds: deadline.

        Raises:
            EtcdError: no proof in time.
        """
        deadline = monotonic() + seconds
        try:
            return self._commit(seconds)
        except EtcdUnavailableError:
            # Broken off by a restart or an election: it changes nothing, so it can be made again.
            if monotonic() >= deadline:
                raise
            return self._commit(deadline - monotonic())
        except EtcdError:
            return self.read(seconds)

    def _commit(self, seconds: float) -> View:
        with within(seconds):
            view = _view(*self._gateway.commit_and_range(PREFIX))
        self.proven_at = monotonic()
        return view

    def prove(self, seconds: float) -> int:
        """Ask for a linearizable answer, and for as little as there is.

        Returns:
            The revision of the store, other software's keys included.

        Raises:
            EtcdError: there was none in time.
        """
        with within(seconds):
            revision = self._gateway.range(CHANGE_KEY)[0]
        self.proven_at = monotonic()
        return revision

    def _range(self, seconds: float, serializable: bool) -> View:
        with within(seconds):
            view = _view(*self._gateway.range(PREFIX, serializable))
        if not serializable:
            self.proven_at = monotonic()
        return view

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
        lease = self._lease(seconds)
        return self._write(view, (member, key), {key: invitation}, lease=lease)

    def _lease(self, seconds: int) -> int:
        """Return a new lease, asked for twice: the first time of a leader that was just lost.

        One that was granted unheard ends by itself.
        """
        try:
            with within(_LEASE_SECONDS):
                return self._gateway.grant_lease(seconds)
        except EtcdUnavailableError:
            with within(WRITE_SECONDS - _LEASE_SECONDS):
                return self._gateway.grant_lease(seconds)

    def revoke_invitation(self, view: View, name: str) -> bool:
        """End an invitation; False when it, or the member, changed meanwhile."""
        key = invitation_key(name)
        return self._write(view, (key, member_key(name)), {}, deletes=(key,))

    def claim(self, view: View, invitation: Invitation) -> bool:
        """Claim an invitation for the certificate that it now names; False if it changed."""
        key = invitation_key(invitation.name)
        return self._write(view, (key,), {key: invitation}, lease=view.lease(key))

    def put_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Write a member's record, and revoke the certificates that it no longer lists.

        Of what was revoked of a member that stays, the oldest is forgotten in the end: no record
        lists it and no etcd trusts it, so it opens nothing.

        Returns:
            False when the record changed meanwhile.
        """
        puts = _put(view, member, when)
        unchanged = (member_key(member.name),)
        return self._write(view, unchanged, puts, deletes=_outdated(view, member.name, puts))

    def promote_member(self, view: View, member: MemberRecord) -> bool:
        """Write the record of a learner that became a voter, and end its invitation.

        Returns:
            False when the record changed meanwhile.
        """
        key = member_key(member.name)
        return self._write(view, (key,), {key: member}, deletes=(invitation_key(member.name),))

    def admit_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Write the record of a server that is being taken in on its invitation.

        What another server of this name had opens nothing any more.

        Returns:
            False when its record, its invitation, or the change of the voters is not what the
            view says any more.
        """
        unchanged = (member_key(member.name), invitation_key(member.name), CHANGE_KEY)
        return self._write(view, unchanged, _put(view, member, when))

    def readdress_member(
        self, view: View, member: MemberRecord, when: float, vacated: MemberRecord | None = None
    ) -> bool:
        """Write a member's record with another address.

        Args:
            view: what it is decided on.
            member: the record.
            when: it is revoked what the record does not list any more.
            vacated: the record of the member that had the address before.

        Returns:
            False when a record of a member, or the change of the voters, is not what the view
            says any more.
        """
        unchanged = (CHANGE_KEY, *(member_key(name) for name in view.members))
        puts = _put(view, member, when)
        if vacated is not None:
            puts[member_key(vacated.name)] = vacated
        return self._write(view, unchanged, puts, deletes=_outdated(view, member.name, puts))

    def begin_change(self, view: View, change: Change) -> bool:
        """Begin a change of the voters, and note it in the record of the member concerned.

        Returns:
            False if another one has begun, or a record changed, meanwhile.
        """
        unchanged = (CHANGE_KEY, *(member_key(name) for name in view.members))
        puts: dict[str, Record] = {CHANGE_KEY: change}
        member = view.members.get(change.name)
        noted = EFFECTS[change.kind].begun(member) if member is not None else None
        if noted is not None and noted != member:
            puts[member_key(change.name)] = noted
        return self._write(view, unchanged, puts)

    def put_learner(self, view: View, member: MemberRecord) -> bool:
        """Write the record of a member that becomes a learner.

        Returns:
            False if its record, or the change of the voters, is not what the view says any more.
        """
        key = member_key(member.name)
        return self._write(view, (key, CHANGE_KEY), {key: member})

    def finish_change(self, view: View, change: Change, when: float) -> bool:
        """End a change of the voters: its record done, and that of the member as it is then.

        Who is removed has its certificates revoked, and its record and invitation go.

        Args:
            view: a view in which the change is under way.
            change: that change.
            when: seconds since the epoch.
        """
        member, key = view.members.get(change.name), member_key(change.name)
        puts: dict[str, Record] = {CHANGE_KEY: make(change)}
        deletes: tuple[str, ...] = ()
        if member is not None and member.member_id == change.member_id:
            after = EFFECTS[change.kind].made(member)
            if after is None:
                puts |= _revoked(member.name, member.fingerprints, when)
                deletes = _all_keys_of(change.name)
            else:
                puts[key] = after
                deletes = (loaded_key(change.name),)
            deletes += _issued_by(view, change.name)
        return self._write(view, (CHANGE_KEY, key), puts, deletes=deletes)

    def put_out(self, view: View, member: MemberRecord, when: float) -> bool:
        """Drop the record of a member that etcd has none of, its invitation and certificates.

        Args:
            view: what the decision was made on.
            member: whom to drop.
            when: seconds since the epoch.

        Returns:
            False when the record is not what the view says any more.
        """
        puts = _revoked(member.name, member.fingerprints, when)
        deletes = (*_all_keys_of(member.name), *_issued_by(view, member.name))
        return self._write(view, (member_key(member.name),), puts, deletes=deletes)

    def take_turn(self, view: View, turn: Turn, seconds: int) -> bool:
        """Take the turn to restart etcd, for so many seconds at most; False if another has it.

        Until the turn has ended, nothing says whom that etcd lets in.
        """
        if view.turn is not None and view.turn.name != turn.name:
            return False
        with within(WRITE_SECONDS):
            lease = self._gateway.grant_lease(seconds)
        deletes = (loaded_key(turn.name),)
        return self._write(view, (TURN_KEY,), {TURN_KEY: turn}, deletes=deletes, lease=lease)

    def end_turn(self, view: View, loaded: LoadedTrust | None = None) -> bool:
        """End the turn that the view has, and say whom the etcd that was restarted lets in.

        Returns:
            False when the turn, or the member, changed meanwhile.
        """
        unchanged: tuple[str, ...] = (TURN_KEY,)
        puts: dict[str, Record] = {}
        if loaded is not None and loaded.name in view.members:
            unchanged = (TURN_KEY, member_key(loaded.name))
            puts = {loaded_key(loaded.name): loaded}
        return self._write(view, unchanged, puts, deletes=(TURN_KEY,))

    def put_loaded(self, view: View, loaded: LoadedTrust) -> bool:
        """Write down whom this server's etcd lets in; False when its record changed meanwhile."""
        return self._write(view, (member_key(loaded.name),), {loaded_key(loaded.name): loaded})

    def drop_member(self, view: View, member: MemberRecord, when: float) -> bool:
        """Drop the record of a learner that was given up, and revoke its certificates.

        Returns:
            False when the record changed meanwhile; then nothing was written.
        """
        key = member_key(member.name)
        puts = _revoked(member.name, member.fingerprints, when)
        return self._write(view, (key,), puts, deletes=(key, loaded_key(member.name)))

    def _write(
        self,
        view: View,
        unchanged: tuple[str, ...],
        puts: Mapping[str, Record],
        deletes: tuple[str, ...] = (),
        lease: int = 0,
    ) -> bool:
        compare = {key: view.mod_revision(key) for key in unchanged}
        wire = [PutRequest(key, to_json(record), lease) for key, record in puts.items()]
        with within(WRITE_SECONDS):
            return self._gateway.transact(compare, wire, deletes)[0]


def _view(revision: int, kvs: Sequence[KeyValue]) -> View:
    return View(revision, {kv.key: Item(kv.value, kv.mod_revision, kv.lease) for kv in kvs})


def _put(view: View, member: MemberRecord, when: float) -> dict[str, Record]:
    """Return a member's record, and revocations of the certificates that only the former had."""
    former = view.members.get(member.name)
    gone = [f for f in former.fingerprints if f not in member.fingerprints] if former else []
    return {member_key(member.name): member} | _revoked(member.name, gone, when)


def _revoked(name: str, fingerprints: Sequence[str], when: float) -> dict[str, Record]:
    return {revoked_key(f): Revocation(f, name, when) for f in fingerprints if f}


def _issued_by(view: View, name: str) -> tuple[str, ...]:
    """Return the invitations that a member has issued: it has their tokens.

    Its own is not among them; more than so many, which one transaction cannot hold, are left:
    without their issuer among the members they admit nobody.
    """
    issued = (i.name for i in view.invitations.values() if i.issuer == name != i.name)
    return tuple(invitation_key(invited) for invited in sorted(issued))[:_MOST_ENDED]


def _outdated(view: View, name: str, puts: Mapping[str, Record]) -> tuple[str, ...]:
    """Return the keys of a member's oldest revocations, where these puts make too many of them."""
    new = [key for key, record in puts.items() if isinstance(record, Revocation)]
    if not new:
        return ()
    found = {revoked_key(f) for f, r in view.revoked.items() if r.name == name}
    former = sorted(found.difference(new), key=lambda key: (view.mod_revision(key), key))
    too_many = max(0, len(former) + len(new) - MOST_REVOKED)
    return tuple(former[: min(too_many, _MOST_OPERATIONS - len(puts))])


def _all_keys_of(name: str) -> tuple[str, ...]:
    """Return the keys that go with a member."""
    return member_key(name), invitation_key(name), loaded_key(name)
