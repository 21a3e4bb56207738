"""The promises P1 to P5, looked at whenever something is written or a member changes.

What the environment does is nobody's breach: a server that answered when a change was decided
counts as answering for that change, even if it has died since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from collective.daemon.member.access import member_of
from collective.errors import CollectiveError
from collective.etcd.api import EtcdMember, hex_id
from collective.model.plan import Mode
from collective.model.records import ChangeKind, MemberRecord, Role
from collective.model.view import View, invitation_key
from collective.pki import Certificate
from collective.policy.membership import quorum
from collective.protocol.web import PeerCertificate, Requester
from tests.simulation.actors import Actor

if TYPE_CHECKING:
    from tests.simulation.etcd import SimulatedEtcd
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

_ALL, _ASKED, _HEARD, _LISTED, _MET = "asked all", "asked", "heard", "listed", "met"
#: See ``daemon.certificates.turn``: so long are those waited for that may be back in a moment.
_WAIT_SECONDS = 1.0


class Promises:
    """What was seen, and what was broken.

    Attributes:
        breaches: sentences; the first word is the promise.
        counts: how often what was looked at has happened.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.breaches: list[str] = []
        self.counts: dict[str, int] = {}
        self._decided: dict[str, set[int]] = {}
        self._promoted: set[str] = set()
        self._invited: dict[str, int] = {}
        self._admitted: dict[str, set[str]] = {}
        self._deleted: dict[str, int] = {}
        self._former: list[PeerCertificate] = []
        self._shut_out: dict[str, set[str]] = {}
        self._over: set[str] = set()
        self._in_turn: set[str] = set()

    def _break(self, sentence: str) -> None:
        self.breaches.append(sentence)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # What actors did before they change something ---------------------------------------------

    def has_asked_all(self, by: Actor | None, alive: frozenset[int]) -> None:
        """Note who was alive when an actor asked."""
        if by is not None:
            now = self._world.time.now
            by.notes[_ALL] = alive
            by.notes[_ASKED] = (by.notes.get(_ASKED, (now,))[0], now)

    def has_met(self, by: Actor | None, names: Iterable[str]) -> None:
        """Note who answered an actor, and how often each had been off until then."""
        if by is not None:
            machines = [m for m in self._world.machines if m.name in set(names)]
            by.notes[_MET] = {m: m.outages for m in machines}

    def has_heard(self, by: Actor | None, member_id: str) -> None:
        """Note that a member told an actor its id."""
        if by is not None:
            by.notes.setdefault(_HEARD, set()).add(member_id)

    def has_listed(self, by: Actor | None, members: list[EtcdMember]) -> None:
        """Note which members an actor saw as learners, and who was alive then."""
        if by is not None:
            alive = set(self._world.alive_ids())
            by.notes[_LISTED] = {m.id: alive for m in members if m.learner}

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

    def _still(self, met: Mapping[Machine, int]) -> list[Machine]:
        """Return the voters among these that were never off since, and are in touch."""
        voters = self._world.etcd.voters
        return [
            m
            for m, outages in met.items()
            if m.outages == outages and m.member_id in voters and self._world.in_touch(m)
        ]

    def _in_touch(self) -> dict[Machine, int]:
        machines = [m for m in self._world.machines if self._world.in_touch(m)]
        return {m: m.outages for m in machines}

    def _do_not_let_in(self, by: Actor | None, certificate: Certificate, whose: str) -> str:
        """Return who, of those that an actor counts on, does not let a certificate in."""
        met = self._in_touch() if by is None else by.notes.get(_MET, self._in_touch())
        found = [m for m in self._still(met) if m.name != whose]
        names = [m.name for m in found if not self._lets_in(m, certificate)]
        return " and ".join(sorted(names))

    def _lets_in(self, machine: Machine, certificate: Certificate) -> bool:
        """Tell whether an etcd lets a certificate in, or will when its daemon hears the news.

        One that was refused, and is wanted again, needs no restart.
        """
        runtime = machine.require_runtime()
        behind = machine.view.revision < self._world.etcd.view.revision
        loaded = certificate.fingerprint in runtime.etcd_trust.loaded
        return runtime.process.lets_in(certificate) or (loaded and behind)

    def added(self, url: str, by: Actor | None) -> None:
        """Look at a learner that was added: all that answer let it in, or nobody may."""
        records = self._world.etcd.view.members.values()
        joiner = next((m for m in self._world.machines if url == m.url), None)
        if joiner is None or not any(m.url == url and m.is_peer for m in records):
            return
        self._count("added")
        if joiner.certificate.fingerprint not in self._world.etcd.view.certificates:
            return  # its sponsor died, or was late: it does not even listen any more
        names = self._do_not_let_in(by, joiner.certificate, joiner.name)
        if names:
            self._break(f"P2: {joiner.name} was added, and etcd on {names} does not let it in")

    def shown(self, machine: Machine, following: Certificate) -> None:
        """Look at a certificate that a server shows from now on (P5, P11)."""
        self._count("certificate changed")
        if machine.recorded() is None:
            return  # it was deleted, and does not know
        if following.fingerprint not in self._world.etcd.view.certificates:
            self._break(f"P5: {machine.name} shows a certificate that is not recorded")
        if machine.member_id not in self._world.etcd.voters:
            return
        names = self._do_not_let_in(self._world.actors.current(), following, machine.name)
        if names:
            self._break(f"P1: {machine.name} shows what etcd on {names} does not let in")

    def restarted(self, machine: Machine, by: Actor | None) -> None:
        """Look at an etcd that is about to be restarted (P1)."""
        world = self._world
        if by is None or not world.in_touch(machine):
            return  # it takes no part
        if by.label == "move":
            return  # it took no part for seconds, until a moment ago
        self._count("restarted")
        if machine.name not in self._in_turn:
            self._break(f"P1: etcd on {machine.name} is restarted, and it is not its turn")
        voters = world.etcd.voters
        others = len(voters & by.notes.get(_ALL, frozenset()) - {machine.member_id})
        first, last = by.notes.get(_ASKED, (0.0, 0.0))
        spared = others >= quorum(len(voters)) or others == len(voters) - 1
        if not spared and last - first < _WAIT_SECONDS:
            self._break(f"P1: etcd on {machine.name} is restarted without a wait for the others")

    def started(self, machine: Machine, etcd: SimulatedEtcd) -> None:
        """Look at whom an etcd lets in that starts (P4)."""
        if machine.recorded() is None or machine.member_id not in self._world.etcd.voters:
            return  # a learner hears all of it before it counts
        for fingerprint, certificate in etcd.trusted.items():
            if fingerprint in self._over and not self._is_peer(fingerprint):
                self._break(f"P4: etcd on {machine.name} starts and lets {certificate.name} in")

    def _is_peer(self, fingerprint: str) -> bool:
        view = self._world.etcd.view
        owner = view.members.get(view.certificates.get(fingerprint, ""))
        return owner is not None and owner.is_peer

    def shutting_out(self, name: str, run: Callable[[], object]) -> None:
        """Run a command that shuts a server out, and look when it returns (P4, P12)."""
        met = self._in_touch()
        run()
        self._count("shut out")
        gone = {f for f in self._shut_out.get(name, set()) if not self._is_peer(f)}
        self._over |= gone
        for machine in self._still(met):
            if gone & machine.require_runtime().process.trusted.keys():
                self._break(f"P4: etcd on {machine.name} lets {name} in, who was shut out")
            left = name not in self._world.etcd.view.members
            if left and any(machine.credentials.trusts(f) for f in gone):
                self._break(f"P4: the door of {machine.name} lets {name} in, who was deleted")

    def readdressed(self, counted: frozenset[int]) -> None:
        """Look at a member whose URL was changed: that must make nobody a voter (P2)."""
        self._count("readdressed")
        for member_id in counted:
            self._break(f"P2: {hex_id(member_id)} counts by a change of its address")

    def written(self, before: View, after: View, by: Actor | None) -> None:
        """Look at a write."""
        self._look_at_change(before, after, by)
        self._look_at_invitations(before, after)
        self._look_at_turn(before, after)
        for name, record in after.members.items():
            if before.members.get(name) != record:
                self._look_at_member(before, after, record, by)
        for name, record in before.members.items():
            left = after.members.get(name)
            if record.is_peer and (left is None or not left.is_peer):
                self._shut_out.setdefault(name, set()).update(record.fingerprints)
        if before.revoked.keys() - after.revoked.keys():
            self._break("P4: a revocation was taken back")

    def _look_at_turn(self, before: View, after: View) -> None:
        old, new = before.turn, after.turn
        if old == new:
            return
        if old is not None and new is not None and old.name != new.name:
            self._break(f"P1: {new.name} took the turn of {old.name}")
        if old is not None:
            self._in_turn.discard(old.name)
        if new is not None:
            self._in_turn.add(new.name)

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
        self._count(f"{new.kind.value} done")
        if int(new.member_id, 16) in self._world.etcd.members:
            self._break(f"P4: {new.name} is deleted, and etcd has it")
        record = before.members.get(new.name)
        if record is None or record.member_id != new.member_id:
            return
        if new.kind is ChangeKind.REMOVE:
            self._look_at_deletion(record, after)

    def _look_at_deletion(self, record: MemberRecord, after: View) -> None:
        self._deleted[record.name] = after.revision
        if record.name in after.members or record.name in after.invitations:
            self._break(f"P4: {record.name} was deleted and has a record or an invitation")
        if not set(record.fingerprints) <= after.revoked.keys():
            self._break(f"P4: {record.name} was deleted and its certificates were not revoked")
        self._former += [PeerCertificate(record.name, f) for f in record.fingerprints]

    def _look_at_invitations(self, before: View, after: View) -> None:
        for name, invitation in after.invitations.items():
            if name not in before.invitations:
                self._count("invited")
            if not after.lease(invitation_key(name)):
                self._break(f"P3: the invitation for {name} never expires")
            if invitation.public_key not in self._invited:
                self._invited[invitation.public_key] = after.revision

    def _look_at_member(
        self, before: View, after: View, record: MemberRecord, by: Actor | None
    ) -> None:
        if set(record.fingerprints) & after.revoked.keys():
            self._break(f"P4: {record.name} has a certificate that is revoked")
        old = before.members.get(record.name)
        known = old.fingerprints if old is not None else ()
        if not set(record.fingerprints) & set(known):
            self._look_at_admission(before, record.name, record.fingerprints[0])
        elif old is not None:
            self._look_at_retired(old, record)
        if record.role is Role.VOTER and (old is None or old.role is not Role.VOTER):
            self._count("recorded as voter")
            if record.member_id not in self._promoted:
                self._break(f"P2: {record.name} is recorded as a voter, and is none")

    def _look_at_retired(self, old: MemberRecord, new: MemberRecord) -> None:
        """See that no certificate is taken out of a record that its server shows (P5)."""
        for machine in self._world.machines:
            shown = machine.certificate.fingerprint
            if shown in old.fingerprints and shown not in new.fingerprints:
                self._break(f"P5: the certificate that {new.name} shows was retired")

    def _look_at_admission(self, before: View, name: str, fingerprint: str) -> None:
        """Look at a certificate that got into a record (P3, and P4: nobody comes back)."""
        self._count("admitted")
        invitation = before.invitations.get(name)
        if invitation is None:
            self._break(f"P3: {name} was admitted without an invitation")
            return
        if invitation.claimed_by != fingerprint:
            self._break(f"P3: {name} was admitted on an invitation that another one claimed")
        if self._invited[invitation.public_key] <= self._deleted.get(name, 0):
            self._break(f"P4: {name} came back on an invitation from before its deletion")
        admitted = self._admitted.setdefault(invitation.public_key, set())
        admitted.add(fingerprint)
        if len(admitted) > 1:
            self._break(f"P3: an invitation for {name} admitted two servers")

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
        peers = [m for m in view.members.values() if m.is_peer]
        recorded = {(m.member_id, m.url): m.role for m in peers}
        known = {
            (hex_id(m.id), m.peer_urls[0]): Role.LEARNER if m.learner else Role.VOTER
            for m in etcd.members.values()
        }
        if recorded != known:
            why.append(f"records {recorded} and members {known}")
        for record in view.members.values():
            if len(record.certificates) != 1 or record.target is not record.role:
                told = f"{record.role.value} to be {record.target.value}"
                why.append(f"{record.name} is half done: {len(record.certificates)}, {told}")
        for machine in world.machines:
            why += self._unsettled_at(machine)
        return why + self._let_in(view)

    def _unsettled_at(self, machine: Machine) -> list[str]:
        """Return what is not as it should be on one server."""
        world, why = self._world, []
        record, shown = machine.recorded(), machine.certificate
        if machine.runtime is None:
            return [f"{machine} rests, and is a member"] if record is not None else []
        expected = {Role.VOTER: Mode.MEMBER, Role.NONVOTING: Mode.NONVOTING}
        if record is None and self._hears_too_few(machine):
            return []
        if record is None or machine.mode is not expected.get(record.role):
            role = None if record is None else record.role.value
            return [f"{machine} is {machine.mode.value}, and recorded as {role}"]
        if self._is_stranded(machine):
            return []
        following = machine.credentials.next
        if following is not None and following.fingerprint in record.fingerprints:
            why.append(f"{machine} has not changed its certificate")
        if record.address not in shown.addresses:
            why.append(f"{machine} is at {record.address}, which its certificate does not name")
        if record.address != machine.plan.address or machine.plan.moving_to:
            why.append(f"{machine} is at {record.address}, and thinks {machine.plan.address}")
        if record.role is Role.VOTER and not world.in_touch(machine):
            why.append(f"etcd on {machine} does not reach the leader")
        elif record.role is Role.VOTER:
            peers = {
                f for m in world.etcd.view.members.values() if m.is_peer for f in m.fingerprints
            }
            trusted = machine.require_runtime().process.trusted.keys()
            if trusted - peers - {shown.fingerprint}:
                why.append(f"P4: etcd on {machine} lets others in than the voters")
            if peers - trusted - {shown.fingerprint}:
                why.append(f"etcd on {machine} does not let all voters in")
        elif world.relay_of(machine) is None:
            why.append(f"{machine} reaches no voter")
        return why

    def _hears_too_few(self, machine: Machine) -> bool:
        """Whether a server that was deleted while it was off, or cut off, cannot find that out.

        One voter's word puts nobody to rest: of the other voters that it knows, more than half
        must be left to say so. Else it says what it has heard, and a person has it join again.
        """
        runtime = machine.require_runtime()
        others = [n for n in runtime.records_view.view.voters if n != machine.name]
        left = [n for n in others if n in self._world.etcd.view.voters]
        told = machine.told_removed == machine.member_id or self._world.is_heard(machine)
        if (machine.alive and told) or not others or 2 * len(left) > len(others):
            return False
        self._count("deleted, and hears too few")
        return True

    def _is_stranded(self, machine: Machine) -> bool:
        """Whether most of the voters that a server knows, which was off, are no members any more.

        It must be deleted and invited again: nobody is left whom it could believe.
        """
        runtime = machine.require_runtime()
        if runtime.process.running or not runtime.etcd.waits_for:
            return False
        known = runtime.records_view.view.voters
        left = [
            n
            for n, m in known.items()
            if self._world.etcd.view.members.get(n, m).joined == m.joined
        ]
        left = [n for n in left if n in self._world.etcd.view.voters]
        self._count("stranded")
        return len(left) < quorum(len(known))

    def _let_in(self, view: View) -> list[str]:
        """Return which deleted servers the door would let in."""
        found = []
        for certificate in self._former:
            try:
                member_of(view, Requester("tls", "10.0.0.9", certificate))
            except CollectiveError:
                continue
            found.append(f"P4: the door lets the former {certificate.name} in")
        return found
