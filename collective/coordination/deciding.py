"""The one of a group's managers who decides which of them has which node, and writes that down.

It decides nothing itself: ``collective.policy.assigning`` does. It is elected among the managers.

Invariants:
  * What it writes is fenced: one that was replaced, and does not know, writes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from collective.coordination.assignment_table import Seen
from collective.coordination.lock_queue import Hold
from collective.coordination.locks import Election
from collective.coordination.seats import (
    AGAIN_SECONDS,
    GATHER_SECONDS,
    TICK_SECONDS,
    Seats,
    gathering,
    parts,
)
from collective.coordination.session import Session
from collective.errors import CollectiveError
from collective.policy.assigning import Situation, decide
from collective.store.store import SECONDS
from collective.store.values import unchanged

log = logging.getLogger(__name__)

_CAMPAIGN_SECONDS = 3600.0
# So many seats are written in a second or two, and then it looks again.
_MOST_AT_ONCE = 10_000


class Decider:
    """This process as a candidate for it."""

    def __init__(
        self, seats: Seats, session: Callable[[], Session | None], closed: threading.Event
    ) -> None:
        """Prepare.

        Args:
            seats: of the group.
            session: returns the one in which this process is a manager now, if it is.
            closed: set when it is none any more.
        """
        self._seats = seats
        self._table = seats.table
        self._session_now = session
        self._closed = closed
        self._woken = threading.Event()
        # Sessions never come back, so this holds over a lead that was lost and won again.
        self._gone_since: dict[int, float] = {}

    def wake(self) -> None:
        """Look again: something has changed."""
        if not self._woken.is_set():
            self._woken.set()

    def run(self) -> None:
        """Stand for election, and decide while elected, until closed."""
        while not self._closed.is_set():
            session = self._session_now()
            try:
                if session is not None and session.is_held:
                    self._lead(session)
            except CollectiveError as error:
                log.debug("nodes are not assigned here: %s", error)
            except Exception:
                log.exception("nodes could not be assigned group=%s", self._seats.group)
            self._closed.wait(AGAIN_SECONDS)

    def _lead(self, session: Session) -> None:
        election = Election(self._seats.store, f"assign {self._seats.group}", lambda _: session)
        hold = election.campaign(seconds=_CAMPAIGN_SECONDS, given_up=self._closed)
        try:
            while not self._closed.is_set() and hold.is_held:
                self._woken.clear()
                begun = monotonic()
                again = self._assign(hold)
                took = monotonic() - begun
                pause = TICK_SECONDS if again is None else min(again, TICK_SECONDS)
                if self._woken.wait(pause):
                    self._closed.wait(gathering(took))
        finally:
            hold.release()

    def _assign(self, hold: Hold) -> float | None:
        """Decide once, and write that down; return after how many seconds to look again."""
        seen, present, level = self._table.seats(), self._table.present(), self._table.level
        now = monotonic()
        gone_since = self._gone_since
        _miss(gone_since, seen.values(), present, now)
        seats = {node: each.seat for node, each in seen.items()}
        decision = decide(
            Situation(seats, present, gone_since, now, self._seats.grace, bool(level))
        )
        fence = hold.fence
        now_changed = decision.changed[:_MOST_AT_ONCE]
        transactions = [self._seats.write(part, seen, (fence,)) for part in parts(now_changed)]
        done = self._seats.make(transactions, monotonic() + SECONDS)
        if len(now_changed) < len(decision.changed):
            return 0.0
        if level and all(done):
            self._seats.store.delete(
                self._table.level_key, when=(fence, unchanged(self._table.level_key, level))
            )
        return decision.again_in if all(done) else GATHER_SECONDS


def _miss(
    gone_since: dict[int, float],
    seats: Iterable[Seen],
    present: Mapping[str, int],
    now: float,
) -> None:
    """Note when each session was missed first."""
    there = set(present.values())
    gone = {seen.seat.session for seen in seats} - there - {0}
    for session in gone:
        gone_since.setdefault(session, now)
    for session in set(gone_since) - gone:
        del gone_since[session]
