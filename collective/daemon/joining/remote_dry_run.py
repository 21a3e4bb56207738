"""The member's side of a preflight: judge a joiner's proof and dial it back, and change nothing.

``sponsor`` takes servers in, with the same decisions.

Invariants:
  * Whoever has not proven an invitation learns no more than that, and is not dialled.
  * Nothing is written.
"""

from __future__ import annotations

from dataclasses import replace

from collective.daemon.member.quorum import strength_known
from collective.daemon.member.recorded import check_recordable
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.candidate import Candidate
from collective.daemon.membership.dial_back import dial_back, knock
from collective.errors import CollectiveError, EtcdError, QuorumError, RefusedError
from collective.etcd.record_store import READ_SECONDS
from collective.model.names import certified_addresses
from collective.model.records import Role
from collective.model.view import View
from collective.policy import forecast
from collective.policy.addressing import certifiable, check_advertised, plain
from collective.policy.admission import Proof, judge
from collective.policy.membership import check_addresses, check_admission
from collective.policy.preflight import Finding, good, problem, skipped
from collective.protocol.messages import Prospect, Voter
from collective.protocol.peer import where


def rehearse(runtime: MemberRuntime, view: View, proof: Proof, candidate: Candidate) -> Prospect:
    """Find out what would hinder a join.

    Args:
        runtime: this server.
        view: the records, as they were read for it.
        proof: what the candidate showed.
        candidate: who wants to join.

    Returns:
        The findings; with a good proof also what ``prospect`` tells, and, where the candidate is
        to make itself another certificate, which addresses that is to name.

    Raises:
        RefusedError: the invitation is being tried already.
    """
    name = proof.name
    try:
        claimed = judge(view.invitations.get(name), proof)
        check_admission(view, name, runtime.name)
    except CollectiveError as error:
        why = "it needs a good invitation"
        findings = [
            problem("invitation", error),
            *(skipped(check, why) for check in ("loopback", "dial-back", "peers")),
        ]
        return Prospect(findings=[finding.to_wire() for finding in findings])
    findings = [good("invitation", f"the invitation for {name} is good")]
    findings.append(_addresses(runtime, view, candidate))
    votes = claimed.role is Role.VOTER
    if findings[-1].ok:
        with runtime.dialled.alone(name):
            findings.append(_dialled_back(runtime, candidate, votes))
    else:
        findings.append(skipped("dial-back", "it needs an address that can be its"))
    told = prospect(runtime, view, name, claimed.role)
    found, certify = [f.to_wire() for f in findings], _to_certify(view, candidate)
    return replace(told, findings=found, certify=certify)


def _to_certify(view: View, candidate: Candidate) -> tuple[str, ...] | None:
    """Return what the candidate's next certificate is to name, None where the one it has will do.

    A server that was given up keeps its certificate, which was revoked then; one whose addresses
    have changed has one that etcd would refuse.
    """
    wanted = tuple(certified_addresses(certifiable(view, candidate.name, candidate.addresses)))
    try:
        check_recordable(view, candidate.name, candidate.address, candidate.certificate)
    except RefusedError:
        return wanted
    named = {plain(address) for address in candidate.certificate.addresses}
    return None if {plain(address) for address in wanted} <= named else wanted


def prospect(runtime: MemberRuntime, view: View, name: str, role: Role) -> Prospect:
    """Return what a joiner is to be, whom it must be able to reach, and what that does."""
    change = view.change_under_way
    leaves = change.name if change is not None else None
    well = runtime.detector.answering(0.0) | {runtime.name}
    members = tuple(
        Voter(m.name, m.address, m.door_port, m.peer_port, m.fingerprints[0], m.name not in well)
        for m in view.members.values()
        if m.role is Role.VOTER and m.name != leaves and m.certificates
    )
    foretell = forecast.with_voter if role is Role.VOTER else forecast.with_nonvoting
    known = strength_known(runtime)
    told = foretell(known, name)
    pauses = role is Role.VOTER and (known.voters < 3 or known.spare == 0)
    return Prospect(members, role.value, told.to_wire(), known.answering if pauses else 0)


def read_records(runtime: MemberRuntime, name: str, seconds: float = READ_SECONDS) -> View:
    """Read the records to decide on a joiner, in so many seconds.

    Raises:
        QuorumError: there is no quorum.
    """
    try:
        return runtime.store.read(seconds)
    except EtcdError as error:
        raise QuorumError(
            f"cannot take in {name}: {runtime.name} has no quorum",
            "start the servers that 'collective show' lists there as offline",
        ) from error


def _addresses(runtime: MemberRuntime, view: View, candidate: Candidate) -> Finding:
    try:
        check_addresses(view, candidate.name, (candidate.address,))
        check_advertised(view, candidate.name, runtime.plan.address, candidate.address)
    except CollectiveError as error:
        return problem("loopback", error)
    return good("loopback", f"{candidate.address} can be that of {candidate.name}")


def _dialled_back(runtime: MemberRuntime, candidate: Candidate, votes: bool) -> Finding:
    try:
        dial_back(runtime.name, candidate)
        if votes:
            knock(runtime.name, candidate.name, candidate.address, candidate.peer_port)
    except CollectiveError as error:
        return problem("dial-back", error)
    port = f", and its peer port {candidate.peer_port}" if votes else ""
    there = where(candidate.address, candidate.door_port)
    return good("dial-back", f"{runtime.name} reaches {candidate.name} at {there}{port}")
