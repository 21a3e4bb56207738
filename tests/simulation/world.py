"""The world of a history: machines with power and network, etcd, time, and who does what.

Invariants:
  * Nothing happens by itself: time passes, lights go out and actors go on when they are told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from collective.daemon import clock
from collective.daemon.addresses import change, readdress, recovery
from collective.daemon.certificates import replacement
from collective.daemon.clock import Time
from collective.daemon.joining import guests, joiner, promotee, sponsor
from collective.daemon.lifecycle import lives, return_check
from collective.daemon.member import etcd_trust, recognition
from collective.daemon.membership import confirming, promotion
from collective.daemon.membership.candidate import Candidate
from collective.errors import EtcdError, UnreachableError
from collective.etcd.api import EtcdMember, hex_id
from collective.etcd.requests import PutRequest
from collective.model.plan import Mode
from collective.model.records import LoadedTrust, MemberRecord, Role, to_json
from collective.model.view import View, loaded_key, member_key
from collective.policy.membership import quorum
from collective.protocol.peer import Check, PeerClient
from tests.simulation.actors import Actor, Actors, Fate
from tests.simulation.certificates import SimulatedCredentials, judged
from tests.simulation.etcd import revocation_list
from tests.simulation.keyspace import Keyspace
from tests.simulation.machine import DOOR, LEARNER_SECONDS, PEER, Machine
from tests.simulation.promises import Promises
from tests.simulation.runtime import SimulatedPeer
from tests.simulation.standins import SerialPool

__all__ = ["DOOR", "LEARNER_SECONDS", "PEER", "Machine", "SimulatedTime", "World", "running"]

_BEGIN = 1_800_000_000.0


class SimulatedTime(Time):
    """Time that passes when somebody waits, or when the history says so."""

    def __init__(self, actors: Actors) -> None:
        self.now = _BEGIN
        self._actors = actors
        self.timers: list[Callable[[], None]] = []

    def epoch(self) -> float:
        """Return the time of every server."""
        return self.now

    def elapsed(self) -> float:
        """Return the same."""
        return self.now

    def pause(self, seconds: float) -> None:
        """Hold the actor, and let time pass."""
        self.now += max(seconds, 0.25)
        self._actors.interrupt()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Make an actor of it, on the server whose actor asks."""
        current = self._actors.current()
        assert current is not None
        self._actors.spawn(current.host, "later", action)


