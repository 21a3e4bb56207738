"""Make a candidate a learner of etcd, with its record; the sponsor's last step.

Invariants:
  * The record is there before the learner, so none is ever nobody's; and every voter that answers
    lets it in before it is one.
  * Nothing is written unless the invitation is still claimed by this candidate's certificate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from collective.daemon.certificates.trust_round import until_taken_up
from collective.daemon.clock import elapsed, epoch, pause
from collective.daemon.member.recorded import check_recordable
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.candidate import Candidate
from collective.daemon.membership.changes import CHANGE_SECONDS
from collective.daemon.retries import until_written, until_written_whoever_leads
from collective.errors import EtcdError, EtcdUnavailableError, InvitationError, RefusedError
from collective.etcd.api import EtcdApi, EtcdMember, hex_id
from collective.etcd.deadline import within
from collective.etcd.record_store import RecordStore
from collective.failpoints import Step, reached
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.protocol.messages import AdmissionStep

log = logging.getLogger(__name__)

_LIST_SECONDS = 3.0
_SAME_ID_SECONDS = 1.05
_EVICT_TRIES = 4
_TURN_SECONDS = 5.0
_TURN_POLL_SECONDS = 0.03
_FRESH_SECONDS = 4.0
_IN_THE_WAY = ("too many learner", "exist")


def members_of(gateway: EtcdApi) -> list[EtcdMember]:
    """Return etcd's members, with a deadline."""
    with within(_LIST_SECONDS):
        return gateway.members()


def others_turn(gateway: EtcdApi, url: str) -> bool:
    """Tell whether another server is being taken in: joins queue, one learner at a time."""
    return any(m.learner and url not in m.peer_urls for m in members_of(gateway))


def wait_for_turn(gateway: EtcdApi, url: str) -> Iterator[AdmissionStep | None]:
    """Wait for a moment while another server is taken in, which mostly takes no longer.

    Yields:
        First that this is what is waited for, then None now and then.
    """
    deadline = elapsed() + _TURN_SECONDS
    line: AdmissionStep | None = AdmissionStep("wait")
    while elapsed() < deadline and others_turn(gateway, url):
        yield line
        line = None
        pause(_TURN_POLL_SECONDS)


def take_up(runtime: MemberRuntime, candidate: Candidate) -> Iterator[AdmissionStep | None]:
    """Write the record of a candidate, and wait until the voters let it in, and for its turn.

    Joiners that wait at the same time are taken up by one restart of each etcd.

    Yields:
        Each step when it is done, None where there is none for a moment.

    Raises:
        RefusedError: etcd has a member of this name, or a voter with this URL.
        InvitationError: its invitation is no longer its.
        EtcdError: a voter does not take it up.
    """
    # The records first: the list that etcd gives after this read is at least as new.
    view = runtime.store.read()
    members = members_of(runtime.gateway)
    check_namesake(view, members, candidate)
    ours = _find(members, candidate.url)
    member_id = hex_id(ours.id) if ours is not None and ours.learner else ""
    write_record(runtime.store, candidate, member_id)
    yield AdmissionStep("record")
    reached(Step.SPONSOR_RECORD)
    yield from until_it_may_enter(
        runtime,
        candidate.certificate.fingerprint,
        candidate.url,
        lambda: write_record(runtime.store, candidate, member_id),
    )
    yield AdmissionStep("trust")
    reached(Step.SPONSOR_TRUST)


def until_it_may_enter(
    runtime: MemberRuntime, fingerprint: str, url: str, write_again: Callable[[], object]
) -> Iterator[AdmissionStep | None]:
    """Wait until the voters let a server in, and for its turn; yield now and then, or a step.

    Args:
        runtime: this server, a voter.
        fingerprint: of the server's certificate, which is recorded.
        url: of its etcd.
        write_again: writes its record anew: whoever leads drops one that nobody goes on with.

    Raises:
        EtcdError: a voter does not take it up.
    """
    written = elapsed()
    for waiting in (until_taken_up(runtime, fingerprint), wait_for_turn(runtime.gateway, url)):
        for line in waiting:
            yield line
            if elapsed() - written > _FRESH_SECONDS:
                write_again()
                written = elapsed()


