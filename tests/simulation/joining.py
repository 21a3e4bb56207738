"""The joiner's side of a join, on a simulated machine: what ``coordinator`` does there.

The talk with the sponsor is the product's own (``Join._enroll``); a proof that is good changes
nothing here before it.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

from collective.daemon.joining.guests import check_guest, listed_guests
from collective.daemon.joining.joiner import Join, Self
from collective.daemon.joining.preflight import Asked, challenge
from collective.daemon.lifecycle.server import CollectiveServer
from collective.errors import CollectiveError, RefusedError, UnreachableError
from collective.model.plan import Mode
from collective.model.records import Role
from collective.model.token import Token
from collective.policy.transitions import Event, apply
from collective.protocol import messages
from collective.protocol.peer import anybody, only
from tests.simulation.runtime import SimulatedPeer
from tests.simulation.world import DOOR, LEARNER_SECONDS, PEER, Machine, World

_PAUSE_SECONDS = 5.0
_HOST: Any = SimpleNamespace(hold_peer_port=lambda _: None)


def join(world: World, machine: Machine, via: Machine, token: Token) -> None:
    """Join, from the claim to a member.

    Raises:
        CollectiveError: as the command.
    """
    revoked = machine.certificate.fingerprint in world.etcd.view.revoked
    if machine.name != token.name or revoked:
        machine.renew(token.name)
    machine.dialled = machine.certificate.fingerprint
    try:
        here = Self(token.name, machine.address, DOOR, PEER)
        talk = Join(cast(CollectiveServer, machine), here, _HOST, threading.Event())
        asked = _ask(world, machine, via, token)
        admitted = talk._enroll(asked, token, lambda *_: None)
    finally:
        machine.dialled = ""
    machine.adopt(admitted.plan, admitted.view)
    finish_join(world, machine)


def _ask(world: World, machine: Machine, via: Machine, token: Token) -> Asked:
    """Find a server, and see that it is on the guest list of the token."""
    peer = SimulatedPeer(world, machine, via.address, None, anybody)
    said = challenge(peer)
    guests = listed_guests(said.guests, token, via.address)
    check_guest(guests, peer.fingerprint, via.address, token.name)
    peer.insist(only((peer.fingerprint,), "another server answers"))
    return Asked(peer, said, guests)


def finish_join(world: World, machine: Machine) -> None:
    """Wait until this learner is a voter, or this server is taken in without a vote.

    Raises:
        UnreachableError: that took too long; the daemon tries again.
    """
    runtime, deadline = machine.runtime, world.time.now + LEARNER_SECONDS
    while runtime is not None and machine.runtime is runtime and machine.mode is Mode.JOINING:
        world.time.pause(_PAUSE_SECONDS)
        machine.sync()
        own = runtime.records_view.view.members.get(runtime.name)
        wanted = Role.VOTER if runtime.votes else Role.NONVOTING
        if (
            machine.runtime is runtime
            and own is not None
            and own.role is wanted
            and _takes_part(machine)
        ):
            event = Event.VOTES if runtime.votes else Event.TAKEN_IN
            machine.save(apply(machine.plan, event))
        if world.time.now > deadline:
            raise UnreachableError("this server was not taken in in time")


def _takes_part(machine: Machine) -> bool:
    runtime = machine.require_runtime()
    try:
        return not runtime.votes or not runtime.etcd.status().learner
    except CollectiveError:
        return False


def give_up(machine: Machine, member: Machine) -> None:
    """Give a join up, as ``join --abort`` does: a member is asked, and this life ends.

    Here it ends only when a member has answered. The command also ends it when none has; a server
    that is promoted at that very moment is then a voter that never comes back.

    Raises:
        UnreachableError: the member did not answer; the learner goes on.
        RefusedError: this server is a voter already.
    """
    runtime = machine.runtime
    if runtime is None or machine.plan.fallback is not None:
        raise RefusedError("this server is in no collective, or is being promoted")
    status = runtime.etcd.status()
    credentials = machine.credentials
    peer = SimulatedPeer(machine.world, machine, member.address, credentials)
    if status.leader and not status.learner and runtime.votes:
        raise RefusedError("it is a member already")
    answer = peer.call("POST", messages.GIVE_UP, {"format": messages.FORMAT}, 5.0)
    if answer["removed"] is not True:
        raise RefusedError("it is a member already")
    if machine.runtime is runtime:
        machine.give_up()
