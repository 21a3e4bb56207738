"""The member's side of a join: challenge, claim, dial-back, record, trust, add.

It does not promote: whoever leads does (``reconciler``).

Invariants:
  * No address of a stranger is dialled before his proof, and next to nothing is looked up for him.
  * Nothing of the membership changes before the dial-back has succeeded.
  * Each step finds out what an earlier, broken off run has done, and goes on from there.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from collective import __version__
from collective.daemon.clock import epoch
from collective.daemon.joining.guests import voters_of
from collective.daemon.joining.invitations import guests_of
from collective.daemon.joining.remote_dry_run import prospect, read_records, rehearse
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.recorded import check_recordable
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.arrivals import take_in
from collective.daemon.membership.candidate import Candidate
from collective.daemon.membership.dial_back import dial_back, knock
from collective.daemon.membership.learner import add, check_claim, members_of, take_up
from collective.daemon.retries import until_written_whoever_leads
from collective.errors import EtcdUnavailableError, ProtocolError
from collective.etcd.api import hex_id
from collective.failpoints import Step, reached
from collective.model.guest_list import collective_id
from collective.model.names import parse_server_name
from collective.model.records import Role
from collective.model.view import View, member_key
from collective.pki import EnrollmentStatement, judge_certificate, verify_enrollment
from collective.policy.addressing import check_advertised, plain
from collective.policy.admission import Proof, judge
from collective.policy.membership import check_addresses, check_admission
from collective.protocol import messages
from collective.protocol.peer import where
from collective.protocol.web import Request

log = logging.getLogger(__name__)

_NONCE = "enrollment nonce"
_ADMITTED = "enrollment admitted"
_RECORDED_SECONDS = 3.0


def challenge(runtime: MemberRuntime, request: Request) -> messages.Challenge:
    """Answer a stranger with a nonce that is good once, on this connection."""
    nonce = secrets.token_hex(32)
    request.memory[_NONCE] = nonce
    guests, asking = _guest_lists(runtime.records_view), request.peer.address
    return messages.Challenge(nonce, guests, runtime.name, __version__, epoch(), asking)


def _guest_lists(records_view: RecordsView) -> list[dict[str, str]]:
    """Return the guest list of each pending invitation, and the one of now, with names for people.

    They hold nothing that lets anybody in, and a joiner believes only the one that it has the
    hash of.
    """
    view = records_view.view
    lists = {invitation.guests for invitation in view.invitations.values()} | {guests_of(view)}
    return [{f: view.certificates.get(f, "") for f in guests} for guests in sorted(lists)]


def claim(runtime: MemberRuntime, request: Request) -> messages.Prospect:
    """Check a proof and claim the invitation for the certificate of who has it.

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
    claim = messages.Claim.from_wire(request.json())
    candidate = _candidate(claim)
    statement = _statement(runtime.credentials, candidate, nonce)
    signature = bytes.fromhex(claim.signature)
    proof = Proof(
        candidate.name,
        candidate.asked,
        candidate.certificate.fingerprint,
        lambda key: verify_enrollment(bytes.fromhex(key), statement, signature),
    )
    with runtime.proof_limiter.reading(runtime.records_view.view, proof) as seconds:
        read = read_records(runtime, proof.name, seconds)
    candidate = replace(candidate, addresses=_with_seen(candidate, request.peer.address))
    if claim.dry_run:
        return rehearse(runtime, read, proof, candidate)
    with tells_whose_etcd(runtime.name, candidate.name):
        view, role = _claimed(runtime, read, proof, candidate)
    reached(Step.SPONSOR_CLAIM)
    request.memory[_ADMITTED] = replace(candidate, role=role)
    log.info("an invitation was claimed name=%s from=%s", candidate.name, request.peer.address)
    return prospect(runtime, view, candidate.name, role)


def _candidate(claim: messages.Claim) -> Candidate:
    first = claim.addresses[0]
    if first != str(plain(first)):
        raise ProtocolError(f"the address {first} is not in its shortest form")
    name = parse_server_name(claim.name)
    shown = judge_certificate(claim.certificate, name)
    ports = claim.door_port, claim.peer_port
    return Candidate(name, None, claim.role, shown, claim.addresses, *ports)


def _with_seen(candidate: Candidate, seen: str) -> tuple[str, ...]:
    """Return the candidate's addresses, with the one that its connection comes from."""
    known = {plain(address) for address in candidate.addresses}
    if plain(seen) in known or plain(seen).is_loopback:
        return candidate.addresses
    return (*candidate.addresses, str(plain(seen)))


def _statement(credentials: Credentials, candidate: Candidate, nonce: str) -> EnrollmentStatement:
    return EnrollmentStatement(
        name=candidate.name,
        role=candidate.asked,
        server_fingerprint=credentials.identity.fingerprint,
        nonce=nonce,
        certificate_fingerprint=candidate.certificate.fingerprint,
        addresses=candidate.addresses,
        door_port=candidate.door_port,
        peer_port=candidate.peer_port,
    )