def add(runtime: MemberRuntime, candidate: Candidate) -> tuple[int, str] | None:
    """Make the candidate a learner and write its record; None when it must wait its turn.

    Raises:
        RefusedError: etcd has a member of this name, or a voter with this URL.
        InvitationError: its invitation is no longer its.
        EtcdError: etcd refused it.
    """
    return enter(
        runtime,
        candidate.name,
        candidate.url,
        lambda member_id: write_record(runtime.store, candidate, member_id),
        lambda: _drop(runtime.store, candidate),
    )


def enter(
    runtime: MemberRuntime,
    name: str,
    url: str,
    record: Callable[[str], View],
    undo: Callable[[], None],
) -> tuple[int, str] | None:
    """Make a server a learner of etcd; None when it must wait its turn.

    The caller has just written its record, without an id: the leader then knows whose a learner is
    that a sponsor has left behind, and drops a record that etcd has no learner for.

    Args:
        runtime: this server.
        name, url: of the server to be.
        record: writes its record with an etcd id.
        undo: takes the record back, where etcd refuses the learner.

    Returns:
        Its etcd id, and etcd's list of members.

    Raises:
        RefusedError: a voter has that URL.
        EtcdError: etcd refused it.
    """
    ours = _find(members_of(runtime.gateway), url)
    if ours is not None and not ours.learner:
        raise RefusedError(f"cannot take in {name}: a voter has its address already: {url}")
    if ours is None:
        try:
            ours = _add_learner(runtime, name, url)
        except EtcdError:
            undo()
            raise
        if ours is None:
            return None
        reached(Step.SPONSOR_ADD)
    view = record(hex_id(ours.id))
    reached(Step.SPONSOR_RECORDED)
    return ours.id, _initial_cluster(view, members_of(runtime.gateway), name, ours.id)


def evict(runtime: MemberRuntime, record: MemberRecord) -> bool:
    """Remove a learner that gives up its join from etcd; False when it is a voter by now.

    It may be promoted between the look and the removal. That removal leaves the voters that
    there were before, and these had promoted it just now: so no quorum is lost.

    Raises:
        EtcdError: etcd did not do it.
    """
    for left in reversed(range(_EVICT_TRIES)):
        found = next((m for m in members_of(runtime.gateway) if _is_of(m, record)), None)
        if found is None:
            break
        if not found.learner:
            return False
        try:
            with within(CHANGE_SECONDS):
                runtime.gateway.remove(found.id)
        except EtcdError:
            if not left:
                raise
    log.info("a learner gave up its join name=%s", record.name)
    reached(Step.ABORT_EVICT)
    return True


def _is_of(member: EtcdMember, record: MemberRecord) -> bool:
    """Tell whether a member of etcd is that of a record, which may not have its id yet."""
    if record.member_id:
        return hex_id(member.id) == record.member_id
    return record.url in member.peer_urls


def drop(store: RecordStore, record: MemberRecord) -> None:
    """Drop the record and the invitation of a learner that was evicted, and revoke it.

    Raises:
        EtcdError, RefusedError: it was not written.
    """

    def attempt() -> bool | None:
        view = store.read()
        current = view.members.get(record.name)
        if current is None or current.member_id != record.member_id:
            return True
        return store.put_out(view, current, epoch()) or None

    until_written(f"drop the learner {record.name}", attempt)
    reached(Step.ABORT_DROP)


def _drop(store: RecordStore, candidate: Candidate) -> None:
    """Drop the record of a learner that etcd refused to add."""
    view = store.read()
    record = view.members.get(candidate.name)
    if record is not None and record.role is Role.LEARNER and not record.member_id:
        store.drop_member(view, record, epoch())


