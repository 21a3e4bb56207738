"""The real ``MemberRuntime`` of the product on simulated parts: gateway, view, calls to others.

Invariants:
  * Every call that could be cut off in life holds the actor that makes it, before it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners import peer_api as door
from collective.daemon.listeners.service_calls import ServiceCalls
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.failure_detector import Answer, FailureDetector
from collective.daemon.member.member_trust import MemberTrust
from collective.daemon.member.peers import Peers
from collective.daemon.member.proof_limiter import ProofLimiter
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.status_reporter import StatusReporter
from collective.errors import (
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    IdentityError,
    UnreachableError,
    from_wire,
)
from collective.etcd.api import EtcdMember, KeyValue, Status, hex_id
from collective.etcd.gateway import Gateway
from collective.etcd.record_store import RecordStore
from collective.etcd.requests import PutRequest
from collective.model.plan import Plan
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import Certificate
from collective.protocol import messages
from collective.protocol.messages import ServerStatus
from collective.protocol.peer import Check, PeerClient
from collective.protocol.tunnel import Tunnel
from collective.protocol.web import PeerCertificate, Request
from collective.protocol.web import Requester as Caller
from tests.simulation.actors import Fate
from tests.simulation.certificates import SimulatedCredentials
from tests.simulation.etcd import SimulatedEtcd
from tests.simulation.standins import Ending, Lock

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

T = TypeVar("T")
#: These change nothing and are answered from memory: a request of one step.
_AT_ONCE = frozenset(
    {
        messages.STATUS,
        messages.SYNC,
        messages.HAND_OVER,
        messages.CHALLENGE,
        messages.CONFIRM,
        messages.RETURN,
        messages.SUCCESSION,
        messages.DELETED,
    }
)


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
        self._require_life()
        known = world.etcd.members.get(self._id)
        leader = world.leader_id() if world.in_touch(machine) else 0
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
        by = self._world.actors.current()
        added = self._make(lambda: self._world.add_learner(url, by))
        return added, list(self._world.etcd.members.values())

    def promote(self, member_id: int) -> None:
        """Promote."""
        by = self._world.actors.current()
        self._make(lambda: self._world.promote(member_id, by))

    def update_member(self, member_id: int, url: str) -> None:
        """Change the URL of a member."""
        self._make(lambda: self._world.update_member(member_id, url))

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
        return self._make(lambda: _listed(self._world.etcd.view, prefix), changes=False)

    def commit_and_range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        """Read at a commit: it changes nothing, so it is a read here."""
        return self.range(prefix)

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[PutRequest], deletes: Sequence[str] = ()
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
        runtime = self._machine.runtime
        if self.closed or not self._machine.up or runtime is None or not runtime.process.running:
            raise EtcdUnavailableError("etcd: it does not answer")

    def _require_quorum(self) -> None:
        self._require_life()
        known = self._world.etcd.members.get(self._id)
        if known is None or not self._world.in_touch(self._machine):
            raise EtcdUnavailableError("etcd did not answer in time")
        if known.learner:
            raise EtcdUnavailableError("etcd: rpc not supported for learner")


class RelayedGateway(SimulatedGateway):
    """What a voter's etcd answers to a server that does not vote, over the voter's door."""

    def status(self) -> Status:
        """Tell of the voters' etcd: it has no id of ours."""
        leader = self._world.leader_id() if self._world.relay_of(self._machine) else 0
        return Status(0, leader, 1, 0, 0, 0, "3.5.16", 1, False, ())

    def _require_life(self) -> None:
        if self.closed or not self._machine.up:
            raise EtcdUnavailableError("no voter answers")

    def _require_quorum(self) -> None:
        self._require_life()
        if self._world.relay_of(self._machine) is None:
            raise EtcdUnavailableError("no voter answers")


def _listed(view: View, prefix: str) -> tuple[int, list[KeyValue]]:
    found = [
        KeyValue(key, item.value, item.mod_revision, item.lease)
        for key, item in view.items.items()
        if key.startswith(prefix)
    ]
    return view.revision, found


