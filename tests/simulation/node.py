"""The real ``Node`` of the product on simulated parts: gateway, replica, prober, calls to others.

Invariants:
  * Every call that could be cut off in life holds the actor that makes it, before it is made.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from collective.daemon.certificates.credentials import Credentials
from collective.daemon.doors import member as door
from collective.daemon.doors.access import objection
from collective.daemon.doors.calls import Calls
from collective.daemon.joining.proving import Doubts
from collective.daemon.node import Node, hex_id
from collective.daemon.peers.prober import Answer, Prober
from collective.daemon.peers.replica import Replica
from collective.daemon.server import CollectiveServer
from collective.errors import (
    EtcdError,
    EtcdUnavailableError,
    RefusedError,
    UnreachableError,
    from_wire,
)
from collective.etcd.calls import EtcdMember, KeyValue, Put, Status
from collective.etcd.gateway import Gateway
from collective.etcd.store import Store
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import Authority, LeafInfo, read_leaf
from collective.policy.rekeying import Keys
from collective.protocol import messages
from collective.protocol.messages import ServerStatus
from collective.protocol.passage import Passage
from collective.protocol.peer import Check, Peer
from collective.protocol.web import Peer as Caller
from collective.protocol.web import PeerCertificate, Request
from tests.simulation.actors import Fate

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

T = TypeVar("T")
#: These change nothing and are answered from memory: a request of one step.
_AT_ONCE = frozenset({messages.STATUS, messages.SYNC, messages.HAND_OVER, messages.CHALLENGE})


class SimulatedGateway(Gateway):
    """What a member's etcd answers."""

    def __init__(self, world: World, machine: Machine, member_id: int) -> None:
        self._world, self._machine, self._id = world, machine, member_id
        self.closed = False

    def close(self) -> None:
        """Answer no more: this life has ended."""
        self.closed = True

    def status(self) -> Status:
        """Tell of ourselves; this is no call that matters."""
        world, machine = self._world, self._machine
        if self.closed or not machine.up:
            raise EtcdUnavailableError("etcd: it does not answer")
        known = world.etcd.members.get(self._id)
        leader = world.leader_id() if machine.reachable and known is not None else 0
        index = machine.index
        learner = known is not None and known.learner
        return Status(self._id, leader, 1, index, index, index, "3.5.16", 1, learner, ())

    def members(self) -> list[EtcdMember]:
        """Return the list: as this member knows it on etcd 3.4, as it is from 3.5."""
        by = self._world.actors.current()
        if self._world.lists_locally:
            self._world.actors.interrupt()
            self._require_life()
            found = list(self._machine.members)
        else:
            found = self._make(lambda: list(self._world.etcd.members.values()), changes=False)
        self._world.promises.has_listed(by, found)
        return found

    def add_learner(self, url: str) -> tuple[int, list[EtcdMember]]:
        """Add a learner."""
        added = self._make(lambda: self._world.add_learner(url))
        return added, list(self._world.etcd.members.values())

    def promote(self, member_id: int) -> None:
        """Promote."""
        by = self._world.actors.current()
        self._make(lambda: self._world.promote(member_id, by))

    def remove(self, member_id: int) -> None:
        """Remove."""
        by = self._world.actors.current()
        self._make(lambda: self._world.remove(member_id, by))

    def move_leader(self, member_id: int) -> None:
        """Hand leadership over."""
        self._make(lambda: self._world.lead(member_id))

    def range(self, prefix: str, serializable: bool = False) -> tuple[int, list[KeyValue]]:
        """Read what begins so."""
        if serializable:
            self._require_life()
            return _listed(self._machine.view, prefix)
        by = self._world.actors.current()
        found = self._make(lambda: _listed(self._world.etcd.view, prefix), changes=False)
        self._world.promises.has_read(by, self._world.time.now)
        return found

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[Put], deletes: Sequence[str] = ()
    ) -> tuple[bool, int]:
        """Write all or nothing."""
        by = self._world.actors.current()
        done = self._make(lambda: self._world.transact(unchanged, puts, deletes, by))
        return done, self._world.etcd.view.revision

    def grant_lease(self, seconds: int, owner: str = "") -> int:
        """Make a lease; nobody is held, as it is always followed by a write."""
        self._require_quorum()
        return self._world.etcd.grant(self._world.time.now + seconds)

    def _make(self, action: Callable[[], T], changes: bool = True) -> T:
        fate = self._world.actors.interrupt()
        self._require_quorum()
        if fate is Fate.DONE:
            try:
                return action()
            finally:
                self._machine.sync()
        if changes and fate is Fate.UNHEARD:
            with suppress(EtcdError):
                action()
        if changes and fate is Fate.LATE:
            self._world.late.append(action)
        raise EtcdUnavailableError("etcd did not answer in time")

    def _require_life(self) -> None:
        if self.closed or not self._machine.up:
            raise EtcdUnavailableError("etcd: it does not answer")

    def _require_quorum(self) -> None:
        self._require_life()
        known = self._world.etcd.members.get(self._id)
        if known is None or not self._machine.reachable or not self._world.has_quorum:
            raise EtcdUnavailableError("etcd did not answer in time")
        if known.learner:
            raise EtcdUnavailableError("etcd: rpc not supported for learner")