class World:
    """Everything there is.

    Attributes:
        lists_locally: whether the list of members is each member's own, as on etcd 3.4.
        late: changes that are on their way, and happen later or never.
    """

    def __init__(self, machines: int, members: int, lists_locally: bool) -> None:
        self.actors = Actors()
        self.time = SimulatedTime(self.actors)
        self.etcd = Keyspace()
        self.lists_locally = lists_locally
        self.late: list[Callable[[], object]] = []
        self.files: dict[object, bytes] = {}
        self.promises = Promises(self)
        self._leader = 0
        self.machines = [Machine(self, number) for number in range(1, machines + 1)]
        with self.patched():
            self._begin(self.machines[:members])

    def _begin(self, machines: Sequence[Machine]) -> None:
        """Have some servers be the voters of the collective."""
        puts = [self._voter(machine) for machine in machines]
        shown = tuple(sorted(machine.certificate.fingerprint for machine in machines))
        puts += [
            PutRequest(loaded_key(m.name), to_json(LoadedTrust(m.name, shown))) for m in machines
        ]
        self.etcd.transact({}, puts, ())
        for machine in machines:
            machine.view = View(0)
            machine.publish(self.etcd.view)
            machine.live(machine.plan)
            self.actors.kill(machine)  # nobody was off, so nobody is asked
            machine.require_runtime().etcd.begin(lambda: True)
        for machine in machines:
            machine.sync()

    def _voter(self, machine: Machine) -> PutRequest:
        member = EtcdMember(self._next_id(machine.url), machine.name, (machine.url,), False)
        self.etcd.members[member.id] = member
        machine.plan = replace(
            machine.plan, mode=Mode.MEMBER, member_id=hex_id(member.id), started=True
        )
        pem = machine.certificate.pem
        record = MemberRecord(
            machine.name, hex_id(member.id), Role.VOTER, machine.address, DOOR, PEER,
            (pem,), self.time.now,
        )  # fmt: skip
        return PutRequest(member_key(machine.name), to_json(record))

    def _next_id(self, url: str) -> int:
        number = int(url.rpartition(".")[2].partition(":")[0])
        return (number << 40) + int(self.time.now)

    def at(self, address: str) -> Machine | None:
        """The machine at an address."""
        return next((m for m in self.machines if address in m.addresses), None)

    def reached(self, caller: Machine, address: str) -> Machine | None:
        """The machine at an address, if the network leads there."""
        found = self.at(address)
        return found if found is not None and found.reachable and caller.reachable else None

    def resume(self, machine: Machine) -> None:
        """Have a join gone on with; ``history`` says how."""
        self.on_resume(machine)

    on_resume: Callable[[Machine], None] = staticmethod(lambda _: None)

    # Which etcds reach each other -------------------------------------------------------------

    def linked(self, one: Machine, other: Machine) -> bool:
        """Whether two etcds run and let each other in."""
        if one is other:
            return one.alive
        if not (one.alive and other.alive):
            return False
        ours, theirs = one.require_runtime().process, other.require_runtime().process
        return ours.lets_in(other.certificate) and theirs.lets_in(one.certificate)

    def _voters(self) -> list[Machine]:
        return [m for m in self.machines if m.alive and m.member_id in self.etcd.voters]

    def _can_lead(self, machine: Machine, able: Sequence[Machine]) -> bool:
        followers = sum(self.linked(machine, other) for other in able)
        return followers >= quorum(len(self.etcd.voters))

    def leader(self) -> Machine | None:
        """Who leads, None where nobody can."""
        able = self._voters()
        able.sort(key=lambda m: m.member_id != self._leader)
        found = next((m for m in able if self._can_lead(m, able)), None)
        if found is not None:
            self._leader = found.member_id
        return found

    def alive_ids(self) -> frozenset[int]:
        """Ids of the members whose etcd takes part."""
        return frozenset(m.member_id for m in self.machines if m.alive)

    @property
    def has_quorum(self) -> bool:
        """Whether anything can be agreed on."""
        return self.leader() is not None

    def in_touch(self, machine: Machine) -> bool:
        """Whether the etcd of a machine is a member, and follows the leader, or leads."""
        if not machine.alive or machine.member_id not in self.etcd.members:
            return False
        leader = self.leader()
        return leader is not None and self.linked(leader, machine)

    def is_heard(self, machine: Machine) -> bool:
        """Whether another etcd tells the one of a machine that it was removed."""
        return any(m is not machine and self.linked(machine, m) for m in self._voters())

    def relay_of(self, machine: Machine) -> Machine | None:
        """A voter through which a server without a vote reaches etcd, None for none."""
        runtime, shown = machine.runtime, machine.certificate.fingerprint
        if runtime is None or not machine.reachable:
            return None
        for voter in self._voters():
            known = runtime.peers.check_of(voter.name)(voter.certificate.fingerprint) is None
            if known and shown in voter.view.certificates and self.in_touch(voter):
                return voter
        return None

    def leader_id(self) -> int:
        """Who leads, 0 without a quorum."""
        leader = self.leader()
        return 0 if leader is None else leader.member_id

    def lead(self, member_id: int) -> None:
        """Have another voter lead, if it can."""
        able = self._voters()
        if any(m.member_id == member_id and self._can_lead(m, able) for m in able):
            self._leader = member_id

    # What happens in etcd, as everybody sees it -----------------------------------------------

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[PutRequest], deletes: Sequence[str],
        by: Actor | None,
    ) -> bool:  # fmt: skip
        """Write."""
        before = self.etcd.view
        done = self.etcd.transact(unchanged, puts, deletes)
        if done:
            self.promises.written(before, self.etcd.view, by)
        return done

    def add_learner(self, url: str, by: Actor | None) -> int:
        """Add a learner."""
        added = self.etcd.add_learner(url, self._next_id(url))
        self.promises.added(url, by)
        return added

    def update_member(self, member_id: int, url: str) -> None:
        """Change the URL of a member."""
        voters = self.etcd.voters
        self.etcd.update_member(member_id, url)
        self.promises.readdressed(self.etcd.voters - voters)

    def promote(self, member_id: int, by: Actor | None) -> None:
        """Promote a learner."""
        self.etcd.promote(member_id)
        self.promises.promoted(member_id, by)

    def remove(self, member_id: int, by: Actor | None) -> None:
        """Remove a member, which hears of it itself where it follows the leader."""
        for machine in self.machines:
            if machine.member_id == member_id and self.in_touch(machine):
                machine.told_removed = member_id
        self.promises.removed(self.etcd.remove(member_id), by)

    def deliver(self, index: int) -> None:
        """Let a late change happen now, if there is a quorum for it."""
        action = self.late.pop(index % len(self.late))
        if self.has_quorum:
            with suppress(EtcdError):
                action()

    def catch_up(self, machine: Machine) -> None:
        """Send a learner the log."""
        if self.in_touch(machine):
            machine.index = self.etcd.view.revision
            self.etcd.caught_up.add(machine.member_id)
        machine.sync()

    def hear_and_pause(self, seconds: float) -> None:
        """Wait where nothing but news is waited for, which everybody hears meanwhile."""
        for machine in self.machines:
            machine.sync()
        self.time.pause(seconds)

    def dial_back(self, here: str, candidate: Candidate) -> None:
        """Reach the candidate, and see that it is that very server."""
        fate, machine = self.actors.interrupt(), self.at(candidate.address)
        if fate is not Fate.DONE or machine is None or not machine.reachable:
            raise UnreachableError(f"{candidate.address} does not answer")
        if machine.dialled != candidate.certificate.fingerprint:
            raise UnreachableError(f"at {candidate.address} another server answers")

    def dial(
        self, host: str, _port: int, context: Any, check: Check, _most: int = 0
    ) -> PeerClient:
        """Make a connection for whoever asks now, with a certificate or as a stranger."""
        if isinstance(context, SimulatedCredentials):
            return SimulatedPeer(self, context.machine, host, context, check)
        actor = self.actors.current()
        assert actor is not None
        return SimulatedPeer(self, cast(Machine, actor.host), host, None, check)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Have the product use this world's time, network and files."""
        with pytest.MonkeyPatch.context() as patch:
            for owner, name, stand_in in self._stand_ins():
                patch.setattr(owner, name, stand_in)
            yield

    def _stand_ins(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield what is put where."""
        yield clock, "_time", self.time
        yield etcd_trust, "write_atomically", self.files.__setitem__
        yield etcd_trust, "make_revocation_list", revocation_list
        yield sponsor, "dial_back", self.dial_back
        yield from ((m, "knock", lambda *_: None) for m in (sponsor, promotion))
        yield readdress, "_knock", lambda *_: None
        for module in (sponsor, replacement, readdress):
            yield module, "judge_certificate", judged
        for module in (recognition, guests):
            yield module, "client_context", lambda: None
        yield guests, "pause", self.hear_and_pause
        yield from ((m, "PeerClient", self.dial) for m in (recognition, guests, return_check))
        for module in (guests, confirming, return_check):
            yield module, "ThreadPoolExecutor", SerialPool
        yield return_check, "objection_to", lambda *_: None
        yield change, "bind_tcp", lambda *_: nullcontext()
        yield promotee, "bind_tcp", lambda *_: _Port()
        yield joiner, "local_addresses", lambda: []
        for module in (lives, recovery):
            yield module, "certified_here", lambda address: [address]
        yield lives, "listen_addresses", lambda *_: ("0.0.0.0",)
        yield lives, "shed_vote", lambda _layout, _state, plan, _now: plan


class _Port:
    """A port that is held open."""

    def close(self) -> None:
        """Let go of it."""


@contextmanager
def running(world: World) -> Iterator[None]:
    """Have the product use this world's time and network."""
    with world.patched():
        try:
            yield
        finally:
            world.actors.kill_all()