def _claimed(
    runtime: MemberRuntime, read: View, proof: Proof, candidate: Candidate
) -> tuple[View, Role]:
    held = [read]

    def attempt() -> tuple[View, Role] | None:
        view = held.pop() if held else read_records(runtime, proof.name)
        invitation = view.invitations.get(proof.name)
        claimed = judge(invitation, proof)
        check_admission(view, proof.name, runtime.name)
        check_addresses(view, proof.name, (candidate.address,))
        check_advertised(view, proof.name, runtime.plan.address, candidate.address)
        check_recordable(view, proof.name, candidate.address, candidate.certificate)
        written = claimed == invitation or runtime.store.claim(view, claimed)
        return (view, claimed.role) if written else None

    return until_written_whoever_leads(f"take in {proof.name}", attempt)


def confirm(runtime: MemberRuntime, asked: messages.ClaimQuestion) -> messages.ClaimAnswer:
    """Tell a joiner, who is a stranger, whether a claim is recorded, and in which collective.

    It costs nothing but a look at what is here, and tells nothing that lets anybody in.
    """
    name = parse_server_name(asked.name)
    view = runtime.records_view.view
    invitation = view.invitations.get(name)
    if invitation is None or invitation.claimed_by != asked.certificate:
        return messages.ClaimAnswer(claimed=False)
    collective = collective_id(runtime.plan.cluster_token)
    return messages.ClaimAnswer(True, collective, voters_of(view))


def admit(
    runtime: MemberRuntime, request: Request
) -> Iterator[messages.AdmissionStep | messages.Admission | None]:
    """Take the candidate of this connection in, as a learner; yield each step as it is done.

    Raises:
        ProtocolError: there was no claim on this connection.
        UnreachableError: the dial-back failed.
        RefusedError: another one is under way for the same name.
        QuorumError, EtcdError: etcd did not add it.
    """
    # A claim is good for one admission: a server that keeps its connection is a stranger again.
    candidate = request.memory.pop(_ADMITTED, None)
    if not isinstance(candidate, Candidate):
        raise ProtocolError("a server wants to be admitted without a claim")
    with tells_whose_etcd(runtime.name, candidate.name):
        yield from _take_in(runtime, candidate)


@contextmanager
def tells_whose_etcd(here: str, name: str) -> Iterator[None]:
    """Say that it was this server's etcd that did not answer: a joiner has one of its own.

    Args:
        here: this server.
        name: the server that joins.

    Raises:
        EtcdUnavailableError: instead of one that does not say whose.
    """
    try:
        yield
    except EtcdUnavailableError as error:
        raise EtcdUnavailableError(
            f"the etcd of {here} did not do its part while {here} took {name} in "
            f"({error.message})",
            f"when 'collective show' on {here} shows a quorum, run the same 'collective join' "
            "again, with the same token: it goes on where it was",
        ) from error


def _take_in(
    runtime: MemberRuntime, candidate: Candidate
) -> Iterator[messages.AdmissionStep | messages.Admission | None]:
    check_claim(runtime.store.read(), candidate)
    votes = candidate.role is Role.VOTER
    with runtime.dialled.alone(candidate.name):
        dial_back(runtime.name, candidate)
        if votes:
            knock(runtime.name, candidate.name, candidate.address, candidate.peer_port)
    yield messages.AdmissionStep("dial-back", where(candidate.address, candidate.door_port))
    reached(Step.SPONSOR_DIAL_BACK)
    token = runtime.plan.cluster_token
    if not votes:
        take_in(runtime, candidate)
        yield messages.AdmissionStep("record")
        yield messages.Admission(token, _for_joiner(runtime, candidate.name))
        return
    yield from take_up(runtime, candidate)
    added = add(runtime, candidate)
    if added is None:
        yield messages.AdmissionStep(messages.BUSY)
        return
    member_id, initial_cluster = hex_id(added[0]), added[1]
    yield messages.AdmissionStep("add", member_id=member_id)
    yield messages.Admission(
        token, _for_joiner(runtime, candidate.name), member_id, initial_cluster
    )


def _for_joiner(runtime: MemberRuntime, name: str) -> str:
    """Return the records of the voters and the joiner: whom it is to let in, and where they are.

    The rest it reads when it is in. Revocations are many, and this is one line of an answer. A
    voter that etcd has just promoted is recorded a moment later: the joiner refuses a list of
    etcd's members that its records do not bear out.
    """
    voters = {hex_id(member.id) for member in members_of(runtime.gateway) if not member.learner}
    runtime.records_view.wait_until(
        lambda view: voters <= {m.member_id for m in view.voters.values()}, _RECORDED_SECONDS
    )
    view = runtime.store.read()
    wanted = {member_key(member) for member in (*view.voters, name)}
    items = {key: item for key, item in view.items.items() if key in wanted}
    return View(view.revision, items).to_json(runtime.plan.cluster_token)
