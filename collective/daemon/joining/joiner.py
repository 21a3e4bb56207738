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
  * Nothing is sent to the other server before its CA was checked against the token; a check
    without a token asks for a challenge, and sends nothing.
  * Before ``adopt`` nothing on this server has changed, but for the key of the request.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from collective.daemon.certificates.credentials import Bundle
from collective.daemon.clock import elapsed
from collective.daemon.joining import preflight
from collective.daemon.joining.admitted import Admitted, role_of, voters_of
from collective.daemon.joining.dialled import Dialled
from collective.daemon.joining.preflight import DIAL_SECONDS, Checks, Ready
from collective.daemon.server import CollectiveServer
from collective.errors import (
    CollectiveError,
    InputError,
    ProtocolError,
    RefusedError,
    UnreachableError,
)
from collective.failpoints import Step, reached
from collective.model.names import claimed_addresses, peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import Role
from collective.model.token import Token
from collective.pki import (
    EnrollmentStatement,
    key_id_of_private,
    make_request,
    new_key,
    public_key_of,
    sign_enrollment,
)
from collective.policy.admission import AS_INVITED
from collective.policy.forecast import Forecast
from collective.policy.preflight import findings_from_wire, problem
from collective.protocol import messages
from collective.protocol.interfaces import local_addresses
from collective.protocol.peer import Peer, where

log = logging.getLogger(__name__)

_ADMIT_SECONDS = 40.0
_TURN_SECONDS = 400.0
_TURN_PAUSE_SECONDS = 0.5
# The checks by those who make them, for when they cannot be made.
_BY_THE_MEMBER = ("invitation", "loopback", "dial-back", "peers")
_OF_THE_MEMBER = ("member", "release", "clock", "nat", *_BY_THE_MEMBER)
_ELSEWHERE = ("reach", "ca", *_OF_THE_MEMBER)

Emit = Callable[[str, str], None]


@dataclass(frozen=True)
class Self:
    """What this server is before it joins.

    Attributes:
        name: its name.
        address: from the settings, None to take the one that the connection comes from.
        door_port, peer_port: its TCP ports.
    """

    name: str
    address: str | None
    door_port: int
    peer_port: int


class Host(Protocol):
    """What a join needs of the server that it runs on."""

    def expect_dial_back(self, dialled: Dialled | None) -> None:
        """Answer dial-backs with this from now on, or no longer."""


