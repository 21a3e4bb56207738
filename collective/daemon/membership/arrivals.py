"""Servers that do not vote, on their way in: the sponsor's last step, and the leader's.

No etcd is involved, so nothing has to catch up: such a server is in when its daemon answers as
the server that its record says.

Invariants:
  * One that does not get ready in time is put out again, and its certificate revoked.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from collective.daemon.clock import elapsed, epoch
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.candidate import Candidate
from collective.daemon.membership.learner import members_of, write_record
from collective.errors import CollectiveError
from collective.etcd.deadline import within
from collective.failpoints import Step, reached
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.protocol import messages

log = logging.getLogger(__name__)

_CALL_SECONDS = 2.0
_REMOVE_SECONDS = 1.0


def take_in(runtime: MemberRuntime, candidate: Candidate) -> None:
    """Write the record of a server that is not to vote; returns when our door lets it in.

    Raises:
        InvitationError, RefusedError: as ``learner.write_record``.
        EtcdError: a learner that it has left in etcd, from a former try, is not removed.
    """
    for member in members_of(runtime.gateway):
        if member.learner and candidate.url in member.peer_urls:
            with within(_REMOVE_SECONDS):
                runtime.gateway.remove(member.id)
    write_record(runtime.store, candidate, "")
    reached(Step.SPONSOR_NONVOTING)
    ours = candidate.certificate.fingerprint
    runtime.records_view.wait_until(lambda view: ours in view.certificates, _CALL_SECONDS)


class Arrivals:
    """What whoever leads does for them."""

    def __init__(self, runtime: MemberRuntime, timeout: float) -> None:
        self._runtime = runtime
        self._timeout = timeout
        self._since: dict[str, float] = {}

    def forget(self) -> None:
        """Begin to count anew: this server does not lead."""
        self._since = {}

    def settle(self, view: View) -> bool:
        """Take in who is ready, put out who is late; return whether some are still awaited."""
        awaited = [m for m in view.members.values() if _is_awaited(m)]
        self._since = {m.name: self._since.get(m.name, elapsed()) for m in awaited}
        still = [self._await(member) for member in awaited]
        return any(still)

    def _await(self, member: MemberRecord) -> bool:
        late = elapsed() - self._since[member.name] > self._timeout
        if member.role is Role.NONVOTING:
            if late:
                self._keep_as_it_is(member)
            return False
        if self._answers(member):
            self._accept(member)
            return False
        if late:
            self._put_out(member)
        return True

    def _answers(self, member: MemberRecord) -> bool:
        peer = self._runtime.peers.client(member)
        try:
            raw = peer.call("GET", messages.STATUS, None, _CALL_SECONDS)
            status = messages.ServerStatus.from_wire(raw)
        except CollectiveError as error:
            log.debug("a joining server does not answer: %s name=%s", error, member.name)
            return False
        finally:
            peer.close()
        return status.name == member.name and status.nonvoting

    def _accept(self, member: MemberRecord) -> None:
        view = self._runtime.store.read()
        if view.members.get(member.name) != member:
            return
        if self._runtime.store.promote_member(view, replace(member, role=Role.NONVOTING)):
            log.debug("taken in as a server that does not vote name=%s", member.name)
            reached(Step.LEADER_ACCEPT)

    def _put_out(self, member: MemberRecord) -> None:
        view = self._runtime.store.read()
        if view.members.get(member.name) == member:
            log.warning("a joining server did not answer and is put out name=%s", member.name)
            self._runtime.store.drop_member(view, member, epoch())

    def _keep_as_it_is(self, member: MemberRecord) -> None:
        """Take back a promotion that the server itself does not begin."""
        view = self._runtime.store.read()
        if view.members.get(member.name) == member:
            log.warning("a promotion was not begun and is given up name=%s", member.name)
            self._runtime.store.put_member(view, member.as_nonvoting(), epoch())


def _is_awaited(member: MemberRecord) -> bool:
    joins = member.role is Role.LEARNER and member.target is Role.NONVOTING
    return joins or (member.role is Role.NONVOTING and member.target is Role.VOTER)
