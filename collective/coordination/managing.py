"""One process as a manager of nodes: what it has, told to it in order, and given up by it.

Invariants:
  * What a manager has is what a seat says that names it *and its session*. Its session ends for
    it before it ends for the others, so no two managers have a node at one time, by their own
    clocks; ``Manager.fence`` makes it certain for writes.
  * A manager gives a node up after its callback for that has returned, and not before.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic

from collective.coordination.assignment_table import Seen
from collective.coordination.deciding import Decider
from collective.coordination.seats import AGAIN_SECONDS, TICK_SECONDS, Seats, gathering, parts
from collective.coordination.session import Session
from collective.coordination.stored import FORMAT
from collective.errors import ClosedError, CollectiveError, ConflictError, LeaseExpiredError
from collective.model.closing import Closing
from collective.model.keyspace import COORDINATION
from collective.model.names import natural_key
from collective.store.store import SECONDS
from collective.store.values import Aspect, Condition, absent

log = logging.getLogger(__name__)

Callback = Callable[[list[str]], object]


class Manager(Closing):
    """This process as a manager; ``close`` gives all nodes up, to whoever is left."""

    def __init__(
        self,
        seats: Seats,
        gained: Callback,
        lost: Callback,
        open_session: Callable[[], Session],
        group: object,
    ) -> None:
        """Begin; made by ``Assignments.manage``.

        Args:
            seats: of the group.
            gained, lost: see there.
            open_session: opens the session of each of our lives.
            group: closes us with its handle; it is kept for as long as we live.
        """
        self._seats = seats
        self._group = group
        self._table = seats.table
        self._gained, self._lost = gained, lost
        self._open_session = open_session
        self._session: Session | None = None
        self._told: frozenset[str] = frozenset()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._decider = Decider(seats, lambda: self._session, self._closed)
        self._table.when_changed(self._wake_both)
        self._vanished = False
        # The revision at which this life's key was written.
        self._present_at = 0
        # What was told last of why it has to wait.
        self._waits = ""
        self._threads = [
            threading.Thread(target=self._run, name="manager", daemon=True),
            threading.Thread(target=self._decider.run, name="assigner", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that we manage: that ``gained`` was called with, and ``lost`` was not."""
        session = self._session
        return self._told if session is not None and session.is_held else frozenset()

    def is_mine(self, node: str) -> bool:
        """Tell whether we manage a node now."""
        return node in self.nodes and self._seat_of(node) is not None

    def fence(self, node: str) -> Condition:
        """Return the condition that we manage a node still, for ``when=`` of a write.

        Raises:
            LeaseExpiredError: we do not.
        """
        seen = self._seat_of(node) if node in self.nodes else None
        if seen is None:
            raise LeaseExpiredError(f"{self._seats.name} does not manage {node} any more")
        key = self._table.node_key(node)
        return Condition(key, Aspect.REVISION, seen.revision, space=COORDINATION)

    def close(self, seconds: float = 5.0) -> None:
        """Give up all nodes, after ``lost`` was called with them, and take no part any more.

        Args:
            seconds: how long to wait for that; then they are free when the session ends.
        """
        self.stop()
        if threading.current_thread() in self._threads:
            return
        self._threads[0].join(seconds)
        session = self._session
        if session is not None and self._threads[0].is_alive():
            # Its callback has not returned: nobody may have its nodes before the session ends.
            session.abandon()

    def stop(self) -> None:
        """Begin to ``close``, and do not wait for it."""
        self._closed.set()
        self._wake_both()

    def abandon(self) -> None:
        """Vanish, as a process that is killed does; for tests of what follows."""
        session = self._session
        if session is not None:
            session.abandon()
        self._vanished = True
        self._closed.set()
        self._wake_both()

    def _wake_both(self) -> None:
        if not self._wake.is_set():
            self._wake.set()
        self._decider.wake()

    def _seat_of(self, node: str) -> Seen | None:
        """Return the seat of a node if it names us, in this life."""
        session, seen = self._session, self._table.seat(node)
        if session is None or seen is None:
            return None
        ours = (self._seats.name, session.lease.id)
        return seen if (seen.seat.manager, seen.seat.session) == ours else None

    # As a manager ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
            if not self._vanished:
                self._leave()
        finally:
            session = self._session
            if session is not None and not self._vanished:
                session.close()
            self._table.forget(self._wake_both)

    def _work(self) -> None:
        while not self._closed.is_set():
            pause, begun = TICK_SECONDS, monotonic()
            try:
                self._round()
                self._waits = ""
            except ClosedError:
                # The handle is gone, and its sessions with it.
                self._tell(frozenset())
                self._vanished = True
                self._closed.set()
            except CollectiveError as error:
                level = logging.DEBUG if error.message == self._waits else logging.WARNING
                log.log(level, "a manager waits: %s group=%s", error, self._seats.group)
                self._waits = error.message
                pause = AGAIN_SECONDS
            except Exception:
                log.exception("a manager failed group=%s", self._seats.group)
            took = monotonic() - begun
            if self._wake.wait(pause):
                self._closed.wait(gathering(took))
            self._wake.clear()

    def _round(self) -> None:
        session = self._session
        if session is None or not session.is_held or self._is_displaced(session):
            self._tell(frozenset())
            self._begin_life()
        self._follow()

    def _is_displaced(self, session: Session) -> bool:
        """Tell whether somebody took away the key that says that we are there."""
        return self._table.present().get(self._seats.name) != session.lease.id

    def _begin_life(self) -> None:
        """Say that we are there, in a new session. One of an earlier life has to end first."""
        old, self._session = self._session, None
        if old is not None:
            old.close()
        if self._seats.name in self._table.present():
            raise self._another_life()
        session = self._open_session()
        key, text = self._table.manager_key(self._seats.name), {"format": FORMAT}
        try:
            revision = self._seats.store.put(
                key, json.dumps(text).encode(), lease=session.lease, when=(absent(key),)
            )
            self._table.reach(revision, SECONDS)
            self._present_at = revision
        except ConflictError:
            session.close()
            raise self._another_life() from None
        except BaseException:
            session.close()
            raise
        if self._closed.is_set():
            session.close()
            return
        session.when_lost(self._wake_both)
        self._session = session

    def _another_life(self) -> CollectiveError:
        return LeaseExpiredError(
            f"another life of {self._seats.name} as a manager has not ended yet"
        )

    def _follow(self) -> None:
        """Tell our process what it has now; give up what we were asked for."""
        session = self._session
        if session is None:
            return
        ours = (self._seats.name, session.lease.id)
        leaving = self._table.leaving(*ours)
        self._tell(self._table.nodes_of(*ours) - leaving.keys())
        self._give_up(leaving)

    def _ours(self) -> dict[str, Seen]:
        session = self._session
        if session is None:
            return {}
        nodes = self._table.nodes_of(self._seats.name, session.lease.id)
        return self._table.seats_among(nodes)

    def _tell(self, now: frozenset[str]) -> None:
        gone, new = self._told - now, now - self._told
        self._told &= now
        if gone:
            _call(self._lost, gone)
        self._told = now
        if new:
            _call(self._gained, new)

    def _give_up(self, seats: Mapping[str, Seen]) -> None:
        transactions = [
            self._seats.write([seats[node].seat.given_to("", 0) for node in part], seats, ())
            for part in parts(sorted(seats))
        ]
        if transactions:
            session = self._session
            left = SECONDS if session is None else min(SECONDS, session.lease.remaining)
            self._seats.make(transactions, monotonic() + left)

    def _leave(self) -> None:
        """Go in peace: others can have our nodes at once."""
        try:
            self._tell(frozenset())
            # First of all we are there no more, or whoever decides would give us nodes.
            # Without our session the key may be that of another process of this name.
            if self._session is not None and self._session.is_held:
                # Should it come late, the key may be that of our next life.
                key = self._table.manager_key(self._seats.name)
                with suppress(ConflictError):
                    self._seats.store.delete(key, if_revision=self._present_at)
            self._give_up(self._ours())
        except CollectiveError as error:
            log.info("a manager leaves its nodes to the others: %s", error)


def _call(callback: Callback, nodes: Iterable[str]) -> None:
    try:
        callback(sorted(nodes, key=natural_key))
    except BaseException:  # what it raises ends nobody's thread, not even SystemExit
        log.exception("a callback for assignments failed")
