"""The member's side of a join: challenge, claim, dial-back, issue, add (design section 4).

It does not promote: whoever leads does (``duties``).

Invariants:
  * Nothing is looked up for a stranger, and no address of his is dialled, before his proof.
  * Nothing of the membership changes before the dial-back has succeeded.
  * Each step finds out what an earlier, broken off run has done, and goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collective import __version__
from collective.daemon.clock import elapsed, epoch, utc_now
from collective.daemon.duties import CHANGE_SECONDS
from collective.daemon.node import Node, hex_id
from collective.daemon.retries import until_written
from collective.errors import (
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    InvitationError,
    ProtocolError,
    QuorumError,
    RefusedError,
    UnreachableError,
)
from collective.etcd.gateway import EtcdMember, within
from collective.model.names import certified_addresses, is_ip_address, parse_server_name, peer_url
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.pki import (
    DialBackStatement,
    EnrollmentStatement,
    LeafInfo,
    read_leaf,
    request_key_id,
    verify_dial_back,
    verify_enrollment,
)
from collective.policy.admission import Proof, judge
from collective.policy.membership import check_addresses, check_admission
from collective.protocol import messages
from collective.protocol.peer import Peer, stranger_context, unreachable, where
from collective.protocol.web import Request

log = logging.getLogger(__name__)

_NONCE = "enrollment nonce"
_ADMITTED = "enrollment admitted"
_DIAL_SECONDS = 5.0
_TURN_SECONDS = 5.0
_TURN_POLL_SECONDS = 0.03
_SAME_ID_SECONDS = 1.05
_IN_THE_WAY = ("too many learner", "exist")
_LIST_SECONDS = 3.0
_MOST_ADDRESSES = 16


@dataclass(frozen=True)
class Candidate:
    """A server whose proof was good.

    Attributes:
        name: as invited.
        role: as invited.
        csr: PEM.
        csr_key_id: SHA-256 (hex) of its public key, which claimed the invitation.
        addresses: the advertised one first.
        door_port, peer_port: its TCP ports.
        fingerprint: of our certificate, as it saw it.
    """

    name: str
    role: Role
    csr: bytes
    csr_key_id: str
    addresses: tuple[str, ...]
    door_port: int
    peer_port: int
    fingerprint: str

    @property
    def address(self) -> str:
        """The address that it wants to be reached at."""
        return self.addresses[0]


def challenge(node: Node, request: Request) -> dict[str, Any]:
    """Answer a stranger with a nonce that is good once, on this connection."""
    nonce = secrets.token_hex(32)
    request.memory[_NONCE] = nonce
    return {
        "format": messages.FORMAT,
        "nonce": nonce,
        "name": node.name,
        "release": __version__,
        "now": epoch(),
    }


def claim(node: Node, request: Request) -> dict[str, Any]:
    """Check a proof and claim the invitation for the key of its CSR.

    Returns:
        The members that the joiner must be able to reach.

    Raises:
        ProtocolError: the message is broken.
        InvitationError: the proof is not good.
        RefusedError: the server is in already.
        QuorumError: there is no quorum.
    """
    nonce = request.memory.pop(_NONCE, None)
    if nonce is None:
        raise ProtocolError("a proof came without a challenge")
    raw = request.json()
    candidate = _candidate(raw, node.credentials.leaf.fingerprint)
    statement = _statement(candidate, nonce)
    signature = messages.octets(raw, "signature")
    proof = Proof(
        candidate.name,
        candidate.role.value,
        statement.csr_key_id,
        lambda key: verify_enrollment(bytes.fromhex(key), statement, signature),
    )
    view = _claimed(node, proof)
    check_addresses(view, candidate.name, candidate.addresses)
    request.memory[_ADMITTED] = candidate
    log.info("an invitation was claimed name=%s from=%s", candidate.name, request.peer.address)
    return {"format": messages.FORMAT, "members": _reachable(view)}


def _candidate(raw: Mapping[str, Any], fingerprint: str) -> Candidate:
    messages.check_format(raw)
    addresses = raw.get("addresses")
    if not isinstance(addresses, list) or not 0 < len(addresses) <= _MOST_ADDRESSES:
        raise ProtocolError("a proof has no good 'addresses'")
    if not all(isinstance(a, str) and is_ip_address(a) for a in addresses):
        raise ProtocolError("a proof has an address that is no IP address")
    try:
        role = Role(messages.text(raw, "role"))
    except ValueError:
        raise ProtocolError("a proof asks for an unknown role") from None
    csr = messages.text(raw, "csr").encode()
    return Candidate(
        parse_server_name(messages.text(raw, "name")),
        role,
        csr,
        request_key_id(csr),
        tuple(addresses),
        messages.port(raw, "door_port"),
        messages.port(raw, "peer_port"),
        fingerprint,
    )


def _statement(candidate: Candidate, nonce: str) -> EnrollmentStatement:
    return EnrollmentStatement(
        name=candidate.name,
        role=candidate.role.value,
        server_fingerprint=candidate.fingerprint,
        nonce=nonce,
        csr_key_id=candidate.csr_key_id,
        csr_sha256=hashlib.sha256(candidate.csr).hexdigest(),
        addresses=candidate.addresses,
        door_port=candidate.door_port,
        peer_port=candidate.peer_port,
    )


def _claimed(node: Node, proof: Proof) -> View:
    def attempt() -> View | None:
        view = _read(node, proof.name)
        invitation = view.invitations.get(proof.name)
        claimed = judge(invitation, proof, epoch())
        check_admission(view, proof.name, claimed.role, node.name)
        return view if claimed == invitation or node.store.claim(view, claimed) else None

    return until_written(f"take in {proof.name}", attempt)


def _read(node: Node, name: str) -> View:
    try:
        return node.store.read()
    except EtcdError as error:
        raise QuorumError(
            f"cannot take in {name}: {node.name} has no quorum",
            "start the servers that 'collective show' lists there as offline",
        ) from error


def _reachable(view: View) -> list[dict[str, Any]]:
    return [
        {"name": m.name, "address": m.address, "door_port": m.door_port, "peer_port": m.peer_port}
        for m in view.members.values()
        if m.role is Role.VOTER
    ]


def admit(node: Node, request: Request) -> Iterator[dict[str, Any] | None]:
    """Take the candidate of this connection in, as a learner; yield each step as it is done.

    Raises:
        ProtocolError: there was no claim on this connection.
        UnreachableError: the dial-back failed.
        QuorumError, EtcdError: etcd did not add it.
    """
    # A claim is good for one admission: a server that keeps its connection is a stranger again.
    candidate = request.memory.pop(_ADMITTED, None)
    if not isinstance(candidate, Candidate):
        raise ProtocolError("a server wants to be admitted without a claim")
    _check_claim(node.store.read(), candidate)
    yield from _wait_for_turn(node, candidate)
    if _others_turn(node, candidate):
        yield {"step": messages.BUSY}
        return
    for address in candidate.addresses:
        dial_back(node, candidate, address)
        yield {"step": "dial-back", "address": where(address, candidate.door_port)}
    authority = node.credentials.authority()
    # etcd refuses a certificate that does not name where the connection comes from.
    addresses = certified_addresses([*candidate.addresses, request.peer.address])
    leaf = authority.issue(candidate.csr, candidate.name, addresses, utc_now())
    yield {"step": "issue"}
    added = _add(node, candidate, read_leaf(leaf))
    if added is None:
        yield {"step": messages.BUSY}
        return
    member_id, initial_cluster = added
    yield {"step": "add", "member_id": hex_id(member_id)}
    yield {
        "result": {
            "format": messages.FORMAT,
            "leaf": leaf.decode(),
            "ca": node.credentials.ca_pem.decode(),
            "crl": node.credentials.crl().hex(),
            "member_id": hex_id(member_id),
            "initial_cluster": initial_cluster,
            "cluster_token": node.plan.cluster_token,
        }
    }


def _url(candidate: Candidate) -> str:
    return peer_url(candidate.address, candidate.peer_port)


def _members(node: Node) -> list[EtcdMember]:
    with within(_LIST_SECONDS):
        return node.gateway.members()


def _others_turn(node: Node, candidate: Candidate) -> bool:
    """Tell whether another server is being taken in: joins queue, one learner at a time."""
    return any(m.learner and _url(candidate) not in m.peer_urls for m in _members(node))


def _wait_for_turn(node: Node, candidate: Candidate) -> Iterator[dict[str, Any] | None]:
    """Wait for a moment while another server is taken in, which mostly takes no longer."""
    deadline = elapsed() + _TURN_SECONDS
    told = False
    while elapsed() < deadline and _others_turn(node, candidate):
        yield None if told else {"step": "wait"}
        told = True
        threading.Event().wait(_TURN_POLL_SECONDS)


def _check_claim(view: View, candidate: Candidate) -> None:
    """See that the invitation is still there and still claimed by this candidate's key.

    Raises:
        InvitationError: it was used up, revoked, replaced, or has expired.
    """
    invitation = view.invitations.get(candidate.name)
    if (
        invitation is None
        or invitation.claimed_by != candidate.csr_key_id
        or epoch() >= invitation.expires
    ):
        raise InvitationError(
            f"the invitation for {candidate.name} is no longer good",
            f"run 'collective invite {candidate.name}' on a member for a new token",
        )


def dial_back(node: Node, candidate: Candidate, host: str) -> None:
    """Reach the candidate at one address, and make it prove its CSR's key there.

    Raises:
        UnreachableError: nothing answers there, or something else does.
    """
    port = candidate.door_port
    nonce = secrets.token_hex(32)
    statement = DialBackStatement(
        nonce=nonce,
        name=candidate.name,
        server_fingerprint=candidate.fingerprint,
        address=host,
        door_port=port,
    )
    body = {"format": messages.FORMAT, "address": host}
    try:
        answer = _ask_unverified(host, port, {**body, "nonce": nonce})
        signature = messages.octets(answer, "signature")
    except CollectiveError as error:
        raise UnreachableError(
            f"{node.name} cannot reach {candidate.name} at {where(host, port)}: {error.message}",
            f"check the setting 'address' on {candidate.name}, and firewalls between the two",
        ) from error
    if not verify_dial_back(candidate.csr, statement, signature):
        raise UnreachableError(
            f"at {where(host, port)} another server answers than {candidate.name}",
            f"check the setting 'address' on {candidate.name}",
        )
    _knock(node, candidate, host)


def _ask_unverified(host: str, port: int, body: Mapping[str, Any]) -> dict[str, Any]:
    peer = Peer(host, port, stranger_context())
    try:
        return peer.call("POST", messages.DIAL_BACK, body, _DIAL_SECONDS)
    finally:
        peer.close()


def _knock(node: Node, candidate: Candidate, host: str) -> None:
    """See that the candidate's peer port is open: a firewall there would strand the learner."""
    port = candidate.peer_port
    try:
        socket.create_connection((host, port), timeout=_DIAL_SECONDS).close()
    except OSError as error:
        told = unreachable(host, port, error, _DIAL_SECONDS)
        raise UnreachableError(
            f"{node.name} {told.message} (the peer port of {candidate.name})", told.hint
        ) from error


