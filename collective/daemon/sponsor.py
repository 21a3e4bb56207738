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
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from collective import __version__
from collective.daemon.candidate import Candidate
from collective.daemon.clock import elapsed, epoch, utc_now
from collective.daemon.dialback import dial_back
from collective.daemon.learner import add, check_claim, others_turn
from collective.daemon.node import Node, hex_id
from collective.daemon.retries import until_written
from collective.errors import EtcdError, ProtocolError, QuorumError
from collective.failpoints import Step, reached
from collective.model.names import certified_addresses, is_ip_address, parse_server_name
from collective.model.records import Role
from collective.model.view import View
from collective.pki import EnrollmentStatement, read_leaf, request_key_id, verify_enrollment
from collective.policy.admission import Proof, judge
from collective.policy.membership import check_addresses, check_admission
from collective.protocol import messages
from collective.protocol.peer import where
from collective.protocol.web import Request

log = logging.getLogger(__name__)

_NONCE = "enrollment nonce"
_ADMITTED = "enrollment admitted"
_TURN_SECONDS = 5.0
_TURN_POLL_SECONDS = 0.03
_MOST_ADDRESSES = 16


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
    view = _claimed(node, proof, candidate)
    reached(Step.SPONSOR_CLAIM)
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


def _claimed(node: Node, proof: Proof, candidate: Candidate) -> View:
    def attempt() -> View | None:
        view = _read(node, proof.name)
        invitation = view.invitations.get(proof.name)
        claimed = judge(invitation, proof, epoch())
        check_admission(view, proof.name, claimed.role, node.name)
        check_addresses(view, proof.name, candidate.addresses)
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
    """Return who the joiner must be able to reach: voters, but for one that is on its way out."""
    change = view.change
    leaves = change.name if change is not None and not change.done else None
    return [
        {"name": m.name, "address": m.address, "door_port": m.door_port, "peer_port": m.peer_port}
        for m in view.members.values()
        if m.role is Role.VOTER and m.name != leaves
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
    check_claim(node.store.read(), candidate)
    yield from _wait_for_turn(node, candidate)
    if others_turn(node, candidate):
        yield {"step": messages.BUSY}
        return
    for address in candidate.addresses:
        dial_back(node.name, candidate, address)
        yield {"step": "dial-back", "address": where(address, candidate.door_port)}
    reached(Step.SPONSOR_DIAL_BACK)
    authority = node.credentials.authority()
    # etcd refuses a certificate that does not name where the connection comes from.
    addresses = certified_addresses([*candidate.addresses, request.peer.address])
    leaf = authority.issue(candidate.csr, candidate.name, addresses, utc_now())
    reached(Step.SPONSOR_ISSUE)
    yield {"step": "issue"}
    added = add(node, candidate, read_leaf(leaf))
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


def _wait_for_turn(node: Node, candidate: Candidate) -> Iterator[dict[str, Any] | None]:
    """Wait for a moment while another server is taken in, which mostly takes no longer."""
    deadline = elapsed() + _TURN_SECONDS
    told = False
    while elapsed() < deadline and others_turn(node, candidate):
        yield None if told else {"step": "wait"}
        told = True
        threading.Event().wait(_TURN_POLL_SECONDS)
