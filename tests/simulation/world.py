"""The world of a history: machines with power and network, etcd, time, and who does what.

Invariants:
  * Nothing happens by itself: time passes, lights go out and actors go on when they are told to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import cache, lru_cache
from typing import cast

import pytest

from collective.daemon import clock
from collective.daemon.clock import Time
from collective.daemon.joining import sponsor
from collective.daemon.joining.candidate import Candidate
from collective.daemon.joining.enlist import Enlister
from collective.daemon.joining.gate import Gate
from collective.daemon.membership.duties import Duties
from collective.daemon.node import hex_id
from collective.daemon.server import (
    HAND_OVERS_AT_ONCE,
    HAND_OVERS_PER_SECOND,
    CollectiveServer,
)
from collective.errors import EtcdError, UnreachableError
from collective.etcd.calls import EtcdMember, Put
from collective.model.names import peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import View, member_key
from collective.pki import Authority, LeafInfo, make_request, new_key, read_leaf
from collective.policy.membership import quorum
from collective.protocol.limits import RateLimit
from tests.simulation.actors import Actor, Actors, Fate
from tests.simulation.keyspace import Keyspace
from tests.simulation.node import SimulatedGateway, SimulatedNode
from tests.simulation.promises import Promises

DOOR, PEER = 13002, 13003
LEARNER_SECONDS = 300.0
_BEGIN = 1_800_000_000.0
_LIVING = frozenset({Mode.JOINING, Mode.MEMBER})


@lru_cache
def authority() -> Authority:
    """The CA of all histories."""
    return Authority.create("collective", datetime.now(timezone.utc))


@cache
def first_leaf(number: int) -> LeafInfo:
    """The certificate of a server that is a member from the beginning."""
    key = new_key()
    name = f"mgt{number}"
    request = make_request(key, name)
    leaf = authority().issue(request, name, [f"10.0.0.{number}"], datetime.now(timezone.utc))
    return read_leaf(leaf)


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


class Machine:
    """One server: the machine, and what it is in the collective.

    Attributes:
        up, cut_off: whether it has power; whether its network is gone.
        view, members: what its etcd knows.
        index: how far its log is.
        dialled: id of the key that a dial-back is answered with, "" outside of a join.
        holds_key: whether it has the CA's key.
        stopped: whether its daemon is ending; here it ends at once, with the power.
        attempts: counts its joins, each with a key of its own.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.address = f"10.0.0.{number}"
        self.name = f"mgt{number}"
        self.up, self.cut_off = True, False
        self.mode = Mode.REMOVED
        self.member_id = 0
        self.leaf: LeafInfo | None = None
        self.node: SimulatedNode | None = None
        self.duties: Duties | None = None
        self.gate = Gate()
        self.hand_overs = RateLimit(HAND_OVERS_PER_SECOND, HAND_OVERS_AT_ONCE)
        self.enlister = Enlister(cast(CollectiveServer, self))
        self.view = View(0)
        self.members: tuple[EtcdMember, ...] = ()
        self.index = 0
        self.dialled = ""
        self.attempts = 0
        self.holds_key = False
        self.stopped = threading.Event()

    def __repr__(self) -> str:
        return f"machine{self.number}"

    @property
    def url(self) -> str:
        """Its etcd's peer door."""
        return peer_url(self.address, PEER)

    @property
    def plan(self) -> Plan:
        """What its state file would say."""
        return Plan(
            self.mode, self.name, self.address, DOOR, PEER, "token", "", True,
            hex_id(self.member_id),
        )  # fmt: skip

    @property
    def reachable(self) -> bool:
        """Whether others reach it, and it them."""
        return self.up and not self.cut_off

    @property
    def alive(self) -> bool:
        """Whether its etcd takes part."""
        return self.reachable and self.node is not None

    @property
    def can_join(self) -> bool:
        """Whether it is in no collective."""
        return self.up and self.mode is Mode.REMOVED and not self.joining

    @property
    def joining(self) -> bool:
        """Whether the command runs here: one at a time."""
        return any(a.host is self and a.label == "join" for a in self.world.actors.running)

    def require_node(self) -> SimulatedNode:
        """Return the parts of a member, which it is."""
        assert self.node is not None
        return self.node

    def sync(self) -> None:
        """Hear of all news, where that is possible."""
        etcd = self.world.etcd
        if self.alive and self.world.has_quorum and self.member_id in etcd.members:
            self.view, self.members = etcd.view, tuple(etcd.members.values())

    def adopt(self, name: str, leaf: LeafInfo, member_id: int) -> None:
        """Begin the life of a learner."""
        self.name, self.leaf, self.member_id = name, leaf, member_id
        self.view, self.members, self.index = View(0), (), 0
        self.attempts += 1
        self.mode, self.holds_key = Mode.JOINING, False
        self.begin_life()

    def begin_life(self) -> None:
        """Start the parts of a member."""
        if self.mode in _LIVING:
            self.node = SimulatedNode(self.world, self)
            self.duties = Duties(self.node, LEARNER_SECONDS)

    def end_life(self) -> None:
        """Stop them."""
        if self.node is not None:
            cast(SimulatedGateway, self.node.gateway).close()
        self.node = self.duties = None

    def crash(self) -> None:
        """Lose power."""
        self.world.promises.lost(self.member_id)
        self.up, self.dialled = False, ""
        self.world.actors.kill(self)
        self.end_life()
        self.gate = Gate()

    def start(self) -> None:
        """Get power again, and go on."""
        self.up = True
        self.begin_life()

    def rest(self) -> bool:
        """Notice that this server was removed, if it was; tell whether."""
        etcd = self.world.etcd
        if not self.alive or self.member_id in etcd.members:
            return False
        self.give_up()
        return True

    def give_up(self) -> None:
        """End this life, and rest."""
        self.end_life()
        self.mode, self.attempts = Mode.REMOVED, self.attempts + 1


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
        self.authority = authority()
        self.pin = self.authority.pin
        self.promises = Promises(self)
        self._leader = 0
        self.machines = [Machine(self, number) for number in range(1, machines + 1)]
        self._begin(self.machines[:members])

    def _begin(self, machines: Sequence[Machine]) -> None:
        for machine in machines:
            machine.leaf = leaf = first_leaf(machine.number)
            machine.member_id = self._next_id(machine.url)
            member = EtcdMember(machine.member_id, machine.name, (machine.url,), False)
            self.etcd.members[member.id] = member
            record = MemberRecord(
                machine.name, hex_id(member.id), Role.VOTER, machine.address, DOOR, PEER,
                (leaf.serial,), (leaf.fingerprint,), self.time.now, held_key=True,
            )  # fmt: skip
            self.etcd.transact({}, [Put(member_key(machine.name), to_json(record))], ())
            machine.mode, machine.holds_key = Mode.MEMBER, True
            machine.begin_life()
        for machine in machines:
            machine.sync()

    def _next_id(self, url: str) -> int:
        number = int(url.rpartition(".")[2].partition(":")[0])
        return (number << 40) + int(self.time.now)

    def at(self, address: str) -> Machine | None:
        """The machine at an address."""
        return next((m for m in self.machines if m.address == address), None)

    def alive_ids(self) -> frozenset[int]:
        """Ids of the members whose etcd takes part."""
        return frozenset(m.member_id for m in self.machines if m.alive)

    @property
    def has_quorum(self) -> bool:
        """Whether anything can be agreed on."""
        voters = self.etcd.voters
        return len(voters & self.alive_ids()) >= quorum(len(voters))

    def leader_id(self) -> int:
        """Who leads, 0 without a quorum."""
        able = sorted(self.etcd.voters & self.alive_ids())
        if not self.has_quorum:
            return 0
        if self._leader not in able:
            self._leader = able[0]
        return self._leader

    def lead(self, member_id: int) -> None:
        """Have another voter lead."""
        if member_id in self.etcd.voters & self.alive_ids():
            self._leader = member_id

    # What happens in etcd, as everybody sees it -----------------------------------------------

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[Put], deletes: Sequence[str],
        by: Actor | None,
    ) -> bool:  # fmt: skip
        """Write."""
        before = self.etcd.view
        done = self.etcd.transact(unchanged, puts, deletes)
        if done:
            self.promises.written(before, self.etcd.view, by)
        return done

    def add_learner(self, url: str) -> int:
        """Add a learner."""
        return self.etcd.add_learner(url, self._next_id(url))

    def promote(self, member_id: int, by: Actor | None) -> None:
        """Promote a learner."""
        self.etcd.promote(member_id)
        self.promises.promoted(member_id, by)

    def remove(self, member_id: int, by: Actor | None) -> None:
        """Remove a member."""
        self.promises.removed(self.etcd.remove(member_id), by)

    def deliver(self, index: int) -> None:
        """Let a late change happen now, if there is a quorum for it."""
        action = self.late.pop(index % len(self.late))
        if self.has_quorum:
            with suppress(EtcdError):
                action()

    def catch_up(self, machine: Machine) -> None:
        """Send a learner the log."""
        if machine.alive and machine.member_id in self.etcd.members and self.has_quorum:
            machine.index = self.etcd.view.revision
            self.etcd.caught_up.add(machine.member_id)
            machine.sync()

    def dial_back(self, here: str, candidate: Candidate, host: str) -> None:
        """Reach the candidate at an address, and have its key proven."""
        fate, machine = self.actors.interrupt(), self.at(host)
        if fate is not Fate.DONE or machine is None or not machine.reachable:
            raise UnreachableError(f"{host} does not answer")
        if machine.dialled != candidate.csr_key_id:
            raise UnreachableError(f"at {host} another server answers")


@contextmanager
def running(world: World) -> Iterator[None]:
    """Have the product use this world's time and network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "_time", world.time)
        patch.setattr(sponsor, "dial_back", world.dial_back)
        patch.setattr(sponsor, "knock", lambda *_: None)
        try:
            yield
        finally:
            world.actors.kill_all()
