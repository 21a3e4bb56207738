"""One simulated server: the machine, its power and its disk, and what it is in the collective.

It stands in for ``CollectiveServer`` wherever the product asks one.

Invariants:
  * What is on its disk (plan, certificates, records as remembered) survives a crash, and no more.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from collective.daemon.addresses.change import AddressChange
from collective.daemon.certificates.replacement import Replacement
from collective.daemon.certificates.trust_round import TrustRound
from collective.daemon.joining.promotee import Promotee
from collective.daemon.lifecycle import changeover
from collective.daemon.lifecycle.gate import Gate
from collective.daemon.lifecycle.removal_evidence import RemovalEvidence
from collective.daemon.lifecycle.return_check import ReturnCheck
from collective.daemon.lifecycle.server import (
    CERTIFICATES_AT_ONCE,
    CERTIFICATES_PER_SECOND,
    HAND_OVERS_AT_ONCE,
    HAND_OVERS_PER_SECOND,
    CollectiveServer,
)
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.reconciler import Reconciler
from collective.errors import CollectiveError, RefusedError
from collective.etcd.api import EtcdMember
from collective.model.names import peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord
from collective.model.view import MEMBERS, View, revoked_key
from collective.pki import Certificate
from collective.policy.transitions import Event, apply
from collective.protocol.limits import RateLimit
from tests.simulation.certificates import SimulatedCredentials
from tests.simulation.runtime import SimulatedGateway, SimulatedNode
from tests.simulation.standins import Ending

if TYPE_CHECKING:
    from tests.simulation.world import World

DOOR, PEER = 13002, 13003
LEARNER_SECONDS = 300.0
_LIVING = frozenset({Mode.JOINING, Mode.MEMBER, Mode.NONVOTING})
_REMEMBERED = (MEMBERS, revoked_key(""))


class Enlister:
    """What a promotion wants of the joins of a server: that one is gone on with."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def resume(self) -> None:
        """Go on with the join."""
        self._machine.world.resume(self._machine)


