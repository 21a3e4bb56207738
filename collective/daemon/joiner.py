"""The joiner's side of a join: from the token to a voter (design section 4).

It does not stop or start etcd and moves no data; it says when (``Host``), and
``collective.daemon.server`` does.

Each step is in the state file before the next begins, so that the same command, or the daemon
at its next start, goes on where power went:

    step       what the state file says meanwhile     a crash then means
    preflight  what this server was before            nothing happened
    dial       the same                               nothing happened
    prove      the same, and ``join.key`` is there    the same key claims again
    dial-back, issue, add   the same                  the member finds its own learner again
    adopt      mode ADOPTING                          moving aside is finished at the next start
    start, promote, ready   mode JOINING              etcd goes on catching up
    (done)     mode MEMBER

Invariants:
  * Nothing is sent to the other server before its CA was checked against the token.
  * Before ``adopt`` nothing on this server has changed, but for the key of the request.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from collective.daemon.clock import elapsed, epoch
from collective.daemon.credentials import Bundle
from collective.daemon.state import State
from collective.errors import (
    CollectiveError,
    InvitationError,
    ProtocolError,
    RefusedError,
    UnreachableError,
)
from collective.failpoints import Step, reached
from collective.model.names import parse_host_port, peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import Role
from collective.model.token import Token
from collective.pki import (
    DialBackStatement,
    EnrollmentStatement,
    authority_in_chain,
    key_id_of_private,
    make_request,
    new_key,
    public_key_of,
    read_leaf,
    sign_dial_back,
    sign_enrollment,
)
from collective.protocol import messages
from collective.protocol.peer import Peer, authority_context, served_chain, unreachable, where
from collective.protocol.resolve import resolve

log = logging.getLogger(__name__)

DIAL_SECONDS = 5.0
_ADMIT_SECONDS = 40.0
_TURN_SECONDS = 400.0
_TURN_PAUSE_SECONDS = 0.5
_MOST_SKEW_SECONDS = 600.0

Emit = Callable[[str, str], None]


@dataclass(frozen=True)
class Self:
    """What this server is before it joins.

    Attributes:
        name: its name.
        address: from the settings, None to take the one that the connection comes from.
        door_port, peer_port: its TCP ports.
        fingerprint: of the certificate that it shows now, "" for none.
        hosts: a hosts(5) file, or None.
    """

    name: str
    address: str | None
    door_port: int
    peer_port: int
    fingerprint: str
    hosts: Path | None


@dataclass
class Dialled:
    """What the dial-back is answered with, while a join is under way.

    Attributes:
        key: private key of the CSR, PEM.
        addresses: the ones that we asked to be known by.
        sponsor: fingerprint of the sponsor's certificate, as we saw it.
    """

    key: bytes = field(repr=False)
    name: str
    addresses: tuple[str, ...]
    door_port: int
    sponsor: str

    def answer(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Prove the key of our CSR to whoever dials back.

        Raises:
            ProtocolError: the message is broken, or it dialled what we never advertised.
        """
        messages.check_format(raw)
        address = messages.text(raw, "address")
        if address not in self.addresses:
            raise ProtocolError(f"{self.name} does not ask to be known at {address[:60]}")
        statement = DialBackStatement(
            nonce=messages.text(raw, "nonce", 128),
            name=self.name,
            server_fingerprint=self.sponsor,
            address=address,
            door_port=self.door_port,
        )
        signature = sign_dial_back(self.key, statement)
        return {"format": messages.FORMAT, "signature": signature.hex()}


@dataclass(frozen=True)
class Admitted:
    """What the sponsor gave us: certificates, and which member we are."""

    bundle: Bundle
    plan: Plan


class Host(Protocol):
    """What a join needs of the server that it runs on."""

    def expect_dial_back(self, dialled: Dialled | None) -> None:
        """Answer dial-backs with this from now on, or no longer."""