def check_namesake(view: View, members: Sequence[EtcdMember], candidate: Candidate) -> None:
    """Refuse a candidate whose name is, by its id, another member's that etcd still has.

    That one may be a voter whose promotion nobody has written down yet; without its record it
    would count, and nobody would know whose it is.

    Raises:
        RefusedError: as above.
    """
    old = view.members.get(candidate.name)
    for member in members:
        if old is None or hex_id(member.id) != old.member_id:
            continue
        if candidate.url not in member.peer_urls:
            raise RefusedError(
                f"cannot take in {candidate.name}: a server of this name is being taken in at "
                f"{old.address}",
                "try again when 'collective show' there says what became of it",
            )


def _find(members: list[EtcdMember], url: str) -> EtcdMember | None:
    return next((m for m in members if url in m.peer_urls), None)


def _add_learner(runtime: MemberRuntime, name: str, url: str) -> EtcdMember | None:
    """Ask etcd for it, and look whether it was done; None when another learner is in the way.

    Raises:
        EtcdError: etcd refused it for another reason.
    """
    for left in (1, 0):
        try:
            with within(CHANGE_SECONDS):
                runtime.gateway.add_learner(url)
        except EtcdUnavailableError as error:
            log.info("etcd did not say that it added a learner: %s name=%s", error, name)
        except EtcdError as error:
            if _is_of_this_second(error) and left:
                pause(_SAME_ID_SECONDS)
                continue
            if not any(words in error.message for words in _IN_THE_WAY):
                raise
        break
    return _find(members_of(runtime.gateway), url)


def _is_of_this_second(error: EtcdError) -> bool:
    """Tell whether etcd would give the id of a member that was removed.

    The id is a hash of URL, cluster token and the time in seconds (membership.NewMember), so a
    server that is deleted and taken in again within one second gets the one that was removed,
    and etcd refuses that with these words.
    """
    return "member not found" in error.message


def write_record(store: RecordStore, candidate: Candidate, member_id: str) -> View:
    """Write the record of a candidate that is a learner, and return the view it was decided on.

    Raises:
        InvitationError: its invitation is no longer its.
        RefusedError: it was given up meanwhile, or is a member.
    """
    certificate = candidate.certificate

    def attempt() -> View | None:
        view = store.read()
        check_claim(view, candidate)
        check_recordable(view, candidate.name, candidate.address, certificate)
        old = view.members.get(candidate.name)
        if old is not None and (old.role is not Role.LEARNER or old.fallback is not None):
            raise RefusedError(f"cannot take in {candidate.name}: it is a member already")
        record = MemberRecord(
            candidate.name,
            member_id,
            Role.LEARNER,
            candidate.address,
            candidate.door_port,
            candidate.peer_port,
            (certificate.pem,),
            epoch(),
            target=candidate.role or Role.VOTER,
        )
        return view if store.admit_member(view, record, epoch()) else None

    # Leaders change when another server has just been deleted, or its etcd is restarted.
    return until_written_whoever_leads(f"take in {candidate.name}", attempt)


def _initial_cluster(view: View, members: list[EtcdMember], joiner: str, member_id: int) -> str:
    def name(member: EtcdMember) -> str:
        if member.id == member_id:
            return joiner
        record = view.by_member_id(hex_id(member.id))
        return record.name if record is not None else member.name

    return ",".join(f"{name(m)}={url}" for m in members for url in m.peer_urls)


def check_claim(view: View, candidate: Candidate) -> None:
    """See that the invitation is still there and still claimed by this candidate's certificate.

    Raises:
        InvitationError: it was used up, revoked, replaced, or has expired.
    """
    invitation = view.invitations.get(candidate.name)
    if invitation is None or invitation.claimed_by != candidate.certificate.fingerprint:
        raise InvitationError(
            f"the invitation for {candidate.name} is no longer good",
            f"run 'collective invite {candidate.name}' on a member for a new token",
        )
