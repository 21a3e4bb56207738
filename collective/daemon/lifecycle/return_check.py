"""Before a voter's etcd starts: hear from a majority of the voters what has changed.

It decides nothing: ``policy.returning`` and ``policy.old_data`` do. Nothing is lost by waiting: an
etcd that finds no majority serves nobody either.

Invariants:
  * Each voter is asked over and over until enough have answered, whichever of them are off.
  * An answer counts only from who has shown a certificate that is recorded here, or proven to have
    taken the place of one.
  * No etcd starts while another server answers as this one where it was: a copy of a member would
    take its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.copy_check import copy_error, elsewhere
from collective.daemon.lifecycle.rollback_check import objection_to
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.retries import Pace
from collective.errors import CollectiveError
from collective.model.high_water_mark import HighWaterMark
from collective.model.layout import Layout
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.policy.returning import Report, missing, newest_agreed
from collective.protocol import messages
from collective.protocol.peer import PeerClient

log = logging.getLogger(__name__)

_ASK_SECONDS = 1.5
_AGAIN_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0
_MORE_SECONDS = 0.5
_COPY_SECONDS = 1.0

Locate = Callable[[MemberRecord], MemberRecord]


class ReturnCheck:
    """The return of one voter, for one life."""

    def __init__(
        self,
        runtime: MemberRuntime,
        layout: Layout,
        locate: Locate,
        lose: Callable[[MemberRuntime, str], None],
        elsewhere: Callable[[MemberRuntime, View], str | None] = elsewhere,
    ) -> None:
        """Prepare.

        Args:
            runtime: this server, whose etcd does not run yet.
            layout: where its data is.
            locate: returns a member's record with the address at which it was found.
            lose: is called when the data is old, with the reason.
            elsewhere: returns where another server answers as this one, None for nowhere.
        """
        self._runtime = runtime
        self._layout = layout
        self._locate = locate
        self._lose = lose
        self._elsewhere = elsewhere
        self._reports: dict[str, Report] = {}
        self._promises: dict[str, HighWaterMark] = {}

    def may_start(self) -> bool:
        """Wait until etcd may start; False when this life ends before, or must not go on."""
        runtime = self._runtime
        while not runtime.stopping.is_set():
            others = runtime.records_view.view.voters_but(runtime.name)
            alone = not runtime.plan.started or not others
            found = runtime.records_view.view if alone else self._hear(others)
            if found is None:
                return False
            place = self._elsewhere(runtime, found)
            if place is None:
                runtime.etcd.note_waiting("")
                return alone or self._take_up(found)
            # What was heard is old when the other one ends.
            self._reports, self._promises = {}, {}
            error = copy_error(runtime.name, place)
            self._tell(f"etcd does not start: {error.message}; {error.hint}")
            runtime.stopping.wait(_COPY_SECONDS)
        return False

    def _hear(self, others: list[MemberRecord]) -> View | None:
        """Wait until enough of the others have answered; None when this life ends before."""
        pool = ThreadPoolExecutor(len(others), "return")
        try:
            pace = Pace(_AGAIN_SECONDS, _LONGEST_PAUSE_SECONDS)
            while not self._runtime.stopping.is_set():
                if pace.is_due(elapsed(), frozenset(self._who_answers())):
                    found = self._ask_all(pool, others)
                    if found is not None:
                        return found
                    self._tell(self._whom_we_wait_for())
                self._runtime.stopping.wait(_AGAIN_SECONDS)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return None

    def catch_up(self) -> None:
        """Take up what a majority of the voters says now, where etcd here has lost touch.

        One that was cut off while they changed their certificates does not let them in any more.
        """
        runtime = self._runtime
        others = runtime.records_view.view.voters_but(runtime.name)
        if not others:
            return
        self._reports = {}
        pool = ThreadPoolExecutor(len(others), "return")
        try:
            found = self._ask_all(pool, others)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if found is not None:
            runtime.records_view.take(found)

    def _who_answers(self) -> Iterable[str]:
        """Return who is there: where that changes, it is worth to ask again soon."""
        found = self._runtime.detector.last_answers()
        return (name for name, answer in found.items() if answer.status is not None)

    def _ask_all(self, pool: ThreadPoolExecutor, others: list[MemberRecord]) -> View | None:
        """Ask all until enough have answered, and a moment longer: others may remember more."""
        runtime, found = self._runtime, None
        asked: dict[Future[tuple[Report, HighWaterMark]], str] = {
            pool.submit(self._ask, member): member.name for member in others
        }
        pending, end = set(asked), elapsed() + 2 * _ASK_SECONDS
        while pending and (left := end - elapsed()) > 0:
            done, pending = wait(pending, left, FIRST_COMPLETED)
            for future in [each for each in asked if each in done]:
                self._note(asked[future], future)
            if found is None:
                found = newest_agreed(runtime.records_view.view, runtime.name, self._reports)
                end = end if found is None else min(end, elapsed() + _MORE_SECONDS)
        return found

    def _note(self, name: str, future: Future[tuple[Report, HighWaterMark]]) -> None:
        try:
            self._reports[name], self._promises[name] = future.result()
        except CollectiveError as error:
            log.debug("%s does not say what has changed: %s", name, error)

    def _ask(self, member: MemberRecord) -> tuple[Report, HighWaterMark]:
        place = self._locate(member)
        context, check = (
            self._runtime.credentials.client_context,
            self._runtime.peers.check_of(member.name),
        )
        peer = PeerClient(place.address, place.door_port, context, check, messages.MOST_VIEW)
        try:
            raw = peer.call("GET", messages.RETURN, None, _ASK_SECONDS)
            shown = peer.fingerprint
        finally:
            peer.close()
        told = messages.Remembered.from_wire(raw)
        view = View.from_json(told.view, self._runtime.plan.cluster_token)
        return Report(shown, view), HighWaterMark(told.member_id, told.term, told.index)

    def _take_up(self, view: View) -> bool:
        runtime = self._runtime
        # Of those that were deleted since, none can say that our data is old.
        members = {n for n, r in self._reports.items() if r.fingerprint in view.certificates}
        promises = {n: p for n, p in self._promises.items() if n in members}
        why = objection_to(self._layout, runtime.plan, view, promises)
        if why is not None:
            self._lose(runtime, why)
            return False
        runtime.records_view.take(view)
        return True

    def _whom_we_wait_for(self) -> str:
        runtime = self._runtime
        absent = missing(runtime.records_view.view, runtime.name, self._reports)
        told = (
            f"etcd does not start before a majority of the voters has answered: {runtime.name} "
            f"waits for {' or '.join(absent)}"
            if absent
            else "etcd does not start: the voters do not agree on who was deleted"
        )
        if runtime.detector.told_removed():
            told += (
                "; a member says that this server was deleted: if that is so, 'collective join' "
                "here lets it in again, with a new token"
            )
        return told

    def _tell(self, told: str) -> None:
        if told != self._runtime.etcd.waits_for:
            log.warning("%s", told)
        self._runtime.etcd.note_waiting(told)