def _listed(view: View, prefix: str) -> tuple[int, list[KeyValue]]:
    found = [
        KeyValue(key, item.value, item.mod_revision, item.lease)
        for key, item in view.items.items()
        if key.startswith(prefix)
    ]
    return view.revision, found


class SimulatedReplica(Replica):
    """What a server knows of the store: as new as its last contact."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def view(self) -> View:
        """The records, maybe old."""
        return self._machine.view

    def wait_until(self, holds: Callable[[View], bool], seconds: float) -> bool:
        """Wait: whoever can hear of news hears of it."""
        self._machine.sync()
        return holds(self.view)


class SimulatedProber(Prober):
    """Who answers, of those it was told to ask."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world, self._machine = world, machine
        self._followed: dict[str, MemberRecord] = {}

    def follow(self, members: Iterable[MemberRecord]) -> None:
        """Ask these."""
        self._followed = {m.name: m for m in members if m.name != self._machine.name}

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        """Ask all of them at one moment."""
        by = self._world.actors.current()
        if since is not None:
            self._world.actors.interrupt()
            self._world.promises.has_asked_all(by, self._world.alive_ids())
        return {name: self._ask(record) for name, record in self._followed.items()}

    def _ask(self, record: MemberRecord) -> Answer:
        now, machine = self._world.time.now, self._world.at(record.address)
        node = machine.node if machine is not None and machine.reachable else None
        shown = machine.leaf if machine is not None else None
        if node is None or shown is None or shown.fingerprint not in record.fingerprints:
            return Answer(None, "no answer", now)
        return Answer(node.own_status(), "", now)


