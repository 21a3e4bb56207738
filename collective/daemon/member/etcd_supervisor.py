"""The etcd of this member over one life: when it starts, is restarted and ends, and how it is.

``backend`` knows the process; who is let in at its door, ``member_trust`` decides.

Invariants:
  * etcd is started for the first time only when it may be, and never after the end of this life.
  * Right before each start whom it lets in is written from the newest records.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from collective.daemon.clock import elapsed
from collective.daemon.member.backend import Backend
from collective.daemon.member.failure_detector import FailureDetector
from collective.daemon.member.member_trust import MemberTrust
from collective.daemon.member.records_view import RecordsView
from collective.daemon.retries import Pace, growing
from collective.errors import CollectiveError, EtcdError, EtcdUnavailableError
from collective.etcd.api import Status
from collective.etcd.deadline import within
from collective.model.plan import Plan
from collective.model.records import MemberRecord
from collective.model.view import CHANGE_KEY

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
RESTART_SECONDS = 20.0
_HANDOVER_SECONDS = 1.0
_FOLLOW_SECONDS = 0.5
_STARTING_SECONDS = 5.0
_DOUBT_SECONDS, _LONGEST_DOUBT_SECONDS = 0.5, 4.0
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.25
_START_AGAIN_SECONDS = 1.0


class EtcdSupervisor:
    """What starts and ends this member's etcd; may be used by several threads.

    Attributes:
        votes: whether etcd is this server's own: it votes, or is a learner that is to.
        waits_for: whom etcd waits for before it is started, for people, "" for nobody.
        detoured: whether it goes by a detour, maybe with another certificate than this server's.
        wanted: whether it was started in this life, or is being started.
        ends: how often it was started again after it had ended by itself, and has not answered.
        may_live: set when it may start.
        doubts: when to ask the voters whether this server votes still, while no leader is known.
        in_turn: set while this server has its turn to restart it, or tries to get it.
    """

    def __init__(
        self,
        backend: Backend,
        plan: Callable[[], Plan],
        trust: MemberTrust,
        records_view: RecordsView,
        detector: FailureDetector,
        stopping: threading.Event,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            backend, plan: where etcd is, and returns which member it is.
            trust: writes whom etcd lets in.
            records_view, detector: who could lead, and who answers of these.
            stopping: set when this life ends.
        """
        self._backend, self._plan, self._trust = backend, plan, trust
        self._records_view, self._detector = records_view, detector
        self._stopping = stopping
        #: Held by whoever starts etcd, or has it stopped for good.
        self._starting = threading.RLock()
        self.votes = plan().votes
        self.waits_for = ""
        #: What hinders a start of etcd before there is a process, "" for nothing.
        self._hindered = ""
        self.detoured = False
        self.wanted = False
        self._started: float | None = None
        self.ends = 0
        self.doubts = Pace(_DOUBT_SECONDS, _LONGEST_DOUBT_SECONDS)
        self.may_live = threading.Event()
        self.in_turn = threading.Event()

    @property
    def failure(self) -> str | None:
        """Why etcd does not run, or None."""
        return self.waits_for or self._hindered or self._backend.failure

    @property
    def runs(self) -> bool:
        """Whether etcd is well, or is at least there, so that its port is its own."""
        return self._backend.runs

    @property
    def is_starting(self) -> bool:
        """Whether it was started, be it again, a moment ago, and has not answered since."""
        return self._started is not None and elapsed() - self._started < _STARTING_SECONDS

    @property
    def is_silent(self) -> bool:
        """Whether there is an etcd that has answered nobody since its start.

        One that finds no quorum at its start does so until it has one.
        """
        return self._started is not None and self.failure is None

    def has_lost_socket(self) -> bool:
        """Tell whether etcd runs and nobody can reach it, since its socket was removed."""
        return self._backend.has_lost_socket()

    def note_waiting(self, told: str) -> None:
        """Note whom etcd waits for before it is started, for people, "" for nobody."""
        self.waits_for = told

    def begin(self, may_start: Callable[[], bool]) -> None:
        """Start etcd, if it may start.

        Args:
            may_start: waits until it may, and returns whether it may.
        """
        try:
            if not self._in_the_end(may_start):
                return
            self.may_live.set()
        except Exception as error:
            log.exception("etcd is not started")
            self.waits_for = f"etcd was not started: {str(error) or type(error).__name__}"
            return
        self._in_the_end(self._start)

    def start_after_end(self) -> None:
        """Start etcd that has ended by itself, as if its member had been removed."""
        self.ends += 1
        self._in_the_end(self._start)

    def _in_the_end(self, step: Callable[[], bool]) -> bool:
        """Take a step of the start over and over while something hinders it, as a full disk does.

        Returns:
            What the step returns, or False when this life ends before.
        """
        while not self._stopping.is_set():
            try:
                return step()
            except CollectiveError as error:
                self._note_hindered(error)
            self._stopping.wait(_START_AGAIN_SECONDS)
        return False

    def _note_hindered(self, error: CollectiveError) -> None:
        hindered = f"etcd is not started: {error.message}"
        if hindered != self._hindered:
            log.error("%s", hindered)
        self._hindered = hindered

    def _start(self) -> bool:
        """Start etcd with those that it is to let in now; False when this life has ended.

        Raises:
            CollectiveError: its files cannot be written.
        """
        with self._starting:
            if self._stopping.is_set():
                return False
            self.wanted = True
            # Without a vote it is not started here, alone or not.
            plan = self._plan()
            alone = self.votes and not self._trust.write_files().voters.keys() - {plan.name}
            self._hindered, self._started = "", elapsed()
            self._backend.start(plan, alone)
        return True

    def _start_again(self) -> bool:
        """Start etcd that was ended for it; what hinders that now is waited for elsewhere.

        Raises:
            CollectiveError: as ``_start``; ``failure`` says so until it can be started.
        """
        try:
            return self._start()
        except CollectiveError as error:
            self._note_hindered(error)
            threading.Thread(
                target=self._in_the_end,
                args=(lambda: not self._hindered or self._start(),),
                name="begin",
                daemon=True,
            ).start()
            raise

    def restart(self, seconds: float = RESTART_SECONDS) -> None:
        """End etcd and start it again with what the files and the plan say now.

        Leadership is handed over first; whoever calls holds the ``turn``.

        Raises:
            EtcdError: it does not take part again in so many seconds.
        """
        if not self.votes:
            return
        self.hand_over()
        with self._backend.held():
            # Raft needs no farewell from a follower, and etcd takes up to a second for its own,
            # in which writers here would wait.
            self._backend.kill()
            if not self._start_again():
                return
            back = self.wait_for_leader(seconds)
        if not back:
            raise EtcdError(
                self.failure or f"etcd does not take part again after {seconds:.0f} s",
                "see the log of collectived on this server",
            )

    def take_detour(
        self, variables: Mapping[str, str], leaf_file: Path | None, wait: bool = False
    ) -> None:
        """Restart etcd with further variables and another certificate, or without them again.

        Args:
            variables: of its environment.
            leaf_file: key and certificate, PEM; None for those of this server.
            wait: until it takes part again, having handed leadership over; see ``restart``.
        """
        self._backend.take_detour(variables, leaf_file)
        self.detoured = bool(variables)
        if wait:
            self.restart()
            return
        with self._starting:
            # Before etcd was started for the first time, it is not ours to decide that it may.
            if self.wanted and not self._stopping.is_set():
                self._backend.stop()
                self._start_again()

    def stop(self, at_once: bool) -> None:
        """End etcd for good, with a farewell or at once."""
        with self._starting:
            if at_once:
                self._backend.kill()
            else:
                self._backend.stop()
        self._backend.close()

    def hand_over(self) -> None:
        """Give leadership to the voter that has the most of the log, if this server leads."""
        if not self.votes:
            return
        try:
            status = self.status()
            if status.leader != status.member_id:
                return
            target = self._successor()
            if target is None:
                return
            with within(_HANDOVER_SECONDS):
                self._backend.gateway.move_leader(int(target.member_id, 16))
            log.info("leadership handed over to=%s", target.name)
        except CollectiveError as error:
            log.warning("leadership was not handed over: %s", error)

    def _successor(self) -> MemberRecord | None:
        """Return the voter that has the most of the log, of those that follow a commit of now.

        Raises:
            EtcdError: nothing is committed.
        """
        voters = self._records_view.view.voters
        if not self._detector.answering(0.0) & voters.keys():
            return None
        since = elapsed()
        with within(_HANDOVER_SECONDS):
            self._backend.gateway.commit_and_range(CHANGE_KEY)
        index = self.status().index
        found = self._detector.answers_at(index, since, _FOLLOW_SECONDS)
        able = [
            (answer.status.index, voters[name])
            for name, answer in found.items()
            if name in voters and answer.status and self._detector.follows(answer, index)
        ]
        return max(able, key=lambda pair: pair[0])[1] if able else None

    def status(self, seconds: float = STATUS_SECONDS) -> Status:
        """Return what this server's etcd says of itself.

        Raises:
            EtcdError: it does not run or does not answer.
        """
        try:
            with within(seconds):
                status = self._backend.gateway.status()
        except EtcdUnavailableError as error:
            if self.failure is not None:
                raise EtcdError(self.failure) from error
            raise
        self._backend.has_answered()
        self._started, self.ends = None, 0
        self._detector.note_committed(status.index)
        return status

    def wait_until(self, ready: Callable[[Status], bool], seconds: float) -> bool:
        """Ask etcd for its status until a condition holds; False when time is up."""
        begun = elapsed()
        while (now := elapsed()) < begun + seconds:
            try:
                if ready(self.status()):
                    self._records_view.wake()
                    return True
            except EtcdUnavailableError:
                pass
            except EtcdError as error:
                log.debug("not yet: %s", error)
            if self._stopping.wait(growing(begun, now, _POLL_SECONDS, _LONGEST_POLL_SECONDS)):
                return False
        return False

    def wait_for_leader(self, seconds: float) -> bool:
        """Wait until etcd here knows a leader; False when time is up."""
        return self.wait_until(lambda status: bool(status.leader), seconds)