def _add(node: Node, candidate: Candidate, leaf: LeafInfo) -> tuple[int, str] | None:
    """Make the candidate a learner and write its record; None when it must wait its turn.

    The record is written first, without an id: whoever leads then knows whose a learner is that
    a sponsor has left behind, and drops a record that etcd has no learner for.
    """
    ours = _find(_members(node), candidate)
    if ours is not None and not ours.learner:
        raise RefusedError(
            f"cannot take in {candidate.name}: a voter has its address already: {_url(candidate)}"
        )
    _record(node, candidate, leaf, hex_id(ours.id) if ours is not None else "")
    if ours is None:
        try:
            ours = _add_learner(node, candidate)
        except EtcdError:
            _drop(node, candidate)
            raise
        if ours is None:
            return None
        view = _record(node, candidate, leaf, hex_id(ours.id))
    else:
        view = node.store.read()
    return ours.id, _initial_cluster(view, _members(node), candidate, ours.id)


def _drop(node: Node, candidate: Candidate) -> None:
    """Drop the record of a learner that etcd refused to add."""
    view = node.store.read()
    record = view.members.get(candidate.name)
    if record is not None and record.role is Role.LEARNER and not record.member_id:
        node.store.drop_member(view, record, epoch())


def _find(members: list[EtcdMember], candidate: Candidate) -> EtcdMember | None:
    return next((m for m in members if _url(candidate) in m.peer_urls), None)