class Machine:
    """One server.

    Attributes:
        up, cut_off: whether it has power; whether its network is gone.
        outages: counts how often it lost one of them.
        plan: its state file.
        view, members: what its daemon and its etcd know.
        index: how far its log is.
        told_removed: the id that it had when its etcd heard that it was removed.
        dialled: fingerprint of what a dial-back is answered with, "" outside of a join.
        made: counts the certificates that it has made.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.addresses = (f"10.0.0.{number}", f"10.0.1.{number}")
        self.up, self.cut_off, self.outages, self.made = True, False, 0, 0
        self.address = self.addresses[0]
        self.plan = self._resting(f"mgt{number}")
        self.credentials = SimulatedCredentials(self, self.name)
        self.runtime: SimulatedNode | None = None
        self.gate, self.life, self.trouble = Gate(), nullcontext(), None
        self.hand_overs = RateLimit(HAND_OVERS_PER_SECOND, HAND_OVERS_AT_ONCE)
        self.certificates = RateLimit(CERTIFICATES_PER_SECOND, CERTIFICATES_AT_ONCE)
        self.coordinator = Enlister(self)
        self.layout = self.state = self.high_water_marks = None
        self.listener: Any = SimpleNamespace(listen_at=lambda _: None, only=lambda _: None)
        self.locator: Any = SimpleNamespace(at=lambda member: member, ours=None)
        self.stopped: Any = Ending(world, lambda: not self.up)
        self.view = View(0)
        self.members: tuple[EtcdMember, ...] = ()
        self.index = self.told_removed = 0
        self.dialled = ""

    def __repr__(self) -> str:
        return f"machine{self.number}"

    def _resting(self, name: str) -> Plan:
        return Plan(
            Mode.REMOVED, name, self.address, DOOR, PEER, "token", "", True, started=False
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Its server name."""
        return self.plan.name

    @property
    def mode(self) -> Mode:
        """What it is doing."""
        return self.plan.mode

    @property
    def settings(self) -> Any:
        """Its settings file."""
        return SimpleNamespace(name=self.name, port=DOOR, peer_port=PEER)

    @property
    def certificate(self) -> Certificate:
        """What its doors show."""
        return self.credentials.identity

    @property
    def member_id(self) -> int:
        """The id of its etcd, 0 for none."""
        return int(self.plan.member_id or "0", 16)

    @property
    def url(self) -> str:
        """Its etcd's peer door."""
        return peer_url(self.address, PEER)

    @property
    def reachable(self) -> bool:
        """Whether others reach it, and it them."""
        return self.up and not self.cut_off

    @property
    def alive(self) -> bool:
        """Whether its etcd runs and can be reached."""
        return self.reachable and self.runtime is not None and self.runtime.process.running

    @property
    def can_join(self) -> bool:
        """Whether it is in no collective."""
        return self.up and self.mode is Mode.REMOVED and not self.is_busy("join")

    def is_busy(self, *labels: str) -> bool:
        """Tell whether something runs here."""
        return any(a.host is self and a.label in labels for a in self.world.actors.running)

    def require_runtime(self) -> SimulatedNode:
        """Return the parts of a member.

        Raises:
            RefusedError: it is none.
        """
        if self.runtime is None:
            raise self.why_idle()
        return self.runtime

    def why_idle(self) -> CollectiveError:
        """Return why it is a member of nothing."""
        return RefusedError(f"{self.name} is in no collective")

    # What it knows ----------------------------------------------------------------------------

    def sync(self) -> None:
        """Hear of all news, where that is possible."""
        world = self.world
        if self.runtime is None or (self.runtime.votes and not self.runtime.process.running):
            return
        if world.in_touch(self) if self.runtime.votes else world.relay_of(self) is not None:
            self.members = tuple(world.etcd.members.values())
            self.publish(world.etcd.view, least=self.view.revision)

    def publish(self, view: View, least: int | None = None) -> None:
        """Have a newer view of the records, and act on it.

        Args:
            view: the records.
            least: what is newer; None for all beyond what is known. What others have told is not
                all there is at its revision, and etcd tells the rest.
        """
        known = self.view
        if view is not known and view.revision >= (known.revision + 1 if least is None else least):
            if self.runtime is not None:
                self.runtime.take_up(view)
            self.view = view

    # What it is -------------------------------------------------------------------------------

    def save(self, plan: Plan) -> None:
        """Replace the state file."""
        self.plan, self.address = plan, plan.address
        if self.runtime is not None:
            self.runtime.plan = plan

    def live(self, plan: Plan, trouble: CollectiveError | None = None) -> None:
        """Begin a life, if it is one of a member; etcd starts when it may."""
        self.trouble = None
        self.save(plan)
        if plan.mode not in _LIVING:
            return
        self.runtime = runtime = SimulatedNode(self.world, self)
        runtime.take_up(self.view)
        as_runtime, server = cast(MemberRuntime, runtime), cast(CollectiveServer, self)
        self.duties = Reconciler(as_runtime, LEARNER_SECONDS)
        self.returning = ReturnCheck(
            as_runtime,
            cast(Any, None),
            lambda member: member,
            lambda *_: None,
            lambda *_: None,
        )
        self.trust_round = TrustRound(as_runtime, self.returning.catch_up)
        self.replacement = Replacement(as_runtime)
        self.hearing = RemovalEvidence(as_runtime)
        self.promotee = Promotee(server, cast(Any, self.coordinator))
        self.move = AddressChange(server)
        if runtime.votes:
            self.world.actors.spawn(self, "begin", lambda: self._begin(runtime))

    def _begin(self, runtime: SimulatedNode) -> None:
        runtime.etcd.begin(self.returning.may_start)
        if self.runtime is runtime and runtime.process.running and not self.plan.started:
            self.save(replace(self.plan, started=True))

    def settle(self) -> None:
        """Do nothing: no change of life is under way."""

    def end_life(self, hand_over: bool = False) -> None:
        """Stop being a member."""
        runtime, self.runtime = self.runtime, None
        if runtime is not None:
            cast(SimulatedGateway, runtime.gateway).close()
            runtime.process.stop()

    def adopt(self, plan: Plan, view: View) -> None:
        """Begin the life of a learner, or of a server that is to have no vote."""
        self.view, self.members, self.index = view, (), 0
        self.live(apply(plan, Event.ADOPTED))

    def give_up(self) -> None:
        """End this life, and rest with another certificate."""
        self.end_life()
        self.view = View(0)
        self.renew(self.name)

    def renew(self, name: str) -> None:
        """Be a server that rests, with a new certificate."""
        self.address = self.addresses[0]
        self.plan = self._resting(name)
        self.credentials = SimulatedCredentials(self, name)

    # Power ------------------------------------------------------------------------------------

    def lose_network(self) -> None:
        """Be cut off."""
        self._lose()
        self.cut_off, self.outages = True, self.outages + 1

    def _lose(self) -> None:
        """Know what it has heard until then: news takes less time than what happens here."""
        self.world.promises.lost(self.member_id)
        self.sync()

    def crash(self) -> None:
        """Lose power."""
        self._lose()
        self.up, self.dialled, self.outages = False, "", self.outages + 1
        self.world.actors.kill(self)
        self.end_life()
        self.gate = Gate()
        kept = {k: i for k, i in self.view.items.items() if k.startswith(_REMEMBERED)}
        self.view = View(self.view.revision, kept)

    def start(self) -> None:
        """Get power again, and go on."""
        self.up = True
        self.credentials.forget_trust()
        self.live(self.plan)

    # What it finds out ------------------------------------------------------------------------

    def look(self) -> None:
        """Notice that this server was removed, or has no vote any more, if that is so."""
        runtime = self.runtime
        if runtime is None or not self.reachable:
            return
        ended = runtime.votes and self.alive and self.member_id not in self.world.etcd.members
        if ended and (self.told_removed == self.member_id or self.world.is_heard(self)):
            if changeover.is_removed(cast(CollectiveServer, self), cast(MemberRuntime, runtime)):
                self.rest_from(runtime)
        elif self.hearing.is_deleted():
            self.rest_from(runtime)
        else:
            changeover.look_after(cast(CollectiveServer, self), cast(MemberRuntime, runtime))

    def rest_from(self, runtime: SimulatedNode) -> None:
        """End a life, if it has not ended."""
        if self.runtime is runtime:
            self.give_up()

    def due_address(self) -> str | None:
        """Return the address that a change is to be gone on with to, see ``keeper``."""
        if self.plan.moving_to:
            return self.plan.moving_to
        held = self.view.members.get(self.name)
        return None if held is None or held.address == self.address else held.address

    def recorded(self) -> MemberRecord | None:
        """Return its record, as it is in truth."""
        found = self.world.etcd.view.members.get(self.name)
        ours = found is not None and self.certificate.fingerprint in found.fingerprints
        return found if ours else None
