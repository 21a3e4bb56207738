"""What whoever leads does for all: promote learners, evict stuck ones, finish changes.

It decides on what was observed, by the functions beside the class, and acts through etcd; every
action is safe to repeat and safe to do late, so two servers that both believe to lead do no harm.

Invariants:
  * A learner is promoted only when its own server answers and etcd finds it caught up (P2).
  * No voter is ever removed here, except to finish a removal that a command began.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from collective.daemon.clock import elapsed, epoch
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.daemon.membership.arrivals import Arrivals
from collective.daemon.membership.changes import CHANGE_SECONDS, finish
from collective.daemon.retries import growing
from collective.errors import CollectiveError, EtcdError
from collective.etcd.api import EtcdMember, Status, hex_id
from collective.etcd.deadline import within
from collective.failpoints import Step, reached
from collective.model.records import Change, MemberRecord, Role
from collective.model.view import View, member_key
from collective.protocol import messages

log = logging.getLogger(__name__)

_CALL_SECONDS = 2.0
_EAGER_SECONDS, _LONGEST_EAGER_SECONDS = 0.03, 0.5
# Whoever began a change finishes it; only when that takes so long is it taken over.
_PATIENCE_SECONDS = 2.0
_ADD_SECONDS = 10.0
#: A learner has so many times the time without progress for all of it.
WHOLE_TIMEOUTS = 4


@dataclass(frozen=True)
class LearnerProgress:
    """How far a learner was, and since when: monotonic seconds.

    Attributes:
        index: the highest that it has told.
        since: when it told that.
        begun: when it was first seen.
    """

    index: int
    since: float
    begun: float


def advance(
    known: Mapping[int, LearnerProgress], seen: Mapping[int, int], now: float
) -> dict[int, LearnerProgress]:
    """Return the progress of every learner.

    Args:
        known: from the last time.
        seen: learner id to its raft index, 0 for one that does not answer.
        now: monotonic seconds.
    """
    before = {member: known.get(member, LearnerProgress(-1, now, now)) for member in seen}
    return {
        member: before[member]
        if before[member].index >= index
        else LearnerProgress(index, now, before[member].begun)
        for member, index in seen.items()
    }


def eagerness(progress: Mapping[int, LearnerProgress], now: float) -> float:
    """Return how soon to look again: at once where a learner has just come, then less often.

    Each look is a handshake with each learner. One catches up in a moment, or takes long.
    """
    begun = max((p.begun for p in progress.values()), default=now)
    return growing(begun, now, _EAGER_SECONDS, _LONGEST_EAGER_SECONDS)


def stuck(progress: Mapping[int, LearnerProgress], now: float, timeout: float) -> list[int]:
    """Return the learners that made no progress for so many seconds, or take far too long.

    LearnerProgress is the learner's own word.
    """
    return [
        member
        for member, p in progress.items()
        if now - p.since > timeout or now - p.begun > WHOLE_TIMEOUTS * timeout
    ]


def lost_learners(view: View, members: Sequence[EtcdMember]) -> frozenset[str]:
    """Return the names of recorded learners that etcd does not have.

    One that has no id in its record yet is known by its URL, unless that is another record's: a
    server that was renamed while it was being taken in left a record under its old name.
    """
    ids = {hex_id(m.id) for m in members}
    recorded = {record.member_id for record in view.members.values()}
    nobodys = {url for m in members if hex_id(m.id) not in recorded for url in m.peer_urls}
    return frozenset(
        record.name
        for record in view.members.values()
        if record.role is Role.LEARNER
        and record.target is Role.VOTER
        and record.member_id not in ids
        and record.url not in nobodys
    )


def lost_voters(view: View, members: Sequence[EtcdMember], here: str) -> frozenset[str]:
    """Return the names of recorded voters that etcd has no more, and that no change removes.

    A learner that is put out at the very moment of its promotion leaves such a record. An id never
    comes back; but where our own is unknown too, all ids are new (a restored snapshot), and the
    records say nothing of who is lost.
    """
    ids = {hex_id(m.id) for m in members}
    own = view.members.get(here)
    if own is None or own.member_id not in ids:
        return frozenset()
    change = view.change_under_way
    leaving = change.name if change is not None else None
    return frozenset(
        name for name, m in view.voters.items() if m.member_id not in ids and name != leaving
    )


class Reconciler(Worker):
    """A thread that does the duties while this server's etcd leads."""

    name = "reconciler"
    idle_seconds, eager_seconds = 1.0, _EAGER_SECONDS
    level = logging.DEBUG

    def __init__(self, runtime: MemberRuntime, learner_timeout: float) -> None:
        super().__init__(runtime)
        self._timeout = learner_timeout
        self._progress: dict[int, LearnerProgress] = {}
        self._pending: tuple[Change, float] | None = None
        self._lost: dict[str, tuple[int, float]] = {}
        self._arrivals = Arrivals(runtime, learner_timeout)

    def _round(self) -> bool:
        """Do what is to be done; return whether something is still under way."""
        status = self._runtime.etcd.status()
        if not leads(status):
            self._progress = {}
            self._arrivals.forget()
            return False
        view = self._runtime.records_view.view
        self._take_over(view.change)
        with within(_CALL_SECONDS):
            members = self._runtime.gateway.members()
        learners = [m for m in members if m.learner]
        self._settle_records(view, members)
        indexes = {m.id: self._try_promotion(view, m) for m in learners}
        seen = {member: index for member, index in indexes.items() if index is not None}
        self._progress = advance(self._progress, seen, elapsed())
        self.eager_seconds = eagerness(self._progress, elapsed())
        for member in stuck(self._progress, elapsed(), self._timeout):
            self._evict(member)
            record = view.by_member_id(hex_id(member))
            if record is not None:
                self._lost[record.name] = (_revision(view, record.name), float("-inf"))
        awaited = self._arrivals.settle(view)
        return bool(seen) or awaited

    def _take_over(self, change: Change | None) -> None:
        """Finish a change that its server does not; whatever comes of it, the rest goes on."""
        if change is None or not self._is_overdue(change):
            return
        try:
            finish(self._runtime, change)
        except CollectiveError as error:
            log.warning("a change cannot be finished yet: %s name=%s", error, change.name)

    def _is_overdue(self, change: Change) -> bool:
        """Tell whether the server that began a change seems not to finish it."""
        if change.done:
            self._pending = None
            return False
        if self._pending is None or self._pending[0] != change:
            self._pending = (change, elapsed())
        return elapsed() - self._pending[1] > _PATIENCE_SECONDS

    def _settle_records(self, view: View, members: list[EtcdMember]) -> None:
        """Bring records of learners up with what etcd says, where a crash came in between."""
        learners = [
            m for m in view.members.values() if m.role is Role.LEARNER and m.target is Role.VOTER
        ]
        voters = {hex_id(m.id) for m in members if not m.learner}
        lost = lost_learners(view, members) | lost_voters(view, members, self._runtime.name)
        for record in learners:
            if record.member_id in voters:
                self._record_promotion(record)
        known, self._lost = self._lost, {}
        for name in lost:
            # A sponsor writes the record before it asks etcd, and again while it waits: give it
            # time to.
            seen = (_revision(view, name), elapsed())
            self._lost[name] = (
                known.get(name, seen) if known.get(name, seen)[0] == seen[0] else seen
            )
        for name, (_, since) in self._lost.items():
            if elapsed() - since > _ADD_SECONDS:
                self._drop(view.members[name])

    def _drop(self, record: MemberRecord) -> None:
        """Drop the record of a learner that etcd does not have, or what it was before."""
        view = self._runtime.store.read()
        if view.members.get(record.name) != record:
            return
        if record.fallback is Role.NONVOTING:
            log.warning("a promotion is given up: its server did not come name=%s", record.name)
            self._runtime.store.put_member(view, record.as_nonvoting(), epoch())
        else:
            log.warning("the record of a server that did not come is dropped name=%s", record.name)
            self._runtime.store.drop_member(view, record, epoch())

    def _try_promotion(self, view: View, learner: EtcdMember) -> int | None:
        """Promote a learner if it is ready; return its raft index, None once it is a voter."""
        record = view.by_member_id(hex_id(learner.id))
        if record is None:
            return 0
        try:
            status = self._ask(record)
        except CollectiveError as error:
            log.debug("the learner does not answer yet: %s name=%s", error, record.name)
            return 0
        if status is None:
            return 0
        try:
            with within(CHANGE_SECONDS):
                self._runtime.gateway.promote(learner.id)
        except EtcdError as error:
            log.debug("not promoted yet: %s name=%s", error, record.name)
            return status
        reached(Step.LEADER_PROMOTE)
        self._record_promotion(record)
        return None

    def _ask(self, record: MemberRecord) -> int | None:
        """Return the raft index of a learner that runs, None for one that does not yet."""
        peer = self._runtime.peers.client(record)
        try:
            raw = peer.call("GET", messages.STATUS, None, _CALL_SECONDS)
        finally:
            peer.close()
        status = messages.ServerStatus.from_wire(raw)
        return status.index if status.member_id == record.member_id else None

    def _record_promotion(self, promoted: MemberRecord) -> None:
        """Write down that a learner is a voter, if the name is still that very member's."""
        view = self._runtime.store.read()
        record = view.members.get(promoted.name)
        if record is None or record.role is not Role.LEARNER:
            return
        if record.member_id != promoted.member_id:
            return
        voter = replace(record, role=Role.VOTER, target=Role.VOTER, fallback=None)
        if self._runtime.store.promote_member(view, voter):
            log.debug("promoted to voter name=%s id=%s", record.name, record.member_id)
            reached(Step.LEADER_PROMOTED)

    def _evict(self, member: int) -> None:
        """Remove a learner; its record is dropped when etcd does not have it any more."""
        with within(_CALL_SECONDS):
            # A promotion that seemed to fail may have happened: a voter is not ours to remove.
            still = any(m.id == member and m.learner for m in self._runtime.gateway.members())
        if still:
            log.warning(
                "a learner made no progress for %.0f s, or did not become a voter in %.0f s, and "
                "is removed id=%s",
                self._timeout,
                self._timeout * WHOLE_TIMEOUTS,
                hex_id(member),
            )
            with within(CHANGE_SECONDS):
                self._runtime.gateway.remove(member)
        self._progress.pop(member, None)


def _revision(view: View, name: str) -> int:
    return view.mod_revision(member_key(name))


def leads(status: Status) -> bool:
    """Tell whether the etcd that says this leads."""
    return status.leader != 0 and status.leader == status.member_id