class Join:
    """One run of ``collective join``, up to the moment before this server changes."""

    def __init__(self, here: Self, state: State, host: Host, stopped: threading.Event) -> None:
        self._here = here
        self._state = state
        self._host = host
        self._stopped = stopped

    def run(self, server: str, token: Token, emit: Emit) -> Admitted:
        """Get admitted.

        Args:
            server: name or address of a member, with an optional port.
            token: the invitation.
            emit: gets each step's name and a sentence, when it is done.

        Raises:
            CollectiveError: it did not work; nothing on this server has changed.
        """
        host, port = self._preflight(server, token)
        emit("preflight", f"this server can join as {token.name}")
        reached(Step.JOIN_PREFLIGHT)
        peer = self._dial(server, host, port, token)
        try:
            emit("dial", f"{server} at {where(peer.host, port)} is of the collective")
            reached(Step.JOIN_DIAL)
            return self._enroll(peer, token, emit)
        finally:
            self._host.expect_dial_back(None)
            peer.close()

    def _preflight(self, server: str, token: Token) -> tuple[str, int]:
        if token.name != self._here.name:
            raise InvitationError(
                f"the token is for {token.name}, this server is {self._here.name}",
                f"run 'collective invite {self._here.name}' for a token, or set name in the "
                "settings file",
            )
        host, port = parse_host_port(server, messages.DEFAULT_PORT)
        if host.lower() == self._here.name:
            raise RefusedError(f"cannot join {server}: that is this server")
        return host, port

    def _dial(self, server: str, host: str, port: int, token: Token) -> Peer:
        """Reach one of the addresses of a name, and check its CA against the token."""
        failure: CollectiveError | None = None
        for address in resolve(host, self._here.hosts, DIAL_SECONDS):
            try:
                chain = served_chain(address, port, DIAL_SECONDS)
            except UnreachableError as error:
                failure = failure or _named(error, host, address)
                continue
            if read_leaf(chain[0]).fingerprint == self._here.fingerprint:
                raise RefusedError(f"cannot join {server}: that is this server")
            ca_pem = authority_in_chain(chain, token.pin, f"{server} ({where(address, port)})")
            return Peer(address, port, authority_context(ca_pem))
        raise failure or UnreachableError(f"the name {host} has no address")

    def _enroll(self, peer: Peer, token: Token, emit: Emit) -> Admitted:
        key = self._state.join_key()
        if key is None:
            key = new_key()
            self._state.save_join_key(key)
        reached(Step.JOIN_KEY)
        deadline = elapsed() + _TURN_SECONDS
        waited = False
        while True:
            members, addresses = self._claim(peer, token, key)
            if not waited:
                emit("prove", f"the invitation for {token.name} is claimed")
                reached(Step.JOIN_PROVE)
                try:
                    self._reach_all(members)
                except UnreachableError:
                    # One that was deleted meanwhile still has a door, but no etcd: ask again.
                    members, addresses = self._claim(peer, token, key)
                    self._reach_all(members)
            admitted = self._admit(peer, token, key, addresses, emit)
            if admitted is not None:
                reached(Step.JOIN_ADMITTED)
                return admitted
            waited = True
            if elapsed() > deadline or self._stopped.wait(_TURN_PAUSE_SECONDS):
                raise RefusedError(
                    "cannot join now: another server is being taken in and does not get ready",
                    "see 'collective show' on a member, and run the same command again",
                )

    def _claim(
        self, peer: Peer, token: Token, key: bytes
    ) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        asked = peer.call("GET", messages.CHALLENGE, None, DIAL_SECONDS)
        messages.check_format(asked)
        _check_clock(asked, peer)
        address = self._here.address or peer.local_address
        csr = make_request(key, token.name)
        statement = EnrollmentStatement(
            name=token.name,
            role=Role.VOTER.value,
            server_fingerprint=peer.fingerprint,
            nonce=messages.text(asked, "nonce", 128),
            csr_key_id=key_id_of_private(key),
            csr_sha256=hashlib.sha256(csr).hexdigest(),
            addresses=(address,),
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
        )
        self._host.expect_dial_back(
            Dialled(
                key, token.name, (address,), self._here.door_port, statement.server_fingerprint
            )
        )
        body = {
            "format": messages.FORMAT,
            "name": token.name,
            "role": statement.role,
            "csr": csr.decode(),
            "addresses": [address],
            "door_port": statement.door_port,
            "peer_port": statement.peer_port,
            "signature": sign_enrollment(token.seed, statement).hex(),
        }
        answer = peer.call("POST", messages.CLAIM, body, DIAL_SECONDS)
        messages.check_format(answer)
        members = answer.get("members")
        if not isinstance(members, list) or not all(isinstance(m, dict) for m in members):
            raise ProtocolError(f"{where(peer.host, peer.port)} names no members")
        return members, (address,)

    def _reach_all(self, members: list[dict[str, Any]]) -> None:
        """Find out before any change that the etcds of the collective can be reached from here.

        A member that is down must not stop a join, so one that answers nowhere is left out.
        """
        for member in members:
            host, name = messages.text(member, "address"), messages.text(member, "name")
            door, port = messages.port(member, "door_port"), messages.port(member, "peer_port")
            if _open(host, port) is None or _open(host, door) is not None:
                continue
            raise UnreachableError(
                f"{name} answers at {where(host, door)}, but its peer port {port} cannot be "
                "reached from here",
                f"open TCP port {port} between the servers",
            )

    def _admit(
        self, peer: Peer, token: Token, key: bytes, addresses: tuple[str, ...], emit: Emit
    ) -> Admitted | None:
        body = {"format": messages.FORMAT}
        for line in peer.lines("POST", messages.ADMIT, body, _ADMIT_SECONDS):
            if line.get("step") == messages.BUSY:
                return None
            if "result" in line:
                return self._admitted(peer, token, key, addresses, line["result"])
            emit(str(line.get("step")), _sentence(line))
        raise UnreachableError(f"{where(peer.host, peer.port)} broke off while taking us in")

    def _admitted(
        self, peer: Peer, token: Token, key: bytes, addresses: tuple[str, ...], raw: Any
    ) -> Admitted:
        if not isinstance(raw, dict):
            raise ProtocolError("the sponsor's answer is broken")
        messages.check_format(raw)
        bundle = Bundle(
            key,
            messages.text(raw, "leaf").encode(),
            messages.text(raw, "ca").encode(),
            messages.octets(raw, "crl", 1 << 18),
        )
        plan = Plan(
            mode=Mode.ADOPTING,
            name=token.name,
            address=addresses[0],
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
            cluster_token=messages.text(raw, "cluster_token"),
            initial_cluster=messages.text(raw, "initial_cluster"),
            existing=True,
            member_id=messages.text(raw, "member_id"),
            sponsor=where(peer.host, peer.port),
            joined_by=public_key_of(token.seed).hex(),
        )
        ours = f"{token.name}={peer_url(addresses[0], self._here.peer_port)}"
        if ours not in plan.initial_cluster.split(","):
            raise ProtocolError(f"the sponsor's list of members lacks {ours}")
        return Admitted(bundle, plan)


