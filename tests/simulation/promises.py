"""The promises P1 to P5, looked at whenever something is written or a member changes.

What the environment does is nobody's breach: a server that answered when a change was decided
counts as answering for that change, even if it has died since.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from collective.daemon.doors.access import member_of
from collective.daemon.node import hex_id
from collective.errors import CollectiveError
from collective.etcd.calls import EtcdMember
from collective.model.plan import Mode
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.pki import LeafInfo
from collective.policy.membership import quorum
from collective.protocol.web import Peer, PeerCertificate
from tests.simulation.actors import Actor

if TYPE_CHECKING:
    from tests.simulation.world import World

_ALL, _HEARD, _READ, _LISTED = "asked all", "heard", "read", "listed"


class Promises:
    """What was seen, and what was broken.

    Attributes:
        breaches: sentences; the first word is the promise.
        issued: certificates by serial number.
        counts: how often what was looked at has happened.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.breaches: list[str] = []
        self.issued: dict[str, LeafInfo] = {}
        self.counts: dict[str, int] = {}
        self._decided: dict[str, set[int]] = {}
        self._promoted: set[str] = set()
        self._invited: dict[str, int] = {}
        self._admitted: dict[str, set[str]] = {}
        self._deleted: dict[str, int] = {}
        self._former: list[PeerCertificate] = []

    def _break(self, sentence: str) -> None:
        self.breaches.append(sentence)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # What actors did before they change something ---------------------------------------------

    def has_asked_all(self, by: Actor | None, alive: frozenset[int]) -> None:
        """Note who was alive when an actor asked."""
        if by is not None:
            by.notes[_ALL] = alive

    def has_heard(self, by: Actor | None, member_id: str) -> None:
        """Note that a member told an actor its id."""
        if by is not None:
            by.notes.setdefault(_HEARD, set()).add(member_id)

    def has_listed(self, by: Actor | None, members: list[EtcdMember]) -> None:
        """Note which members an actor saw as learners, and who was alive then."""
        if by is not None:
            alive = set(self._world.alive_ids())
            by.notes[_LISTED] = {m.id: alive for m in members if m.learner}

    def has_read(self, by: Actor | None, now: float) -> None:
        """Note when an actor last read."""
        if by is not None:
            by.notes[_READ] = now

    def lost(self, member_id: int) -> None:
        """Note that the environment takes a member: what was decided before may count it."""
        if member_id in self._world.alive_ids():
            for alive in self._decided.values():
                alive.add(member_id)

    # What happens -----------------------------------------------------------------------------

    def removed(self, member: EtcdMember, by: Actor | None) -> None:
        """Look at a member that etcd removed (P1).

        Only a decided change removes a voter. A learner that is put out may have become one since
        it was looked at: that leaves the voters there were, which were enough a moment ago.
        """
        self._count("learner removed" if member.learner else "voter removed")
        if member.learner:
            return
        decided = self._decided.get(hex_id(member.id))
        if decided is None and by is not None:
            decided = by.notes.get(_LISTED, {}).get(member.id)
            self._count("learner removed that was a voter by then")
        if decided is None:
            self._break(f"P1: nobody decided to remove the voter {hex_id(member.id)}")
            return
        voters, alive = self._world.etcd.voters, self._world.alive_ids() | decided
        if not voters or len(voters & alive) < quorum(len(voters)):
            self._break(f"P1: {len(voters & alive)} of {len(voters)} voters after a removal")

    def promoted(self, member_id: int, by: Actor | None) -> None:
        """Look at a learner that became a voter (P2)."""
        self._count("promoted")
        self._promoted.add(hex_id(member_id))
        if by is None or hex_id(member_id) not in by.notes.get(_HEARD, ()):
            self._break(f"P2: {hex_id(member_id)} counts, and nobody has heard it")

    def written(self, before: View, after: View, by: Actor | None) -> None:
        """Look at a write."""
        self._look_at_change(before, after, by)
        self._look_at_invitations(before, after)
        for name, record in after.members.items():
            if before.members.get(name) != record:
                self._look_at_member(before, after, record, by)
        if before.revoked.keys() - after.revoked.keys():
            self._break("P4: a revocation was taken back")

    def _look_at_change(self, before: View, after: View, by: Actor | None) -> None:
        old, new = before.change, after.change
        if new == old or new is None:
            return
        if old is not None and not old.done and new != replace(old, done=True):
            self._break(f"P1: the change {old} was overwritten by {new}")
        if not new.done:
            self._count("change begun")
            alive = by.notes.get(_ALL, frozenset()) if by is not None else frozenset()
            self._decided[new.member_id] = set(alive)
            return
        self._count("change done")
        if int(new.member_id, 16) in self._world.etcd.members:
            self._break(f"P4: {new.name} is deleted, and etcd has it")
        record = before.members.get(new.name)
        if record is not None and record.member_id == new.member_id:
            self._look_at_deletion(record, after)

    def _look_at_deletion(self, record: MemberRecord, after: View) -> None:
        self._deleted[record.name] = after.revision
        if record.name in after.members or record.name in after.invitations:
            self._break(f"P4: {record.name} was deleted and has a record or an invitation")
        if not set(record.serials) <= after.revoked.keys():
            self._break(f"P4: {record.name} was deleted and its certificates were not revoked")
        pairs = zip(record.serials, record.fingerprints, strict=True)
        self._former += [PeerCertificate(record.name, *pair) for pair in pairs]

    def _look_at_invitations(self, before: View, after: View) -> None:
        for name, invitation in after.invitations.items():
            if name not in before.invitations:
                self._count("invited")
            if invitation.public_key not in self._invited:
                self._invited[invitation.public_key] = after.revision

    def _look_at_member(
        self, before: View, after: View, record: MemberRecord, by: Actor | None
    ) -> None:
        if set(record.serials) & after.revoked.keys():
            self._break(f"P4: {record.name} has a certificate that is revoked")
        old = before.members.get(record.name)
        known = old.serials if old is not None else ()
        for serial in set(record.serials).difference(known):
            self._look_at_admission(before, record.name, serial, by)
        if record.role is Role.VOTER and (old is None or old.role is not Role.VOTER):
            self._count("recorded as voter")
            if record.member_id not in self._promoted:
                self._break(f"P2: {record.name} is recorded as a voter, and is none")

    def _look_at_admission(self, before: View, name: str, serial: str, by: Actor | None) -> None:
        """Look at a certificate that got into a record (P3, and P4: nobody comes back)."""
        self._count("admitted")
        key_id = self.issued[serial].key_id
        invitation = before.invitations.get(name)
        if invitation is None:
            self._break(f"P3: {name} was admitted without an invitation")
            return
        if invitation.claimed_by != key_id:
            self._break(f"P3: {name} was admitted on an invitation that another key claimed")
        if by is None or by.notes.get(_READ, float("inf")) >= invitation.expires:
            self._break(f"P3: {name} was admitted on an invitation that has expired")
        if self._invited[invitation.public_key] <= self._deleted.get(name, 0):
            self._break(f"P4: {name} came back on an invitation from before its deletion")
        keys = self._admitted.setdefault(invitation.public_key, set())
        keys.add(key_id)
        if len(keys) > 1:
            self._break(f"P3: an invitation for {name} admitted two keys")

    # The end ----------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Return why the collective is not whole (P5), when all had time to do their duty."""
        world, etcd, view = self._world, self._world.etcd, self._world.etcd.view
        why: list[str] = []
        if not world.has_quorum:
            why.append(f"no quorum: voters {sorted(etcd.voters)}, alive {world.alive_ids()}")
        if view.change is not None and not view.change.done:
            why.append(f"under way: {view.change}")
        learners = [m.id for m in etcd.members.values() if m.learner]
        if learners:
            why.append(f"learners: {learners}")
        recorded = {(m.member_id, m.url): m.role for m in view.members.values()}
        known = {
            (hex_id(m.id), m.peer_urls[0]): Role.LEARNER if m.learner else Role.VOTER
            for m in etcd.members.values()
        }
        if recorded != known:
            why.append(f"records {recorded} and members {known}")
        for machine in world.machines:
            takes_part = machine.member_id in etcd.members
            if machine.node is not None and not takes_part:
                why.append(f"{machine} does not know that it was removed")
            if machine.mode is Mode.JOINING and takes_part:
                why.append(f"{machine} does not know that it is a voter")
            if takes_part and not machine.holds_key:
                why.append(f"{machine} does not hold the key of the CA")
        return why + self._let_in(view)

    def _let_in(self, view: View) -> list[str]:
        """Return which deleted servers the door would let in."""
        found = []
        for certificate in self._former:
            try:
                member_of(view, Peer("tls", "10.0.0.9", certificate))
            except CollectiveError:
                continue
            found.append(f"P4: the door lets the former {certificate.name} in")
        return found