class SimulatedPeer(Peer):
    """A connection to another server's door; the real routes answer."""

    def __init__(
        self,
        world: World,
        caller: Machine,
        address: str,
        leaf: LeafInfo | None,
        check: Check | None = None,
    ) -> None:
        self._world, self._caller, self._address = world, caller, address
        self._leaf, self._served = leaf, check
        self._memory: dict[str, Any] = {}

    def open(self, seconds: float) -> None:
        """Connect."""
        target = self._world.at(self._address)
        if target is None or not target.reachable or not self._caller.reachable:
            raise UnreachableError(f"{self._address} does not answer")

    def close(self) -> None:
        """Close it."""

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        """Ask, and return the answer."""
        return self._ask(method, path, body)[-1]

    def lines(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> Iterator[dict[str, Any]]:
        """Ask, and return an answer of several lines."""
        return iter(self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        actors, by = self._world.actors, self._world.actors.current()
        if actors.interrupt() is not Fate.DONE:
            raise UnreachableError(f"{self._address} did not answer in time")
        target = self._world.at(self._address)
        if target is None or not target.reachable or not self._caller.reachable:
            raise UnreachableError(f"{self._address} does not answer")
        self._object(target)
        serve = self._handler(target, method, path, body)
        if by is None or path in _AT_ONCE:
            answer = serve()
            if path == messages.STATUS:
                self._world.promises.has_heard(by, str(answer[-1].get("member_id")))
            return answer
        served: list[dict[str, Any]] = actors.call(actors.spawn(target, path, serve))
        return served

    def _object(self, target: Machine) -> None:
        leaf = target.leaf
        if self._served is not None and leaf is not None:
            shown = PeerCertificate(leaf.name, leaf.serial, leaf.fingerprint)
            why = self._served(shown)
            if why is not None:
                raise UnreachableError(f"{self._address}: {why}")

    def _handler(
        self, target: Machine, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Callable[[], list[dict[str, Any]]]:
        leaf = self._leaf
        shown = None if leaf is None else PeerCertificate(leaf.name, leaf.serial, leaf.fingerprint)
        caller = Caller("tls", self._caller.address, shown)
        raw = b"" if body is None else json.dumps(body).encode()
        request = Request(method, path, {}, raw, caller, self._memory)

        def serve() -> list[dict[str, Any]]:
            calls = Calls(cast(CollectiveServer, target))
            handle = door.handler(cast(CollectiveServer, target), target.enlister, calls)
            answered = handle(request).body
            assert not isinstance(answered, Passage)
            whole = answered if isinstance(answered, bytes) else b"".join(answered)
            lines = [json.loads(line) for line in whole.splitlines()]
            if "error" in lines[-1]:
                raise from_wire(lines[-1]["error"])
            return lines

        return serve


class SimulatedCredentials(Credentials):
    """Certificates that are in no file."""

    def __init__(self, world: World, machine: Machine, leaf: LeafInfo) -> None:
        self._world, self._machine, self._leaf = world, machine, leaf
        self.revoked = frozenset[str]()

    @property
    def ca_pem(self) -> bytes:
        """The CA's certificate."""
        return self._world.authority.certificate_pem

    @property
    def pin(self) -> bytes:
        """What tokens say of the CA."""
        return self._world.pin

    @property
    def holds_ca_key(self) -> bool:
        """Whether we can issue."""
        return self._machine.holds_key

    def authority(self) -> Authority:
        """The CA, whose certificates are noted down."""
        return cast(Authority, NotingAuthority(self._world, self._machine.holds_key))

    def next_authority(self) -> Authority | None:
        """The CA of a re-keying; there is none here."""
        return None

    def crl(self) -> bytes:
        """The revocation list; nobody reads it here."""
        return b""


class NotingAuthority:
    """The real CA, which notes for whose key it signs."""

    def __init__(self, world: World, holds_key: bool) -> None:
        self._world = world
        self.key_pem = world.authority.key_pem if holds_key else None

    def issue(self, *arguments: Any) -> bytes:
        """Issue."""
        if self.key_pem is None:
            raise RefusedError("this server does not hold the CA's key")
        leaf = self._world.authority.issue(*arguments)
        info = read_leaf(leaf)
        self._world.promises.issued[info.serial] = info
        return leaf


class SimulatedNode(Node):
    """One life of a simulated server; what it does not override is the product's."""

    def __init__(self, world: World, machine: Machine) -> None:
        assert machine.leaf is not None
        self._world, self._machine = world, machine
        self.plan = machine.plan
        self._votes = True
        self._stopping = threading.Event()
        self._stopping.set()  # so that nothing waits for what the time of this world brings
        self.credentials = SimulatedCredentials(world, machine, machine.leaf)
        # Histories try what is decided on a read; how few reads there are is tried elsewhere.
        self.doubts = Doubts(per_second=1e9, burst=10**9)
        self.gateway = SimulatedGateway(world, machine, machine.member_id)
        self.store = Store(self.gateway)
        self.replica = SimulatedReplica(machine)
        self.prober = SimulatedProber(world, machine)

    @property
    def failure(self) -> str | None:
        """Why etcd does not run."""
        return None

    @property
    def keys(self) -> Keys:
        """What a re-keying would need to know; there is none here."""
        pin = self._world.pin.hex()
        return Keys(frozenset({pin}), pin, frozenset({pin} if self._machine.holds_key else ()))

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked opens nothing here: as soon as the records say so."""
        return None if self.replica.wait_for(revision, seconds) else "it has not heard of it"

    def status(self, seconds: float = 1.0) -> Status:
        """Return what its etcd says of itself."""
        return self.gateway.status()

    def own_status(self) -> ServerStatus:
        """Return what it says of itself to others."""
        status = self.gateway.status()
        return ServerStatus(
            self.name,
            "0",
            status.version,
            hex_id(status.member_id),
            hex_id(status.leader),
            status.term,
            status.index,
            status.applied,
            1,
            status.learner,
            "",
            (),
            holds=tuple(self.keys.holds),
        )

    def peer(self, member: MemberRecord) -> Peer:
        """Return a new connection to a member's door."""
        leaf = self._machine.leaf

        def check(served: PeerCertificate) -> str | None:
            return objection(self.replica.view, member.name, served)

        return SimulatedPeer(self._world, self._machine, member.address, leaf, check)

    def take_ca_key(self, key_pem: bytes) -> None:
        """Keep the CA's key."""
        if key_pem != self._world.authority.key_pem:
            raise RefusedError("this is another key")
        self._machine.holds_key = True