def _named(error: UnreachableError, host: str, address: str) -> UnreachableError:
    """Add the name that the user typed to an error that knows the address only."""
    if host == address:
        return error
    return UnreachableError(f"{host}: {error.message}", error.hint)


def _check_clock(asked: dict[str, Any], peer: Peer) -> None:
    now = asked.get("now")
    if not isinstance(now, int | float):
        raise ProtocolError(f"{where(peer.host, peer.port)} does not tell the time")
    offset = epoch() - now
    if abs(offset) > _MOST_SKEW_SECONDS:
        way = "ahead of" if offset > 0 else "behind"
        raise RefusedError(
            f"the clock here is {abs(offset):.0f} s {way} that of {where(peer.host, peer.port)}, "
            f"{_MOST_SKEW_SECONDS:.0f} s are allowed",
            "set the clocks, for example with chrony, and run the same command again",
        )


def _open(host: str, port: int) -> OSError | None:
    """Return why a TCP port cannot be reached, None when it can."""
    try:
        socket.create_connection((host, port), timeout=DIAL_SECONDS).close()
    except OSError as error:
        log.debug("%s", unreachable(host, port, error, DIAL_SECONDS))
        return error
    return None


def _sentence(line: dict[str, Any]) -> str:
    sentences = {
        "wait": "another server is being taken in",
        "dial-back": f"this server answers at {line.get('address')}",
        "issue": "a certificate is signed",
        "add": f"etcd knows this server as learner {line.get('member_id')}",
    }
    return sentences.get(str(line.get("step")), "")
