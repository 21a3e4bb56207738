"""The joiner's side of a join: from the token to a voter.

It does not stop or start etcd and moves no data; it says when (``Host``), and
``collective.daemon.lifecycle.server`` does.

Each step is in the state file before the next begins, so that the same command, or the daemon
at its next start, goes on where power went:

    step       what the state file says meanwhile     a crash then means
    preflight  what this server was before            nothing happened
    dial       the same                               nothing happened
    prove, confirm     the same                       the same certificate claims again
    dial-back, record, trust, add   the same          the member finds its own learner again
    adopt      mode ADOPTING                          moving aside is finished at the next start
    start, promote, ready   mode JOINING              etcd goes on catching up
    (done)     mode MEMBER

Invariants:
  * Nothing but a stranger's question is sent to a server that was not found on the token's guest
    list, under the name or address that was asked for.
  * Before ``adopt`` nothing on this server has changed, but for its own certificate, where that
    would not do.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collective.daemon.clock import elapsed
from collective.daemon.joining import preflight
from collective.daemon.joining.admitted import Admitted, members_in, role_of
from collective.daemon.joining.guests import Confirmed, confirm
from collective.daemon.joining.preflight import DIAL_SECONDS, Asked, Checks, Ready
from collective.daemon.lifecycle.server import CollectiveServer
from collective.errors import (
    CollectiveError,
    InputError,
    InvitationError,
    ProtocolError,
    RefusedError,
    UnreachableError,
)
from collective.failpoints import Step, reached
from collective.model.names import claimed_addresses, peer_url
from collective.model.records import Role
from collective.model.token import Token
from collective.pki import EnrollmentStatement, public_key_of, sign_enrollment
from collective.policy.addressing import is_zoned
from collective.policy.admission import AS_INVITED
from collective.policy.forecast import Forecast
from collective.policy.membership import pause_sentence
from collective.policy.preflight import findings_from_wire, good, problem
from collective.policy.transitions import Event, apply
from collective.protocol import messages
from collective.protocol.interfaces import local_addresses
from collective.protocol.peer import PeerClient, where

log = logging.getLogger(__name__)

_ADMIT_SECONDS = 120.0
_REHEARSAL_SECONDS = 40.0
_TURN_SECONDS = 400.0
_TURN_PAUSE_SECONDS = 0.5
# The checks by those who make them, for when they cannot be made.
_BY_THE_MEMBER = ("invitation", "loopback", "dial-back", "peers")
_OF_THE_MEMBER = ("release", "clock", "nat", "timing", *_BY_THE_MEMBER)
_ELSEWHERE = ("reach", "member", "guest", *_OF_THE_MEMBER)

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

    def hold_peer_port(self, address: str | None) -> None:
        """Hold etcd's port open at an address where no etcd runs, or no longer."""

    def renew_certificate(self, addresses: Sequence[str]) -> None:
        """Make this server, which nobody else trusts yet, another certificate."""


