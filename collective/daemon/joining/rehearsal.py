"""The member's side of a preflight: judge a joiner's proof and dial it back, and change nothing.

``sponsor`` takes servers in, with the same decisions.

Invariants:
  * Whoever has not proven an invitation learns no more than that, and is not dialled.
  * Nothing is written.
"""

from __future__ import annotations

from typing import Any

from collective.daemon.clock import epoch
from collective.daemon.joining.candidate import Candidate
from collective.daemon.joining.dialback import dial_back, knock
from collective.daemon.node import Node
from collective.daemon.peers.quorum import strength_known
from collective.errors import CollectiveError, EtcdError, QuorumError
from collective.model.records import Role
from collective.model.view import View
from collective.policy import forecast
from collective.policy.admission import Proof, judge
from collective.policy.membership import check_addresses, check_admission
from collective.policy.preflight import Finding, good, problem, skipped
from collective.protocol.peer import where


def rehearse(node: Node, proof: Proof, candidate: Candidate) -> dict[str, Any]:
    """Find out what would hinder a join.

    Returns:
        The findings; with a good proof also what ``prospect`` tells.

    Raises:
        QuorumError: there is no quorum.
    """
    view = read_records(node, proof.name)
    name = proof.name
    try:
        claimed = judge(view.invitations.get(name), proof, epoch())
        check_admission(view, name, node.name)
    except CollectiveError as error:
        why = "it needs a good invitation"
        findings = [
            problem("invitation", error),
            *(skipped(check, why) for check in ("loopback", "dial-back", "peers")),
        ]
        return {"findings": [finding.to_wire() for finding in findings]}
    until = f"the invitation for {name} is good for {claimed.expires - epoch():.0f} s"
    findings = [good("invitation", until), _addresses(view, candidate)]
    votes = claimed.role is Role.VOTER
    findings.append(_dialled_back(node, candidate, candidate.address, votes))
    told = prospect(node, view, name, claimed.role)
    return {"findings": [f.to_wire() for f in findings], **told}


def prospect(node: Node, view: View, name: str, role: Role) -> dict[str, Any]:
    """Return what a joiner is to be, whom it must be able to reach, and what that does."""
    change = view.change
    leaves = change.name if change is not None and not change.done else None
    members = [
        {"name": m.name, "address": m.address, "door_port": m.door_port, "peer_port": m.peer_port}
        for m in view.members.values()
        if m.role is Role.VOTER and m.name != leaves
    ]
    foretell = forecast.with_voter if role is Role.VOTER else forecast.with_nonvoting
    told = foretell(strength_known(node), name)
    return {"members": members, "role": role.value, "forecast": told.to_wire()}


def read_records(node: Node, name: str) -> View:
    """Read the records to decide on a joiner.

    Raises:
        QuorumError: there is no quorum.
    """
    try:
        return node.store.read()
    except EtcdError as error:
        raise QuorumError(
            f"cannot take in {name}: {node.name} has no quorum",
            "start the servers that 'collective show' lists there as offline",
        ) from error


def _addresses(view: View, candidate: Candidate) -> Finding:
    try:
        check_addresses(view, candidate.name, (candidate.address,))
    except CollectiveError as error:
        return problem("loopback", error)
    return good("loopback", "loopback addresses and others are not mixed")


def _dialled_back(node: Node, candidate: Candidate, address: str, votes: bool) -> Finding:
    try:
        dial_back(node.name, candidate, address)
        if votes:
            knock(node.name, candidate.name, address, candidate.peer_port)
    except CollectiveError as error:
        return problem("dial-back", error)
    port = f", and its peer port {candidate.peer_port}" if votes else ""
    there = where(address, candidate.door_port)
    return good("dial-back", f"{node.name} reaches {candidate.name} at {there}{port}")