class SimulatedReplica(RecordsView):
    """What a server knows of the store: as new as its last contact."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def view(self) -> View:
        """The records, maybe old."""
        return self._machine.view

    def take(self, view: View) -> None:
        """Take over what a majority has told."""
        self._machine.publish(view)

    def wake(self) -> None:
        """Look again now."""
        self._machine.sync()

    def wait_until(self, holds: Callable[[View], bool], seconds: float) -> bool:
        """Wait: whoever can hear of news hears of it, now or a little later."""
        self._machine.sync()
        if not holds(self.view) and self._machine.world.actors.holds:
            self._machine.world.time.pause(seconds)
            self._machine.sync()
        return holds(self.view)


class SimulatedProber(FailureDetector):
    """Who answers, of those it was told to ask."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world, self._machine = world, machine
        self._followed: dict[str, MemberRecord] = {}

    def follow(self, members: Iterable[MemberRecord]) -> None:
        """Ask these."""
        self._followed = {m.name: m for m in members if m.name != self._machine.name}

    def heard(self, name: str) -> None:
        """Do nothing: connections between etcds are not simulated."""

    def use(self, _context: object) -> None:
        """Do nothing: each question is asked with the certificate of then."""

    def answers(self, seconds: float, since: float | None = None) -> Mapping[str, Answer]:
        """Ask all of them at one moment."""
        by = self._world.actors.current()
        if since is not None:
            self._world.actors.interrupt()
            self._world.promises.has_asked_all(by, self._world.alive_ids())
        found = self.last_answers()
        well = [n for n, a in found.items() if a.status is not None and a.status.healthy]
        self._world.promises.has_met(by, [*well, self._machine.name])
        return found

    def note_committed(self, _index: int) -> None:
        """Do nothing: whoever answers here follows, once it is asked for an entry."""

    def answers_at(
        self, index: int, since: float, seconds: float, patient: bool = False
    ) -> Mapping[str, Answer]:
        """Ask all of them, of whom those in touch have heard of the newest commit."""
        return self.answers(seconds, since)

    def follows(self, answer: Answer, index: int = 0) -> bool:
        """Tell whether a member answers and takes part."""
        return answer.status is not None and answer.status.healthy

    def last_answers(self) -> dict[str, Answer]:
        """Ask all of them."""
        with self._world.actors.at_once():
            return {name: self._ask(record) for name, record in list(self._followed.items())}

    def last_statuses(self) -> Mapping[str, ServerStatus]:
        """Ask all of them."""
        found = self.last_answers()
        return {name: a.status for name, a in found.items() if a.status is not None}

    def _ask(self, record: MemberRecord) -> Answer:
        now, runtime = self._world.time.now, self._machine.require_runtime()
        target = self._world.reached(self._machine, record.address)
        if target is None or target.runtime is None:
            return Answer(None, "no answer", now)
        ours = self._machine.certificate
        if runtime.peers.check_of(record.name)(target.certificate.fingerprint) is not None:
            found = runtime.peers.ask_as_stranger(record).deleted
            return Answer(None, "another certificate", now, removed=found, foreign=not found)
        if not target.credentials.trusts(ours.fingerprint):
            return Answer(None, "refused", now, removed=ours.fingerprint in target.view.revoked)
        return Answer(target.runtime.reporter.status(), "", now)