def _add_learner(node: Node, candidate: Candidate) -> EtcdMember | None:
    """Ask etcd for it, and look whether it was done; None when another learner is in the way.

    Raises:
        EtcdError: etcd refused it for another reason.
    """
    for left in (1, 0):
        try:
            with within(CHANGE_SECONDS):
                node.gateway.add_learner(_url(candidate))
        except EtcdUnavailableError as error:
            log.info("etcd did not say that it added a learner: %s name=%s", error, candidate.name)
        except EtcdError as error:
            if _is_of_this_second(error) and left:
                threading.Event().wait(_SAME_ID_SECONDS)
                continue
            if not any(words in error.message for words in _IN_THE_WAY):
                raise
        break
    return _find(_members(node), candidate)


def _is_of_this_second(error: EtcdError) -> bool:
    """Tell whether etcd would give the id of a member that was removed.

    The id is a hash of URL, cluster token and the time in seconds (membership.NewMember), so a
    server that is deleted and taken in again within one second gets the one that was removed,
    and etcd refuses that with these words.
    """
    return "member not found" in error.message


def _record(node: Node, candidate: Candidate, leaf: LeafInfo, member_id: str) -> View:
    def attempt() -> View | None:
        view = node.store.read()
        _check_claim(view, candidate)
        if leaf.serial in view.revoked:
            raise RefusedError(f"taking in {candidate.name} took too long and was given up")
        old = view.members.get(candidate.name)
        if old is not None and old.role is not Role.LEARNER:
            raise RefusedError(f"cannot take in {candidate.name}: it is a member already")
        record = MemberRecord(
            candidate.name,
            member_id,
            Role.LEARNER,
            candidate.address,
            candidate.door_port,
            candidate.peer_port,
            old.serials if old is not None else (),
            old.fingerprints if old is not None else (),
            epoch(),
        )
        too_many: tuple[str, ...] = ()
        if leaf.serial not in record.serials:
            record, too_many = record.certified(leaf.serial, leaf.fingerprint)
        return view if node.store.admit_member(view, record, epoch(), too_many) else None

    return until_written(f"take in {candidate.name}", attempt)


def _initial_cluster(
    view: View, members: list[EtcdMember], candidate: Candidate, member_id: int
) -> str:
    def name(member: EtcdMember) -> str:
        if member.id == member_id:
            return candidate.name
        record = view.by_member_id(hex_id(member.id))
        return record.name if record is not None else member.name

    return ",".join(f"{name(m)}={url}" for m in members for url in m.peer_urls)
