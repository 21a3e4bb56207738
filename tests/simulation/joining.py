"""The joiner's side of a join, on a simulated machine: what ``joiner`` and ``enlist`` do there."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from collective.errors import CollectiveError, RefusedError, UnreachableError
from collective.model.plan import Mode
from collective.model.token import Token
from collective.pki import (
    EnrollmentStatement,
    key_id_of_private,
    make_request,
    new_key,
    read_leaf,
    sign_enrollment,
)
from collective.protocol import messages
from tests.simulation.node import SimulatedPeer
from tests.simulation.world import DOOR, LEARNER_SECONDS, PEER, Machine, World

_TURN_SECONDS = 60.0
_PAUSE_SECONDS = 5.0


@cache
def request_of(name: str, number: int, attempt: int) -> tuple[bytes, str]:
    """Return the CSR, and the id of its key, of one machine's attempt to be a server."""
    key = new_key()
    return make_request(key, name), key_id_of_private(key)


def join(world: World, machine: Machine, via: Machine, token: Token) -> None:
    """Join, from the claim to a voter.

    Raises:
        CollectiveError: as the command.
    """
    csr, key_id = request_of(token.name, machine.number, machine.attempts)
    machine.dialled = key_id
    try:
        result = _admitted(world, machine, via, token, csr, key_id)
    finally:
        machine.dialled = ""
    leaf = read_leaf(result["leaf"].encode())
    machine.adopt(token.name, leaf, int(result["member_id"], 16))
    finish_join(world, machine)


def _admitted(
    world: World, machine: Machine, via: Machine, token: Token, csr: bytes, key_id: str
) -> dict[str, Any]:
    deadline = world.time.now + _TURN_SECONDS
    while True:
        peer = SimulatedPeer(world, machine, via.address, None)
        fingerprint = via.leaf.fingerprint if via.leaf is not None else ""
        _claim(machine, peer, fingerprint, token, csr, key_id)
        lines = list(peer.lines("POST", messages.ADMIT, {"format": messages.FORMAT}, 40.0))
        if lines[-1].get("step") != messages.BUSY:
            result: dict[str, Any] = lines[-1]["result"]
            return result
        if world.time.now > deadline:
            raise RefusedError("another server is being taken in and does not get ready")
        world.time.pause(_PAUSE_SECONDS)


def _claim(
    machine: Machine, peer: SimulatedPeer, fingerprint: str, token: Token, csr: bytes, key_id: str
) -> None:
    asked = peer.call("GET", messages.CHALLENGE, None, 5.0)
    statement = EnrollmentStatement(
        name=token.name,
        role="voter",
        server_fingerprint=fingerprint,
        nonce=asked["nonce"],
        csr_key_id=key_id,
        csr_sha256=hashlib.sha256(csr).hexdigest(),
        addresses=(machine.address,),
        door_port=DOOR,
        peer_port=PEER,
    )
    body = {
        "format": messages.FORMAT,
        "name": token.name,
        "role": "voter",
        "csr": csr.decode(),
        "addresses": [machine.address],
        "door_port": DOOR,
        "peer_port": PEER,
        "signature": sign_enrollment(token.seed, statement).hex(),
    }
    peer.call("POST", messages.CLAIM, body, 5.0)


def finish_join(world: World, machine: Machine) -> None:
    """Wait until this learner is a voter, and fetch what only voters get.

    Raises:
        UnreachableError: that took too long; the daemon tries again.
    """
    node, deadline = machine.node, world.time.now + LEARNER_SECONDS
    while node is not None and machine.node is node and machine.mode is Mode.JOINING:
        world.time.pause(_PAUSE_SECONDS)
        try:
            if not node.status().learner and machine.enlister._fetch_ca_key(node):
                machine.mode = Mode.MEMBER
        except CollectiveError:
            pass
        if world.time.now > deadline:
            raise UnreachableError("this server was not made a voter in time")


def give_up(machine: Machine, member: Machine) -> None:
    """Give a join up, as ``join --abort`` does: a member is asked, and this life ends.

    Here it ends only when a member has answered. The command also ends it when none has; a server
    that is promoted at that very moment is then a voter that never comes back.

    Raises:
        UnreachableError: the member did not answer; the learner goes on.
        RefusedError: this server is a voter already.
    """
    node = machine.node
    if node is None:
        raise RefusedError("this server is in no collective")
    status, peer = (
        node.status(),
        SimulatedPeer(machine.world, machine, member.address, machine.leaf),
    )
    if status.leader and not status.learner:
        raise RefusedError("it is a member already")
    answer = peer.call("POST", messages.GIVE_UP, {"format": messages.FORMAT}, 5.0)
    if answer["removed"] is not True:
        raise RefusedError("it is a member already")
    if machine.node is node:
        machine.give_up()
