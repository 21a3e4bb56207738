"""Give a member another address: what a voter does for the server whose address changed.

A server with a new address cannot do it alone: its certificate does not name that address yet, so
the other etcds refuse it, and they dial the old one. Its daemon can still ask: a door believes a
certificate by its fingerprint, wherever it comes from. So its next certificate, which names both
addresses, is recorded with the new one, and taken up by the voters before etcd hears of the URL.
Alone in its collective it does all itself.

It does not restart anything; ``keeper``, on the server that moves, does.

Invariants:
  * Refused, or not reached at the new address, means that nothing was changed: a wrong peer URL
    cannot be taken back without the quorum that it may cost (etcd issue 6420).
  * What is told of a place where the member is not is the same whatever is there: it must not find
    out by it which ports of others are open.
  * A learner's URL is never updated: etcd would make a voter of it (etcd issue 21694).
  * Each step finds out what an earlier, broken off run has done, and goes on from there.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection
from dataclasses import dataclass, replace

from collective.daemon.certificates.trust_round import wait_for_round
from collective.daemon.clock import epoch
from collective.daemon.member.quorum import needs_quorum
from collective.daemon.member.recorded import check_recordable
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.changes import CHANGE_SECONDS
from collective.daemon.membership.learner import members_of
from collective.daemon.retries import until_written
from collective.errors import EtcdError, ProtocolError, RefusedError, UnreachableError
from collective.etcd.api import hex_id
from collective.etcd.deadline import within
from collective.etcd.record_store import RecordStore
from collective.failpoints import Step, reached
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.pki import Certificate, judge_certificate
from collective.policy.addressing import (
    check_advertised,
    check_readdress,
    owner_of,
    plain,
    vacated,
    vacating,
)
from collective.protocol.interfaces import is_local
from collective.protocol.messages import NewAddress
from collective.protocol.peer import unreachable

log = logging.getLogger(__name__)

_DIAL_SECONDS = 3.0
_UPDATE_TRIES = 4


@dataclass(frozen=True)
class Wish:
    """What a server asks for.

    Attributes:
        name: of the server.
        address: its new one.
        certificate: its next one, which names it.
        in_use: fingerprint of the certificate that it shows.
        prepare: whether etcd is not to hear of it yet: the server asks again, in its turn.
    """

    name: str
    address: str
    certificate: Certificate
    in_use: str
    prepare: bool = False


def answer(runtime: MemberRuntime, member: MemberRecord, shown: str, wanted: NewAddress) -> None:
    """Serve a member that has a new address.

    Args:
        runtime: this server.
        member: who asks.
        shown: fingerprint of the certificate with which it asks.
        wanted: what it asks for.

    Raises:
        ProtocolError: the message is broken.
        RefusedError, UnreachableError: see ``policy.addressing``; it is not at that address.
        QuorumError, EtcdError: the store did not answer.
    """
    with needs_quorum(runtime, "change the address of a member"):
        wish = _wish(member.name, shown, wanted)
        view = runtime.store.read()
        gone = _gone_from(runtime, view, wish)
        check_readdress(view, member.name, wish.address, gone)
        free = vacating(view, gone)
        check_advertised(free, member.name, runtime.plan.address, wish.address)
        _refuse_copy(runtime, member, wanted)
        _reach(runtime, replace(member, address=wish.address))
        reached(Step.READDRESS_DIAL_BACK)
        grant(runtime, wish, gone)


def _gone_from(runtime: MemberRuntime, view: View, wish: Wish) -> frozenset[str]:
    """Return who has the wanted address by the records, and was found not to be there.

    That the server that wants it is there, is seen by ``_reach``.
    """
    owner = owner_of(view, wish.address, wish.name)
    if owner is None:
        return frozenset()
    own = owner.name == runtime.name
    there = is_local(wish.address) if own else _is_there(runtime, owner)
    return frozenset() if there else frozenset((owner.name,))


def _is_there(runtime: MemberRuntime, member: MemberRecord) -> bool:
    peer = runtime.peers.client(member)
    try:
        peer.open(_DIAL_SECONDS)
        return True
    except UnreachableError:
        return False
    finally:
        peer.close()


def _wish(name: str, shown: str, wanted: NewAddress) -> Wish:
    address = wanted.address
    if address != str(plain(address)):
        raise ProtocolError(f"the address {address} is not in its shortest form")
    following = judge_certificate(wanted.certificate, name)
    return Wish(name, address, following, shown, wanted.prepare)


def _refuse_copy(runtime: MemberRuntime, member: MemberRecord, wanted: NewAddress) -> None:
    """See that no other server answers where the member is by its record.

    Raises:
        RefusedError: one does: that one, or the one that asks, is a copy.
    """
    answer = runtime.detector.last_answers().get(member.name)
    status = None if answer is None else answer.status
    there = "" if status is None else status.instance
    if member.address == wanted.address or not there or not wanted.instance:
        return
    if there != wanted.instance:
        raise RefusedError(
            f"{member.name} answers at {member.address}, and the server at {wanted.address} is "
            "another one: one of the two is a copy",
            f"stop the one that is not to be {member.name}",
        )


def _reach(runtime: MemberRuntime, member: MemberRecord) -> None:
    """See that the member is at its new address, at both doors.

    Raises:
        UnreachableError: nobody answers there, or somebody else does.
    """
    peer = runtime.peers.client(member)
    try:
        peer.open(_DIAL_SECONDS)
        if member.role is Role.VOTER:
            _knock(member)
    except UnreachableError as error:
        log.info("a member is not at its new address: %s name=%s", error, member.name)
        raise UnreachableError(
            f"{runtime.name} does not find {member.name} at {member.address}: nothing answers "
            "there, or another server does",
            f"check the address, and firewalls between {runtime.name} and {member.name}; the log "
            f"of collectived on {runtime.name} says more",
        ) from error
    finally:
        peer.close()


def _knock(member: MemberRecord) -> None:
    """See that the member's peer port is open."""
    address, port = member.address, member.peer_port
    try:
        socket.create_connection((address, port), timeout=_DIAL_SECONDS).close()
    except OSError as error:
        raise unreachable(address, port, error, _DIAL_SECONDS) from error


