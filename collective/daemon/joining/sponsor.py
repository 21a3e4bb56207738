"""The member's side of a join: challenge, claim, dial-back, issue, add (design section 4).

It does not promote: whoever leads does (``duties``).

Invariants:
  * No address of a stranger is dialled before his proof, and next to nothing is looked up for him.
  * Nothing of the membership changes before the dial-back has succeeded.
  * Each step finds out what an earlier, broken off run has done, and goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from collective import __version__
from collective.daemon.clock import epoch, utc_now
from collective.daemon.joining.candidate import Candidate
from collective.daemon.joining.dialback import dial_back, knock
from collective.daemon.joining.learner import add, check_claim, others_turn, wait_for_turn
from collective.daemon.joining.rehearsal import prospect, read_records, rehearse
from collective.daemon.membership.arrivals import take_in
from collective.daemon.node import Node, hex_id
from collective.daemon.retries import until_written_whoever_leads
from collective.errors import ProtocolError
from collective.failpoints import Step, reached
from collective.model.names import (
    MOST_ADDRESSES,
    certified_addresses,
    is_ip_address,
    parse_server_name,
)
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
        "seen": request.peer.address,
    }


def claim(node: Node, request: Request) -> dict[str, Any]:
    """Check a proof and claim the invitation for the key of its CSR.

    A dry run claims nothing: it tells all that is wrong, and dials the candidate back.

    Returns:
        The members that the joiner must be able to reach, and the forecast.

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
        candidate.asked,
        statement.csr_key_id,
        lambda key: verify_enrollment(bytes.fromhex(key), statement, signature),
    )
    node.doubts.check(node.replica.view, proof)
    if raw.get("dry_run") is True:
        return {"format": messages.FORMAT, **rehearse(node, proof, candidate)}
    view, role = _claimed(node, proof, candidate)
    reached(Step.SPONSOR_CLAIM)
    request.memory[_ADMITTED] = replace(candidate, role=role)
    log.info("an invitation was claimed name=%s from=%s", candidate.name, request.peer.address)
    return {"format": messages.FORMAT, **prospect(node, view, candidate.name, role)}


def _candidate(raw: Mapping[str, Any], fingerprint: str) -> Candidate:
    messages.check_format(raw)
    addresses = raw.get("addresses")
    if not isinstance(addresses, list) or not 0 < len(addresses) <= MOST_ADDRESSES:
        raise ProtocolError("a proof has no good 'addresses'")
    if not all(isinstance(a, str) and is_ip_address(a) for a in addresses):
        raise ProtocolError("a proof has an address that is no IP address")
    csr = messages.text(raw, "csr").encode()
    return Candidate(
        parse_server_name(messages.text(raw, "name")),
        None,
        messages.text(raw, "role", 32),
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
        role=candidate.asked,
        server_fingerprint=candidate.fingerprint,
        nonce=nonce,
        csr_key_id=candidate.csr_key_id,
        csr_sha256=hashlib.sha256(candidate.csr).hexdigest(),
        addresses=candidate.addresses,
        door_port=candidate.door_port,
        peer_port=candidate.peer_port,
    )


def _claimed(node: Node, proof: Proof, candidate: Candidate) -> tuple[View, Role]:
    def attempt() -> tuple[View, Role] | None:
        view = read_records(node, proof.name)
        invitation = view.invitations.get(proof.name)
        claimed = judge(invitation, proof, epoch())
        check_admission(view, proof.name, node.name)
        check_addresses(view, proof.name, (candidate.address,))
        written = claimed == invitation or node.store.claim(view, claimed)
        return (view, claimed.role) if written else None

    return until_written_whoever_leads(f"take in {proof.name}", attempt)


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
    votes = candidate.role is Role.VOTER
    if votes:
        yield from wait_for_turn(node, candidate.url)
        if others_turn(node, candidate.url):
            yield {"step": messages.BUSY}
            return
    dial_back(node.name, candidate, candidate.address)
    if votes:
        knock(node.name, candidate.name, candidate.address, candidate.peer_port)
    yield {"step": "dial-back", "address": where(candidate.address, candidate.door_port)}
    reached(Step.SPONSOR_DIAL_BACK)
    authority = node.credentials.authority()
    # etcd refuses a certificate that does not name where the connection comes from.
    addresses = certified_addresses(_sources(node, candidate, request.peer.address))
    leaf = authority.issue(candidate.csr, candidate.name, addresses, utc_now())
    reached(Step.SPONSOR_ISSUE)
    yield {"step": "issue"}
    given = {
        "format": messages.FORMAT,
        "leaf": leaf.decode(),
        "ca": node.credentials.ca_pem.decode(),
        "crl": node.credentials.crl().hex(),
        "cluster_token": node.plan.cluster_token,
    }
    if not votes:
        view = take_in(node, candidate, read_leaf(leaf))
        yield {"step": "record"}
        yield {"result": {**given, "view": view.to_json(node.plan.cluster_token)}}
        return
    added = add(node, candidate, read_leaf(leaf))
    if added is None:
        yield {"step": messages.BUSY}
        return
    member_id, initial_cluster = added
    yield {"step": "add", "member_id": hex_id(member_id)}
    etcd = {"member_id": hex_id(member_id), "initial_cluster": initial_cluster}
    yield {"result": {**given, **etcd}}


def _sources(node: Node, candidate: Candidate, seen: str) -> list[str]:
    """Return where a candidate may send from: what it claims, but for others' addresses."""
    others = {m.address for n, m in node.replica.view.members.items() if n != candidate.name}
    claimed = [a for a in (*candidate.addresses[1:], seen) if a not in others]
    return list(dict.fromkeys([candidate.address, *claimed]))