class Join:
    """One run of ``collective join``, up to the moment before this server changes."""

    def __init__(
        self, server: CollectiveServer, here: Self, host: Host, given_up: threading.Event
    ) -> None:
        """Prepare.

        Args:
            server: this server.
            here: what it is, as others are told.
            host: the server that joins.
            given_up: is set when somebody wants the join to end.
        """
        self._server = server
        self._here = here
        self._host = host
        self._given_up = given_up
        self._peer: PeerClient | None = None
        self._addresses: tuple[str, ...] = ()
        self._renewed = False
        self._told: set[str] = set()
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
            asked = self._look(server, ready, checks, emit)
            checks.raise_error()
            if asked is None or ready.token is None:
                raise InputError("cannot join without a token")
            return self._enroll(asked, ready.token, emit)
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
            self._look(server, ready, checks, None)
            return self.forecast
        finally:
            self.close()

    def close(self) -> None:
        """Let go of etcd's port, and close the connection."""
        self._host.hold_peer_port(None)
        if self._peer is not None:
            self._peer.close()

    def _look(self, server: str, ready: Ready, checks: Checks, emit: Emit | None) -> Asked | None:
        """Make the checks that need the other server; what is found is in the findings alone.

        Without ``emit`` it is only looked, and nothing is changed.
        """
        say = emit or (lambda step, text: None)
        if checks.error is None:
            say("preflight", f"this server can join as {self._here.name}")
            reached(Step.JOIN_PREFLIGHT)
        if ready.place is None:
            checks.skip("there is no server to ask", *_ELSEWHERE)
            return None
        token = ready.token
        asked = preflight.reach(checks, self._server, server, ready.place, token)
        if asked is None:
            checks.skip(f"{server} cannot be asked", *_OF_THE_MEMBER)
            return None
        self._peer = peer = asked.peer
        if checks.error is None:
            say("dial", f"{server} at {where(peer.host, peer.port)} may take this server in")
            reached(Step.JOIN_DIAL)
        preflight.question(checks, asked, self._server.settings.election_ms)
        if token is None or not ready.fit:
            lacks = "a token" if token is None else "what is wrong above to be mended"
            checks.skip(f"it needs {lacks}", *_BY_THE_MEMBER)
        else:
            self._rehearse(checks, asked, token, emit)
        return asked

    def _rehearse(self, checks: Checks, asked: Asked, token: Token, emit: Emit | None) -> None:
        """Have the member judge our proof, and dial back, without claiming the invitation."""
        peer = asked.peer
        try:
            answer = self._claim(peer, token, asked.said, dry_run=True)
            named = answer.certify
            # A server that cannot join keeps the certificate that it has.
            found = findings_from_wire(answer.findings)
            fit = checks.error is None and not any(finding.ok is False for finding in found)
            if named is not None and fit and emit is not None and not self._renewed:
                self._renewed = True
                self._host.renew_certificate(named)
                emit(
                    "certificate", "this server has another certificate, for its addresses of now"
                )
                answer = self._claim(peer, token, preflight.challenge(peer), dry_run=True)
            elif named is not None:
                checks.add(good("certificate", "the join makes another one first"))
        except CollectiveError as error:
            checks.add(problem("invitation", error))
            return
        checks.extend(findings_from_wire(answer.findings))
        self._foretell(answer)
        if answer.pauses and emit is not None:
            emit("pause", pause_sentence(answer.pauses))
        if self._role is Role.NONVOTING:
            checks.skip("a server that does not vote has no etcd", "peers")
        elif answer.members is not None:
            preflight.reach_members(checks, answer.members, lambda: self._members_now(peer, token))

    def _members_now(self, peer: PeerClient, token: Token) -> Sequence[messages.Voter] | None:
        """Ask the member once more whom we must be able to reach."""
        return self._claim(peer, token, preflight.challenge(peer), dry_run=True).members

    def _foretell(self, answer: messages.Prospect) -> None:
        """Note what the invitation makes of us, and what that does to the quorum."""
        self._role = role_of(answer)
        kind = ", which does not vote" if self._role is Role.NONVOTING else ""
        if answer.forecast is not None:
            what = f"with {self._here.name}{kind}"
            self.forecast = Forecast.from_wire(answer.forecast, what)

    def _enroll(self, asked: Asked, token: Token, emit: Emit) -> Admitted:
        peer = asked.peer
        deadline = elapsed() + _TURN_SECONDS
        waited = False
        while True:
            self._raise_if_given_up()
            claimed = self._claim(peer, token, preflight.challenge(peer))
            self._foretell(claimed)
            if not waited:
                emit("prove", f"the invitation for {token.name} is claimed")
                reached(Step.JOIN_PROVE)
            confirmed = self._confirm(asked, token, claimed)
            if not waited:
                emit("confirm", "a majority of the servers that the token knows has the claim")
                reached(Step.JOIN_CONFIRM)
            result = self._admit(peer, emit)
            if result is not None:
                admitted = self._admitted(asked, token, result, confirmed)
                reached(Step.JOIN_ADMITTED)
                return admitted
            waited = True
            if elapsed() > deadline or self._server.stopped.wait(_TURN_PAUSE_SECONDS):
                raise RefusedError(
                    "cannot join now: another server is being taken in and does not get ready",
                    "see 'collective show' on a member, and run the same command again",
                )

    def _confirm(self, asked: Asked, token: Token, claimed: messages.Prospect) -> Confirmed:
        ours = self._server.credentials.identity.fingerprint
        guests, members = list(asked.guests or ()), claimed.members or ()
        return confirm(asked.peer.fingerprint, guests, members, token.name, ours)

    def _raise_if_given_up(self) -> None:
        if self._given_up.is_set():
            raise given_up_error(self._here.name)

    def _claim(
        self, peer: PeerClient, token: Token, asked: messages.Challenge, dry_run: bool = False
    ) -> messages.Prospect:
        self._addresses = self._all_addresses(peer)
        certificate = self._server.credentials.identity
        statement = EnrollmentStatement(
            name=token.name,
            role=AS_INVITED,
            server_fingerprint=peer.fingerprint,
            nonce=asked.nonce,
            certificate_fingerprint=certificate.fingerprint,
            addresses=self._addresses,
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
        )
        self._host.hold_peer_port(self._addresses[0])
        claim = messages.Claim(
            token.name,
            statement.role,
            certificate.pem,
            statement.addresses,
            statement.door_port,
            statement.peer_port,
            sign_enrollment(token.seed, statement).hex(),
            dry_run,
        )
        # A rehearsal waits for the dial-back, which has a deadline of its own.
        seconds = _REHEARSAL_SECONDS if dry_run else DIAL_SECONDS
        return messages.Prospect.from_wire(
            peer.call("POST", messages.CLAIM, claim.to_wire(), seconds)
        )

    def _all_addresses(self, peer: PeerClient) -> tuple[str, ...]:
        """Return the address to advertise, and all others that we may send from."""
        address = self._here.address or peer.local_address
        on_purpose = self._here.address is not None and not is_zoned(address)
        if ipaddress.ip_address(address).is_link_local and not on_purpose:
            raise RefusedError(
                f"cannot join from {address}: a link-local address leads nowhere from elsewhere",
                "set 'address' in the settings file, or name the other server by another address",
            )
        return claimed_addresses(address, local_addresses())

    def _admit(self, peer: PeerClient, emit: Emit) -> messages.Admission | None:
        """Be taken in, and return what the sponsor gives; None where it is not our turn."""
        body = messages.Message().to_wire()
        for raw in peer.lines("POST", messages.ADMIT, body, _ADMIT_SECONDS):
            if "result" in raw:
                return messages.Admission.from_wire(raw["result"])
            line = messages.AdmissionStep.from_wire(raw)
            if line.step == messages.BUSY:
                return None
            # Who waits for its turn goes through them again.
            if line.step not in self._told:
                self._told.add(line.step)
                emit(line.step, _sentence(line))
        raise UnreachableError(f"{where(peer.host, peer.port)} broke off while taking us in")

    def _admitted(
        self, asked: Asked, token: Token, given: messages.Admission, confirmed: Confirmed
    ) -> Admitted:
        votes = self._role is Role.VOTER
        plan = apply(
            self._server.plan,
            Event.ADMITTED,
            name=token.name,
            address=self._addresses[0],
            door_port=self._here.door_port,
            peer_port=self._here.peer_port,
            cluster_token=given.cluster_token,
            initial_cluster=(given.initial_cluster or "") if votes else "",
            existing=True,
            member_id=(given.member_id or "") if votes else "",
            sponsor=where(asked.peer.host, asked.peer.port),
            joined_by=public_key_of(token.seed).hex(),
            role=self._role,
        )
        ours = f"{token.name}={peer_url(self._addresses[0], self._here.peer_port)}"
        if votes and not (plan.member_id and ours in plan.initial_cluster.split(",")):
            raise ProtocolError(f"the sponsor's list of members lacks {ours}")
        fingerprint = self._server.credentials.identity.fingerprint
        try:
            view = members_in(given.view, plan, confirmed, asked.peer.fingerprint, fingerprint)
        except InvitationError:
            # Another server may have become a voter since: the guests know that one by now.
            answer = self._claim(asked.peer, token, preflight.challenge(asked.peer))
            confirmed = self._confirm(asked, token, answer)
            view = members_in(given.view, plan, confirmed, asked.peer.fingerprint, fingerprint)
        return Admitted(plan, view)


def given_up_error(name: str) -> RefusedError:
    """Return the error of a join that somebody ended by ``join --abort``."""
    return RefusedError(f"the join of {name} was given up by 'collective join --abort'")


def _sentence(line: messages.AdmissionStep) -> str:
    sentences = {
        "wait": "another server is being taken in",
        "dial-back": f"this server answers at {line.address}",
        "record": "the members know this server's certificate",
        "trust": "every voter that answers lets it in",
        "add": f"etcd knows this server as learner {line.member_id}",
    }
    return sentences.get(line.step, "")