def grant(runtime: MemberRuntime, wish: Wish, gone: Collection[str] = ()) -> None:
    """Record a new address that was proven, have the voters take it up, and tell etcd.

    Args:
        runtime: this server.
        wish: what is asked for.
        gone: members that were found not to be at their recorded address: who has the new one
            has none from then on.

    Raises:
        RefusedError: see ``policy.addressing``; nothing was changed.
        EtcdError: etcd did not do it, or did not say so: ask again.
    """
    moved = _record(runtime.store, wish, gone)
    reached(Step.READDRESS_RECORD)
    if moved.role is Role.VOTER:
        wait_for_round(runtime, wish.certificate.fingerprint)
        reached(Step.READDRESS_TRUST)
        if wish.prepare:
            return
        _update(runtime, moved)
    reached(Step.READDRESS_UPDATE)
    log.debug("a member has a new address name=%s address=%s", wish.name, wish.address)


def _record(store: RecordStore, wish: Wish, gone: Collection[str] = ()) -> MemberRecord:
    def attempt() -> MemberRecord | None:
        view = store.read()
        member = check_readdress(view, wish.name, wish.address, gone)
        owner = owner_of(view, wish.address, wish.name)
        moved = replace(member, address=wish.address)
        certificate = wish.certificate
        if certificate.fingerprint not in member.fingerprints:
            check_recordable(vacating(view, gone), wish.name, wish.address, certificate)
            moved = moved.with_next(certificate.pem, wish.in_use)
        if moved == member:
            return moved
        former = None if owner is None else vacated(owner)
        if former is not None:
            log.warning(
                "a member is not at its address, which is another's now name=%s address=%s",
                former.name,
                wish.address,
            )
        return moved if store.readdress_member(view, moved, epoch(), former) else None

    return until_written(f"change the address of {wish.name}", attempt)


def _update(runtime: MemberRuntime, member: MemberRecord) -> None:
    """Tell etcd the new URL, and look whether it knows it: an error may mean that it was done.

    Raises:
        EtcdError: it does not know it.
    """
    for _ in range(_UPDATE_TRIES):
        if _knows(runtime, member):
            return
        try:
            with within(CHANGE_SECONDS):
                _make_room(runtime, member)
            with within(CHANGE_SECONDS):
                runtime.gateway.update_member(int(member.member_id, 16), member.url)
        except EtcdError as error:
            log.info("etcd did not say that it took a URL: %s name=%s", error, member.name)
    if not _knows(runtime, member):
        raise EtcdError(f"etcd does not take {member.url} for {member.name}", "try again")


def _make_room(runtime: MemberRuntime, member: MemberRecord) -> None:
    """Take the member's URL from another one that has it still: etcd has no two with one URL.

    That one gets the URL of its record, unless a third one has that.
    """
    voters = {m.member_id: m for m in runtime.records_view.view.voters.values()}
    listed = members_of(runtime.gateway)
    taken = {url for found in listed for url in found.peer_urls}
    for found in listed:
        holder = voters.get(hex_id(found.id))
        if holder is None or holder.name == member.name or found.learner:
            continue
        if found.peer_urls == (member.url,):
            url = vacated(holder).url if holder.url in taken else holder.url
            runtime.gateway.update_member(found.id, url)


def is_dialled_right(runtime: MemberRuntime) -> bool:
    """See that etcd has the URLs of the records, and give it ours where it has another for us.

    Who made room for a member that got our former address may have come late.

    Raises:
        EtcdError: etcd did not answer.
    """
    voters = runtime.records_view.view.voters
    own = voters[runtime.name]
    if not _knows(runtime, own):
        with within(CHANGE_SECONDS):
            runtime.gateway.update_member(int(own.member_id, 16), own.url)
    urls = {hex_id(m.id): m.peer_urls for m in members_of(runtime.gateway)}
    return all(urls.get(m.member_id) == (m.url,) for m in voters.values())


def _knows(runtime: MemberRuntime, member: MemberRecord) -> bool:
    ours = next((m for m in members_of(runtime.gateway) if hex_id(m.id) == member.member_id), None)
    if ours is None:
        raise EtcdError(f"etcd has no member {member.member_id} ({member.name})")
    if ours.learner:
        raise EtcdError(f"{member.name} is a learner of etcd, whose URL must not change")
    return ours.peer_urls == (member.url,)