class SimulatedPeer(PeerClient):
    """A connection to another server's door; the real routes answer."""

    def __init__(
        self,
        world: World,
        caller: Machine,
        address: str,
        credentials: SimulatedCredentials | None,
        check: Check | None = None,
    ) -> None:
        self.host, self.port = address, 13002
        self._world, self._caller = world, caller
        self._credentials, self._served = credentials, check
        self._memory: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        """Of the certificate that is served."""
        return self._reach().certificate.fingerprint

    @property
    def local_address(self) -> str:
        """Ours."""
        return self._caller.address

    def open(self, seconds: float) -> None:
        """Connect."""
        self._reach()

    def close(self) -> None:
        """Close it."""

    def insist(self, check: Check) -> None:
        """Want something else of the certificate from now on."""
        self._served = check

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

    def _reach(self) -> Machine:
        """Return the server at the other end, which lets us in and is the one that we want."""
        target = self._world.reached(self._caller, self.host)
        if target is None:
            raise UnreachableError(f"{self.host} does not answer")
        why = None if self._served is None else self._served(target.certificate.fingerprint)
        if why is not None:
            raise IdentityError(f"will not talk to {self.host}: {why}")
        ours = self._shown()
        if ours is not None and not target.credentials.trusts(ours.fingerprint):
            raise UnreachableError(f"{self.host} refuses our certificate")
        return target

    def _shown(self) -> Certificate | None:
        return None if self._credentials is None else self._credentials.identity

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        actors, by = self._world.actors, self._world.actors.current()
        if actors.interrupt() is not Fate.DONE:
            raise UnreachableError(f"{self.host} did not answer in time")
        target = self._reach()
        serve = self._handler(target, method, path, body)
        if not actors.holds or path in _AT_ONCE:
            answer = serve()
            if path == messages.STATUS:
                self._world.promises.has_heard(by, str(answer[-1].get("member_id")))
            return answer
        served: list[dict[str, Any]] = actors.call(actors.spawn(target, path, serve))
        return served

    def _handler(
        self, target: Machine, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Callable[[], list[dict[str, Any]]]:
        ours = self._shown()
        shown = None if ours is None else PeerCertificate(ours.name, ours.fingerprint)
        caller = Caller("tls", self._caller.address, shown)
        raw = b"" if body is None else json.dumps(body).encode()
        request = Request(method, path, {}, raw, caller, self._memory)

        def serve() -> list[dict[str, Any]]:
            server = cast(CollectiveServer, target)
            handle = door.handler(
                server, cast(JoinCoordinator, target.coordinator), ServiceCalls(server)
            )
            answered = handle(request).body
            assert not isinstance(answered, Tunnel)
            whole = answered if isinstance(answered, bytes) else b"".join(answered)
            lines = [json.loads(line) for line in whole.splitlines() if line.strip()]
            if "error" in lines[-1]:
                raise from_wire(lines[-1]["error"])
            return lines

        return serve


class SimulatedPeers(Peers):
    """The other servers, as one life of a simulated server dials them."""

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__(machine.credentials, lambda: machine.view)
        self._world, self._machine = world, machine

    def client(self, member: MemberRecord) -> PeerClient:
        """Return a new connection to a member's door."""
        check = self.check_of(member.name)
        return SimulatedPeer(
            self._world, self._machine, member.address, self._machine.credentials, check
        )


class SimulatedReporter(StatusReporter):
    """What one life of a simulated server says of itself."""

    def __init__(self, runtime: SimulatedNode) -> None:
        super().__init__(runtime.etcd, "", runtime.credentials, lambda: runtime.plan)
        self._runtime = runtime

    def look_at_door(self) -> bool:
        """See what our door shows: what it is to show, here."""
        self.served = self._runtime.credentials.identity.fingerprint
        return True

    def status(self) -> ServerStatus:
        """Return what it says of itself to others."""
        runtime = self._runtime
        try:
            status = runtime.gateway.status()
        except CollectiveError:
            status = Status(0, 0, 0, 0, 0, 0, "", 0, False, ())
        return ServerStatus(
            runtime.name, "0", status.version, hex_id(status.member_id), hex_id(status.leader),
            status.term, status.index, status.applied, 1, status.learner, "", (),
            nonvoting=not runtime.votes,
        )  # fmt: skip


class SimulatedNode(MemberRuntime):
    """One life of a simulated server; what it does not override is the product's."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.plan, self.votes, self.listen = machine.plan, machine.plan.votes, ("0.0.0.0",)
        self.credentials = machine.credentials
        self.etcd_trust = EtcdTrust(machine.credentials)
        kind = SimulatedGateway if self.votes else RelayedGateway
        self.gateway = kind(world, machine, machine.member_id)
        self.process = SimulatedEtcd(world, machine, self.etcd_trust, self.gateway)
        self.store = RecordStore(self.gateway)
        self.trust = MemberTrust(self.credentials, self.etcd_trust, machine.view, self._wants_etcd)
        self.records_view = SimulatedReplica(machine)
        self.peers = SimulatedPeers(world, machine)
        self.detector = SimulatedProber(world, machine)
        self.replacing = cast(Any, Lock(world))
        self.stopping = cast(Any, Ending(world, lambda: machine.runtime is not self))
        self.etcd = EtcdSupervisor(
            self.process, self._plan, self.trust, self.records_view, self.detector, self.stopping
        )
        self.reporter = SimulatedReporter(self)
        # Histories try what is decided on a read; how few reads there are is tried elsewhere.
        self.proof_limiter = ProofLimiter(per_second=1e9, burst=10**9, at_once=10**9)
        self.dialled = cast(Any, SimpleNamespace(alone=lambda _name: nullcontext()))
        self.locate, self.ignores_strays = (lambda member: member), True

    def follow(self, view: View) -> None:
        """Ask the members of a view whether they answer: each is found where it is."""
        self.detector.follow(view.members.values())

    def has_heard(self, seconds: float) -> bool:
        """Tell whether it may serve members: not while it waits for the others."""
        return not self.etcd.waits_for

    def relocate(self, plan: Plan, listen: Sequence[str]) -> None:
        """Have another address."""
        self.plan = plan

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked opens nothing here; what is open is cut at once here."""
        return None if self.records_view.wait_for(revision, seconds) else "it has not heard of it"

    def take_up(self, view: View) -> None:
        """Have a view decide who is let in."""
        self.trust.take_up(view)
        self.follow(view)
