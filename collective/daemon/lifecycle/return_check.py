"""Before a voter's etcd starts: hear from a majority of the voters what has changed.

It decides nothing: ``policy.returning`` and ``policy.old_data`` do. Nothing is lost by waiting: an
etcd that finds no majority serves nobody either.

Invariants:
  * Each voter is asked over and over until enough have answered, whichever of them are off.
  * An answer counts only from who has shown a certificate that is recorded here, or proven to have
    taken the place of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FutureTimeoutError

from collective.daemon.clock import elapsed
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

Locate = Callable[[MemberRecord], MemberRecord]


class ReturnCheck:
    """The return of one voter, for one life."""

    def __init__(
        self,
        runtime: MemberRuntime,
        layout: Layout,
        locate: Locate,
        lose: Callable[[MemberRuntime, str], None],
    ) -> None:
        """Prepare.

        Args:
            runtime: this server, whose etcd does not run yet.
            layout: where its data is.
            locate: returns a member's record with the address at which it was found.
            lose: is called when the data is old, with the reason.
        """
        self._runtime = runtime
        self._layout = layout
        self._locate = locate
        self._lose = lose
        self._pace = Pace(_AGAIN_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._reports: dict[str, Report] = {}
        self._promises: dict[str, HighWaterMark] = {}

    def may_start(self) -> bool:
        """Wait until etcd may start; False when this life ends before, or must not go on."""
        runtime = self._runtime
        others = runtime.records_view.view.voters_but(runtime.name)
        if not runtime.plan.started or not others:
            return True
        pool = ThreadPoolExecutor(len(others), "return")
        try:
            while not runtime.stopping.is_set():
                if self._pace.is_due(elapsed(), frozenset(self._who_answers())):
                    found = self._ask_all(pool, others)
                    if found is not None:
                        return self._take_up(found)
                    self._say_whom_we_wait_for()
                runtime.stopping.wait(_AGAIN_SECONDS)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return False

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
        """Ask those that have not answered yet, until enough have."""
        runtime = self._runtime
        asked: dict[Future[tuple[Report, HighWaterMark]], str] = {
            pool.submit(self._ask, member): member.name for member in others
        }
        try:
            for future in as_completed(asked, 2 * _ASK_SECONDS):
                name = asked[future]
                try:
                    self._reports[name], self._promises[name] = future.result()
                except CollectiveError as error:
                    log.debug("%s does not say what has changed: %s", name, error)
                    continue
                found = newest_agreed(runtime.records_view.view, runtime.name, self._reports)
                if found is not None:
                    return found
        except FutureTimeoutError:
            log.debug("not all members have answered in time")
        return None

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
        runtime.etcd.note_waiting("")
        return True

    def _say_whom_we_wait_for(self) -> None:
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
        if told != runtime.etcd.waits_for:
            log.warning("%s", told)
        runtime.etcd.note_waiting(told)
