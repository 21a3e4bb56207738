"""Find out, before a join changes anything, all that is wrong with it.

It judges nothing: ``collective.policy.preflight`` does. What only the collective knows its
member looks at, in ``remote_dry_run``.

Invariants:
  * Nothing is changed, here or there; a port is listened on for a moment at most.
  * Without a token nothing that is secret is sent, and what comes back is only told, not believed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from collective import __version__
from collective.daemon.clock import epoch
from collective.daemon.joining.company import settled, why_not_free
from collective.daemon.joining.guests import check_guest, check_named, listed_guests
from collective.daemon.lifecycle.lives import check_replaceable, own_address
from collective.daemon.lifecycle.server import CollectiveServer
from collective.errors import CollectiveError, IdentityError, ProtocolError, UnreachableError
from collective.model.names import is_ip_address, parse_host_port
from collective.model.token import Token
from collective.pki import Certificate, read_certificate
from collective.policy import preflight as policy
from collective.policy.preflight import Finding
from collective.protocol import messages
from collective.protocol.interfaces import is_local, local_addresses
from collective.protocol.listening import bind_tcp
from collective.protocol.messages import Challenge, Voter
from collective.protocol.peer import (
    PeerClient,
    client_context,
    only,
    served_certificate,
    where,
)
from collective.protocol.resolve import resolve

log = logging.getLogger(__name__)

DIAL_SECONDS = 5.0

T = TypeVar("T")


class Checks:
    """The findings of one preflight, in the order in which they were made."""

    def __init__(self, doing: str) -> None:
        self.findings: list[Finding] = []
        self._doing = doing

    def add(self, finding: Finding) -> bool:
        """Note a finding; return whether all is well with it."""
        self.findings.append(finding)
        return finding.ok is True

    def extend(self, findings: Iterable[Finding]) -> None:
        """Note findings of others, or several."""
        self.findings.extend(findings)

    def attempt(self, check: str, call: Callable[[], T], said: Callable[[T], str]) -> T | None:
        """Make a check whose failure raises; return what it gives, None where it failed."""
        try:
            value = call()
        except CollectiveError as error:
            self.add(policy.problem(check, error))
            return None
        self.add(policy.good(check, said(value)))
        return value

    def skip(self, why: str, *checks: str) -> None:
        """Note that checks could not be made."""
        self.extend(policy.skipped(check, why) for check in checks)

    @property
    def error(self) -> CollectiveError | None:
        """What is wrong, as one error."""
        return policy.verdict(self.findings, self._doing)

    def raise_error(self) -> None:
        """Raise what is wrong, if something is."""
        if (error := self.error) is not None:
            raise error


@dataclass(frozen=True)
class Ready:
    """What was found of this server.

    Attributes:
        place: host and port to ask, None where the argument is no such thing.
        token: the invitation, None where there is none or it is garbled.
        address: from the settings, None to take the one that connections come from.
        fit: whether there is enough to ask a member to judge it.
    """

    place: tuple[str, int] | None
    token: Token | None
    address: str | None
    fit: bool


def look_here(checks: Checks, server: CollectiveServer, place: str, text: str | None) -> Ready:
    """Make the checks that need no other server.

    Args:
        checks: gets the findings.
        server: this server.
        place: of the member to ask, as it was typed.
        text: of the token, None to do without.
    """
    own = server.settings.name
    asked = _place(checks, own, place)
    token, fit = _token(checks, own, text)
    fit &= _free(checks, server)
    address, well = _address(checks, server)
    fit &= well & _ports(checks, server, address)
    folder = server.layout.data
    checks.attempt(
        "data",
        lambda: check_replaceable(server.layout),
        lambda _: f"what is in {folder} can be moved aside",
    )
    stat = os.statvfs(folder)
    checks.add(policy.check_disk(folder, stat.f_bavail * stat.f_frsize))
    return Ready(asked, token, address, fit)


def _place(checks: Checks, own: str, place: str) -> tuple[str, int] | None:
    try:
        host, port = parse_host_port(place, messages.DEFAULT_PORT)
    except CollectiveError as error:
        checks.add(policy.problem("server", error))
        return None
    if host.lower() == own:
        checks.add(policy.problem("server", policy.itself(place)))
        return None
    checks.add(policy.check_server(host, own))
    return host, port


def _token(checks: Checks, own: str, text: str | None) -> tuple[Token | None, bool]:
    if text is None:
        checks.skip("no token was given", "token", "name")
        return None, False
    token = checks.attempt(
        "token", lambda: Token.parse(text), lambda token: f"it is an invitation for {token.name}"
    )
    if token is None:
        checks.skip("the token cannot be read", "name")
        return None, False
    return token, checks.add(policy.check_name(token.name, own))


def _free(checks: Checks, server: CollectiveServer) -> bool:
    error = why_not_free(server)
    if error is not None:
        return checks.add(policy.problem("collective", error))
    return checks.add(policy.good("collective", "this server is in no collective with others"))


def _address(checks: Checks, server: CollectiveServer) -> tuple[str | None, bool]:
    try:
        address = own_address(server.settings)
    except CollectiveError as error:
        return None, checks.add(policy.problem("address", error))
    return address, checks.add(policy.check_address(address, local_addresses()))


def _ports(checks: Checks, server: CollectiveServer, address: str | None) -> bool:
    """See that etcd will have its port; that of the daemon is ours, or nobody asked us."""
    door, port, runtime = server.settings.port, server.settings.peer_port, settled(server)
    if runtime is not None and runtime.etcd.runs:
        return checks.add(policy.good("ports", f"{door} and {port} are this server's own"))
    try:
        bind_tcp(address or "0.0.0.0", port).close()
    except CollectiveError as error:
        return checks.add(policy.problem("ports", error))
    return checks.add(policy.good("ports", f"{door} is this server's own, {port} is free"))


@dataclass(frozen=True)
class Asked:
    """A member that answers.

    Attributes:
        peer: the connection; with a token it is to that very server, or to nobody.
        said: what it says to a stranger.
        guests: the token's guest list, fingerprint to name; None without a token.
    """

    peer: PeerClient
    said: Challenge
    guests: Mapping[str, str] | None


def reach(
    checks: Checks,
    server: CollectiveServer,
    named: str,
    place: tuple[str, int],
    token: Token | None,
) -> Asked | None:
    """Reach the member to ask, at one of its name's addresses, and see that it is on the list.

    Args:
        checks: gets the findings.
        server: this server.
        named: the member, as it was typed.
        place: its host and port.
        token: has the hash of the guest list; None to check nothing.

    Returns:
        None where something is wrong.
    """
    host, port = place
    found = checks.attempt(
        "reach",
        lambda: _serving(server, named, host, port),
        lambda served: f"{where(served[0], port)} answers",
    )
    if found is None:
        checks.skip(f"{named} cannot be asked", "guest")
        return None
    address, certificate = found
    place_found = where(address, port)
    at = named if named == place_found else f"{named} ({place_found})"
    peer = PeerClient(address, port, client_context(), only((certificate.fingerprint,), _CHANGED))
    said = checks.attempt(
        "member", lambda: challenge(peer), lambda raw: f"{_name(raw, at)} takes servers in"
    )
    if said is None:
        checks.skip(f"{named} cannot be asked", "guest")
        return None
    if token is None:
        checks.skip("the token would say which servers may take this one in", "guest")
        return Asked(peer, said, None)
    guests = checks.attempt(
        "guest",
        lambda: _guests(said, token, certificate, host, address, at),
        lambda _: f"{named} is on the token's guest list",
    )
    if guests is None:
        peer.close()
        return None
    return Asked(peer, said, guests)


_CHANGED = "it shows another certificate than a moment ago"


def _guests(
    said: Challenge,
    token: Token,
    certificate: Certificate,
    host: str,
    address: str,
    at: str,
) -> Mapping[str, str]:
    """Return the guest list, on which the server is that answers under the name asked for.

    Raises:
        ProtocolError, InvitationError, IdentityError: it is not.
    """
    guests = listed_guests(said.guests, token, at)
    check_guest(guests, certificate.fingerprint, at, token.name)
    other = check_named(host, address, certificate.name, certificate.addresses)
    if other is not None:
        raise IdentityError(f"cannot join {host}: {other}", "name the server by its own name")
    return guests


def _serving(
    server: CollectiveServer, named: str, host: str, port: int
) -> tuple[str, Certificate]:
    """Return the first address of a name that answers, and the certificate that it shows."""
    failure: CollectiveError | None = None
    for address in resolve(host, server.settings.hosts, DIAL_SECONDS):
        try:
            certificate = read_certificate(served_certificate(address, port, DIAL_SECONDS))
        except UnreachableError as error:
            failure = failure or _named(error, host, address)
            continue
        if certificate.fingerprint == server.credentials.identity.fingerprint:
            raise policy.itself(named)
        return address, certificate
    raise failure or UnreachableError(f"the name {host} has no address")


def _named(error: UnreachableError, host: str, address: str) -> UnreachableError:
    """Add the name that the user typed to an error that knows the address only."""
    if host == address:
        return error
    return UnreachableError(f"{host}: {error.message}", error.hint)


def question(checks: Checks, asked: Asked, election_ms: int) -> None:
    """Check what a member says of itself and of us, and how far away it is."""
    place = where(asked.peer.host, asked.peer.port)
    release = asked.said.release[:40]
    told = f"{_name(asked.said, place)} runs release {release}, this server {__version__}"
    checks.add(policy.good("release", told))
    _clock(checks, asked.said, place)
    _source(checks, asked.said, place)
    round_trip = asked.peer.round_trip
    if round_trip is None:
        checks.skip("the kernel does not say how long a packet takes", "timing")
    else:
        checks.add(policy.check_round_trip(place, round_trip, election_ms))


def challenge(peer: PeerClient) -> Challenge:
    """Ask a member for a nonce, with what else it says to a stranger."""
    return Challenge.from_wire(peer.call("GET", messages.CHALLENGE, None, DIAL_SECONDS))


def _name(said: Challenge, place: str) -> str:
    return (said.name or place)[:64]


def _clock(checks: Checks, said: Challenge, place: str) -> None:
    if said.now is not None:
        checks.add(policy.check_clock(epoch() - said.now, place))
    else:
        checks.add(policy.problem("clock", ProtocolError(f"{place} does not tell the time")))


def _source(checks: Checks, said: Challenge, place: str) -> None:
    if not is_ip_address(said.seen):
        checks.skip(f"{place} does not say where it sees this server", "nat")
        return
    checks.add(policy.check_source(said.seen, local_addresses(), place))


def reach_members(
    checks: Checks, members: Sequence[Voter], ask_again: Callable[[], Sequence[Voter] | None]
) -> None:
    """Find out that the etcds of the collective can be reached from here.

    A member that is down must not stop a join, so one that answers nowhere is left out, and so is
    one of whose etcd the sponsor does not know that it takes part. One that was deleted meanwhile
    still has a door, but no etcd: so who seems closed is asked for once more.
    """
    found = _reach_all(members)
    if any(not finding.ok for finding in found):
        found = _reach_all(ask_again() or ())
    checks.extend(found)


def _reach_all(members: Sequence[Voter]) -> list[Finding]:
    if not members:
        return [policy.problem("peers", ProtocolError("the sponsor names no members"))]
    outcomes = [_reach_one(member) for member in members]
    reached = [outcome for outcome in outcomes if isinstance(outcome, str)]
    found = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    if reached:
        found.append(policy.good("peers", f"the peer ports of {', '.join(reached)} are open"))
    return found


def _reach_one(member: Voter) -> Finding | str | None:
    """Return the name of a member whose peer port is open, a finding for one that is not.

    That some server answers there says nothing: this one may have the same address.
    """
    host, door, port = member.address, member.door_port, member.peer_port
    found = _fingerprint_at(host, port)
    if found == member.fingerprint:
        return member.name
    at_door = _fingerprint_at(host, door)
    if member.broken or (found is None and at_door is None):
        return None
    if at_door != member.fingerprint:
        return policy.problem("peers", _another(member))
    closed = UnreachableError(
        f"{member.name} answers at {where(host, door)}, but its peer port {port} cannot be "
        "reached from here",
        f"open TCP port {port} between the servers",
    )
    return policy.problem("peers", closed)


def _another(member: Voter) -> UnreachableError:
    """Return the error of a member at whose address somebody else answers."""
    host, name = member.address, member.name
    whose = ", which this server has, too" if is_local(host) else ""
    return UnreachableError(
        f"another server than {name} answers at the address of {name}, {host}{whose}",
        f"set another 'address' in the settings file of {name}, and run 'collective readdress' "
        "there",
    )


def _fingerprint_at(host: str, port: int) -> str | None:
    """Return the fingerprint of the certificate that a server shows, None where none does."""
    try:
        return hashlib.sha256(served_certificate(host, port, DIAL_SECONDS)).hexdigest()
    except UnreachableError as error:
        log.debug("%s", error)
        return None
