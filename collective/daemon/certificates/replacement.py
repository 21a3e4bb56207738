"""Another certificate for this server: recorded, taken up, shown, and the former one revoked.

    step      what is where                                      a crash then means
    prepare   the next key and certificate are in ``next.pem``   the same command uses them
    record    the record lists both                              it goes on by itself
    trust     every voter that answers lets both in              the same
    use       the next one is shown, its predecessor has signed  only the former one is left
    retire    the record lists the next one alone; the former    done
              one is revoked

A server that was off meanwhile knows the new one by the former one's signature (``succession``).

Invariants:
  * A certificate is recorded, and taken up, before it is shown: no member refuses it.
  * One thread at a time changes which certificate is in use or recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from collective.daemon.certificates.trust_round import is_taken_up, wait_for_round
from collective.daemon.clock import elapsed, epoch
from collective.daemon.member.recorded import check_recordable
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.daemon.nonvoting import voters
from collective.daemon.retries import until_written
from collective.errors import RefusedError
from collective.etcd.record_store import RecordStore
from collective.failpoints import Step, reached
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import Certificate, judge_certificate
from collective.protocol.messages import CERTIFICATE, NextCertificate, Recorded

log = logging.getLogger(__name__)

Emit = Callable[[str, str], None]

_SYNC_SECONDS = 3.0
_ASK_SECONDS = 10.0
_LOOK_SECONDS = 30.0


def replace_certificate(
    runtime: MemberRuntime, addresses: Sequence[str], emit: Emit
) -> Certificate:
    """Give this server another key and certificate.

    Args:
        runtime: this server.
        addresses: that the certificate is to name.
        emit: gets each step's name and a sentence.

    Raises:
        EtcdError: the store did not answer, or a voter does not take it up; it goes on by itself
            where it was recorded.
        RefusedError: this server is not a member.
    """
    with runtime.replacing:
        following = runtime.credentials.prepare_next(addresses)
        reached(Step.REPLACE_PREPARE)
        if following.fingerprint not in _own(runtime, runtime.records_view.view).fingerprints:
            _record(runtime, following)
        reached(Step.REPLACE_RECORD)
        emit("record", "the members know the next certificate")
        _carry_out(runtime, following, emit)
        return following


def _carry_out(runtime: MemberRuntime, following: Certificate, emit: Emit) -> None:
    if runtime.votes:
        wait_for_round(runtime, following.fingerprint)
        emit("trust", "every voter that answers lets it in")
    reached(Step.REPLACE_TRUST)
    former = runtime.credentials.identity
    runtime.use_next()
    reached(Step.REPLACE_USE)
    runtime.reporter.look_at_door()
    log.info("new certificate fingerprint=%s former=%s", following.fingerprint, former.fingerprint)
    emit("use", "this server shows it")
    retire_others(runtime)
    reached(Step.REPLACE_RETIRE)
    emit("retire", "the former certificate opens no door any more")


def _own(runtime: MemberRuntime, view: View) -> MemberRecord:
    record = view.members.get(runtime.name)
    if record is None:
        raise RefusedError(f"cannot change the certificate: {runtime.name} is not a member")
    return record


def _record(runtime: MemberRuntime, following: Certificate) -> None:
    """Have the next certificate recorded beside the one in use, here or by a voter."""
    if runtime.votes:
        revision = record_next(
            runtime.store, runtime.name, following, runtime.credentials.identity.fingerprint
        )
    else:
        revision = _have_recorded(runtime, following.pem)
    runtime.records_view.wait_for(revision, _SYNC_SECONDS)


def _have_recorded(runtime: MemberRuntime, pem: str) -> int:
    """Have a voter do what ``take_request`` says; return a revision that has it."""
    body = NextCertificate(pem)
    return voters.ask(runtime, CERTIFICATE, body, Recorded, _ASK_SECONDS).revision


def record_next(store: RecordStore, name: str, following: Certificate, in_use: str) -> int:
    """Record the next certificate of a member, on a voter; return a revision that has it.

    Raises:
        RefusedError: it must not be recorded, or the server is no member.
    """

    def attempt() -> int | None:
        view = store.read()
        record = view.members.get(name)
        if record is None or in_use not in record.fingerprints:
            raise RefusedError(f"cannot record a certificate: {name} does not have {in_use[:16]}")
        if following.fingerprint in record.fingerprints:
            return view.newest
        # Alone, a server may be about to join from another address than the one that is recorded.
        if len(view.members) > 1:
            check_recordable(view, name, record.address, following)
        written = store.put_member(view, record.with_next(following.pem, in_use), epoch())
        return view.revision + 1 if written else None

    return until_written(f"record a certificate of {name}", attempt)


def retire_others(runtime: MemberRuntime) -> None:
    """Revoke all certificates of this server but the one in use.

    Raises:
        EtcdError: the store did not answer; nothing was changed.
    """
    if len(_own(runtime, runtime.records_view.view).certificates) < 2:
        return
    if runtime.votes:
        own = runtime.credentials.identity
        revision = record_only(runtime.store, runtime.name, own.fingerprint)
    else:
        revision = _have_recorded(runtime, "")
    runtime.records_view.wait_for(revision, _SYNC_SECONDS)


def record_only(store: RecordStore, name: str, in_use: str) -> int:
    """Revoke all certificates of a member but one, on a voter; return a revision that has it."""

    def attempt() -> int | None:
        view = store.read()
        record = view.members.get(name)
        if record is None or in_use not in record.fingerprints:
            raise RefusedError(f"cannot revoke certificates: {name} does not have {in_use[:16]}")
        if len(record.certificates) == 1:
            return view.newest
        written = store.put_member(view, record.with_only(in_use), epoch())
        return view.revision + 1 if written else None

    return until_written(f"revoke certificates of {name}", attempt)


def take_request(runtime: MemberRuntime, member: MemberRecord, shown: str, pem: str) -> int:
    """Record the next certificate of a member that has no etcd, or revoke its former ones.

    Args:
        runtime: this server, a voter.
        member: who asks.
        shown: fingerprint of the certificate with which it asks.
        pem: the next certificate; "" to revoke all but the one with which it asks.

    Returns:
        A revision that has it.

    Raises:
        ProtocolError, RefusedError: it must not be recorded.
    """
    if not pem:
        return record_only(runtime.store, member.name, shown)
    return record_next(runtime.store, member.name, judge_certificate(pem, member.name), shown)


class Replacement(Worker):
    """A thread that goes on with a change that was cut, and looks at the door."""

    name = "certificate"
    idle_seconds = eager_seconds = 5.0

    def __init__(self, runtime: MemberRuntime) -> None:
        super().__init__(runtime)
        self._looked = float("-inf")

    def _round(self) -> bool:
        runtime = self._runtime
        own = runtime.records_view.view.members.get(runtime.name)
        if own is not None and runtime.replacing.acquire(blocking=False):
            try:
                if not runtime.etcd.detoured:  # etcd shows another one then: ``recovery``
                    self._go_on(own)
            finally:
                runtime.replacing.release()
        if elapsed() - self._looked > _LOOK_SECONDS and runtime.reporter.look_at_door():
            self._looked = elapsed()
        return False

    def _go_on(self, own: MemberRecord) -> None:
        runtime = self._runtime
        following, in_use = runtime.credentials.next, runtime.credentials.identity.fingerprint
        if following is not None and following.fingerprint in own.fingerprints:
            view = runtime.records_view.view
            if runtime.votes and not is_taken_up(runtime, view, following.fingerprint):
                return  # not waited for: a change of the address must not wait for this
            _carry_out(runtime, following, lambda step, said: log.info("%s step=%s", said, step))
        elif len(own.certificates) > 1 and in_use in own.fingerprints:
            retire_others(runtime)