class Join:
    """One run of ``collective join``, up to the moment before this server changes."""

    def __init__(
        self, server: CollectiveServer, here: Self, host: Host, given_up: threading.Event
    ) -> None:
        """Prepare.

        Args:
            server: this server.
            here: what it is, as others are told.
            host: answers dial-backs.
            given_up: is set when somebody wants the join to end.
        """
        self._server = server
        self._here = here
        self._state = server.state
        self._host = host
        self._given_up = given_up
        self._peer: Peer | None = None
        self._key: bytes | None = None
        self._addresses: tuple[str, ...] = ()
        self._role = Role.VOTER
        #: What the join does to the quorum, once a member has said so.
        self.forecast: Forecast | None = None

    def run(self, server: str, ready: Ready, checks: Checks, emit: Emit) -> Admitted:
        """Get admitted.

        Args:
            server: the member to ask, as it was typed.
            ready: what was found of this server.
            checks: the findings so far; those on the way are added.
            emit: gets each step's name and a sentence, when it is done.

        Raises:
            CollectiveError: it did not work; nothing on this server has changed.
        """
        try:
            peer = self._look(server, ready, checks, emit)
            checks.raise_error()
            if peer is None or ready.token is None:
                raise InputError("cannot join without a token")
            return self._enroll(peer, ready.token, emit)
        finally:
            self.close()

    def check(self, server: str, ready: Ready, checks: Checks) -> Forecast | None:
        """Find out whether it would work, and change nothing.

        Args:
            server, ready, checks: as for ``run``.

        Returns:
            What it would do to the quorum, where a member says so.
        """
        try:
            self._look(server, ready, checks, lambda step, text: None)
            return self.forecast
        finally:
            self.close()

    def close(self) -> None:
        """Answer no more dial-backs, and close the connection."""
        self._host.expect_dial_back(None)
        if self._peer is not None:
            self._peer.close()

    def _look(self, server: str, ready: Ready, checks: Checks, emit: Emit) -> Peer | None:
        """Make the checks that need the other server; what is found is in the findings alone."""
        if checks.error is None:
            emit("preflight", f"this server can join as {self._here.name}")
            reached(Step.JOIN_PREFLIGHT)
        if ready.place is None:
            checks.skip("there is no server to ask", *_ELSEWHERE)
            return None
        token = ready.token
        self._peer = peer = preflight.reach(checks, self._server, server, ready.place, token)
        if peer is None:
            checks.skip(f"{server} cannot be asked", *_OF_THE_MEMBER)
            return None
        if checks.error is None:
            emit("dial", f"{server} at {where(peer.host, peer.port)} is of the collective")
            reached(Step.JOIN_DIAL)
        asked = preflight.question(checks, peer)
        if asked is None:
            checks.skip(f"{server} cannot be asked", *_BY_THE_MEMBER)
        elif token is None or not ready.fit:
            lacks = "a token" if token is None else "what is wrong above to be mended"
            checks.skip(f"it needs {lacks}", *_BY_THE_MEMBER)
        else:
            self._rehearse(checks, peer, token, asked)
        return peer

    def _rehearse(self, checks: Checks, peer: Peer, token: Token, asked: dict[str, Any]) -> None:
        """Have the member judge our proof, and dial back, without claiming the invitation."""
        self._key = self._state.join_key() or new_key()
        try:
            answer = self._claim(peer, token, self._key, asked, dry_run=True)
        except CollectiveError as error:
            checks.add(problem("invitation", error))
            return
        checks.findings += findings_from_wire(answer.get("findings"))
        self._foretell(answer)
        if self._role is Role.NONVOTING:
            checks.skip("a server that does not vote has no etcd", "peers")
        elif "members" in answer:
            preflight.reach_members(
                checks, answer["members"], lambda: self._members_now(peer, token)
            )

    def _members_now(self, peer: Peer, token: Token) -> object:
        """Ask the member once more whom we must be able to reach."""
        assert self._key is not None
        asked = preflight.challenge(peer)
        return self._claim(peer, token, self._key, asked, dry_run=True).get("members")

    def _foretell(self, answer: dict[str, Any]) -> None:
        """Note what the invitation makes of us, and what that does to the quorum."""
        self._role = role_of(answer)
        kind = ", which does not vote" if self._role is Role.NONVOTING else ""
        if "forecast" in answer:
            what = f"with {self._here.name}{kind}"
            self.forecast = Forecast.from_wire(answer["forecast"], what)

    def _enroll(self, peer: Peer, token: Token, emit: Emit) -> Admitted:
        key = self._state.join_key()
        if key is None:
            key = self._key or new_key()
            self._state.save_join_key(key)
        reached(Step.JOIN_KEY)
        deadline = elapsed() + _TURN_SECONDS
        waited = False
        while True:
            self._raise_if_given_up()
            self._foretell(self._claim(peer, token, key, preflight.challenge(peer)))
            if not waited:
                emit("prove", f"the invitation for {token.name} is claimed")
                reached(Step.JOIN_PROVE)
            admitted = self._admit(peer, token, key, emit)
            if admitted is not None:
                reached(Step.JOIN_ADMITTED)
                return admitted
            waited = True
            if elapsed() > deadline or self._server.stopped.wait(_TURN_PAUSE_SECONDS):
                raise RefusedError(
                    "cannot join now: another server is being taken in and does not get ready",
                    "see 'collective show' on a member, and run the same command again",
                )

    def _raise_if_given_up(self) -> None:
        if self._given_up.is_set():
            raise given_up_error(self._here.name)

    def _claim(
        self,
        peer: Peer,
        token: Token,
        key: bytes,
        asked: dict[str, Any],
        dry_run: bool = False,
    ) -> dict[str, Any]:
        self._addresses = self._all_addresses(peer)
        csr = make_request(key, token.name)
        statement = EnrollmentStatement(
            name=token.name,
            role=AS_INVITED,
            server_fingerprint=peer.fingerprint,
            nonce=messages.text(asked, "nonce", 128),
            csr_key_id=key_id_of_private(key),
            csr_sha256=hashlib.sha256(csr).hexdigest(),
            addresses=self._addresses,
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
        )
        self._host.expect_dial_back(
            Dialled(
                key,
                token.name,
                statement.addresses[0],
                self._here.door_port,
                statement.server_fingerprint,
            )
        )
        body = {
            "format": messages.FORMAT,
            "name": token.name,
            "role": statement.role,
            "csr": csr.decode(),
            "addresses": list(statement.addresses),
            "door_port": statement.door_port,
            "peer_port": statement.peer_port,
            "signature": sign_enrollment(token.seed, statement).hex(),
            "dry_run": dry_run,
        }
        # A rehearsal waits for the dial-back, which has a deadline of its own.
        answer = peer.call(
            "POST", messages.CLAIM, body, _ADMIT_SECONDS if dry_run else DIAL_SECONDS
        )
        messages.check_format(answer)
        return answer

    def _all_addresses(self, peer: Peer) -> tuple[str, ...]:
        """Return the address to advertise, and all others that we may send from."""
        address = self._here.address or peer.local_address
        if "%" in address or ipaddress.ip_address(address).is_link_local:
            raise RefusedError(
                f"cannot join from {address}: a link-local address leads nowhere from elsewhere",
                "set 'address' in the settings file, or name the other server by another address",
            )
        return claimed_addresses(address, local_addresses())

    def _admit(self, peer: Peer, token: Token, key: bytes, emit: Emit) -> Admitted | None:
        body = {"format": messages.FORMAT}
        for line in peer.lines("POST", messages.ADMIT, body, _ADMIT_SECONDS):
            if line.get("step") == messages.BUSY:
                return None
            if "result" in line:
                return self._admitted(peer, token, key, line["result"])
            emit(str(line.get("step")), _sentence(line))
        raise UnreachableError(f"{where(peer.host, peer.port)} broke off while taking us in")

    def _admitted(self, peer: Peer, token: Token, key: bytes, raw: Any) -> Admitted:
        if not isinstance(raw, dict):
            raise ProtocolError("the sponsor's answer is broken")
        messages.check_format(raw)
        bundle = Bundle(
            key,
            messages.text(raw, "leaf").encode(),
            messages.text(raw, "ca").encode(),
            messages.octets(raw, "crl", 1 << 18),
        )
        votes = self._role is Role.VOTER
        plan = Plan(
            mode=Mode.ADOPTING,
            name=token.name,
            address=self._addresses[0],
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
            cluster_token=messages.text(raw, "cluster_token"),
            initial_cluster=messages.text(raw, "initial_cluster") if votes else "",
            existing=True,
            member_id=messages.text(raw, "member_id") if votes else "",
            sponsor=where(peer.host, peer.port),
            joined_by=public_key_of(token.seed).hex(),
            role=self._role,
        )
        if not votes:
            return Admitted(bundle, plan, voters_of(raw, plan.cluster_token))
        ours = f"{token.name}={peer_url(self._addresses[0], self._here.peer_port)}"
        if ours not in plan.initial_cluster.split(","):
            raise ProtocolError(f"the sponsor's list of members lacks {ours}")
        return Admitted(bundle, plan)


def given_up_error(name: str) -> RefusedError:
    """Return the error of a join that somebody ended by ``join --abort``."""
    return RefusedError(f"the join of {name} was given up by 'collective join --abort'")


def _sentence(line: dict[str, Any]) -> str:
    sentences = {
        "wait": "another server is being taken in",
        "dial-back": f"this server answers at {line.get('address')}",
        "issue": "a certificate is signed",
        "record": "this server is written down as one that does not vote",
        "add": f"etcd knows this server as learner {line.get('member_id')}",
    }
    return sentences.get(str(line.get("step")), "")
