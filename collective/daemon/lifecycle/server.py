"""The class around all of it: this server, over its lives as member of one collective or another.

``collectived`` is a thin main around it, and another Python server can run it inside itself.

It does not parse requests (``listeners`` does) and decides nothing about membership.

Invariants:
  * One life at a time: all changes of what this server is are made under one lock.
  * A second daemon on the same folders does not start.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from collective.daemon.clock import elapsed, epoch, utc_now
from collective.daemon.lifecycle import changeover, lives, small_files
from collective.daemon.lifecycle.former_folder import check_moved
from collective.daemon.lifecycle.gate import Gate
from collective.daemon.lifecycle.high_water_marks import HighWaterMarks
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.network_listener import NetworkListener
from collective.daemon.lifecycle.removal_evidence import RemovalEvidence
from collective.daemon.lifecycle.return_check import ReturnCheck
from collective.daemon.lifecycle.run_folder import RUN_MODE, RunFolder
from collective.daemon.lifecycle.state_file import StateFile
from collective.daemon.member import credentials
from collective.daemon.member.backend import Frame
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.peer_locator import PeerLocator
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.daemon.nonvoting.etcd_socket import EtcdSocket
from collective.daemon.nonvoting.voters_etcd import VotersEtcd
from collective.daemon.settings import Settings
from collective.errors import (
    CollectiveError,
    DaemonError,
)
from collective.etcd.api import hex_id
from collective.etcd.arguments import Timing
from collective.etcd.binary import fit_etcd
from collective.etcd.process import EtcdProcess
from collective.files import FolderLock, make_private_folder, sweep_temporary
from collective.model.forks import tell_after_fork
from collective.model.layout import Layout
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.protocol.door import DoorServer
from collective.protocol.limits import RateLimit

log = logging.getLogger(__name__)

FIRST_ANSWER_SECONDS = 30.0
#: Each is a term without a leader for a moment: a member that asks for many stops the writes.
HAND_OVERS_PER_SECOND = 0.2
HAND_OVERS_AT_ONCE = 2
#: Each writes a record and leaves a revocation. A change of a certificate takes two.
CERTIFICATES_PER_SECOND = 1 / 60
CERTIFICATES_AT_ONCE = 4
_WATCH_SECONDS = 0.5
_LEAVE_SECONDS = 10.0
_LEAVE_POLL_SECONDS = 0.05
_SETTLE_SECONDS = 20.0


#: Gets the member, the settings, and what takes up the records as a majority of the others tells.
WorkersOf = Callable[[MemberRuntime, Settings, Callable[[], None]], Sequence[Worker]]


class CollectiveServer:
    """One server of a collective."""

    def __init__(self, settings: Settings, layout: Layout, workers_of: WorkersOf) -> None:
        """Take the lock and find etcd; nothing runs yet.

        Args:
            settings: of this server.
            layout: its folders and sockets.
            workers_of: makes the threads that act by themselves in one life.

        Raises:
            RefusedError: another daemon runs on the same folders; or this server's data is where
                former releases had it.
            EtcdError: etcd is missing or not fit.
            AccessError: a folder cannot be used.
        """
        self.settings = settings
        self.layout = layout
        self._workers_of = workers_of
        check_moved(layout, layout.former)
        make_private_folder(Path(layout.data))
        make_private_folder(Path(layout.run), RUN_MODE)
        self._lock = FolderLock.acquire(Path(layout.daemon_lock))
        try:
            self._prepare()
        except BaseException:
            self._lock.release()
            raise
        tell_after_fork(self)

    def _prepare(self) -> None:
        settings, layout = self.settings, self.layout
        self.state = StateFile(Path(layout.state))
        self.locator = PeerLocator(Path(layout.state))
        self.stopped = threading.Event()
        self.life = threading.RLock()
        self.gate = Gate()
        #: How often each member may have this server hand leadership over.
        self.hand_overs = RateLimit(HAND_OVERS_PER_SECOND, HAND_OVERS_AT_ONCE)
        #: How often each member without a vote may have its certificates changed here.
        self.certificates = RateLimit(CERTIFICATES_PER_SECOND, CERTIFICATES_AT_ONCE)
        self.runtime: MemberRuntime | None = None
        #: What keeps this server between two lives, None for nothing.
        self.trouble: CollectiveError | None = None
        self.high_water_marks: HighWaterMarks | None = None
        self._workers: Sequence[Worker] = ()
        self._etcd_socket: EtcdSocket | None = None
        search = os.environ.get("PATH", "")
        binary = fit_etcd(settings.etcd, search, settings.allow_unsafe_etcd)
        log.info("etcd found path=%s version=%s", binary.path, binary.version_text)
        self._etcd = EtcdProcess(
            binary, Path(layout.etcd_run), Path(layout.etcd_lock), self._etcd_ended
        )
        self.doors = DoorServer()
        self.run_folder = RunFolder(self.doors, layout)
        self.listener = NetworkListener(
            self.doors, settings.port, lambda: self.credentials.server_context
        )

    @property
    def plan(self) -> Plan:
        """What this server is."""
        return self._plan

    @property
    def credentials(self) -> Credentials:
        """The certificates in use."""
        return self._credentials

    def start(self) -> None:
        """Begin or go on with the life that the state file names; doors are not opened here.

        Raises:
            CollectiveError: the state cannot be used; the text says what to do.
        """
        pki = Path(self.layout.pki)
        credentials.repair(pki)
        for folder in (pki, Path(self.layout.state)):
            sweep_temporary(folder)
        # Another thread may learn that this life is lost: it ends it when all of it is there.
        with self.life:
            lost = lives.without_state(self.layout, self.state, self.settings)
            if lost is not None:
                self.live(lost)
            else:
                self._go_on()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _go_on(self) -> None:
        plan = self.state.load()
        if plan is None:
            plan = lives.begin_alone(self.layout, self.state, self.settings, utc_now())
        lives.check_plan(plan, self.settings)
        if lives.first_start_was_cut(self.layout, plan):
            plan = lives.begin_alone(self.layout, self.state, self.settings, utc_now(), plan)
        trouble: CollectiveError | None = None
        try:
            plan = lives.go_on(self.layout, self.state, plan, utc_now())
        except CollectiveError as error:
            log.error("this server stays between two lives: %s", error)
            trouble = error
        self.live(plan, trouble)

    def stop(self) -> None:
        """Hand leadership over, end etcd, close the doors, release the lock."""
        self.stopped.set()
        # Each is done, whatever becomes of those before; the last one first.
        with ExitStack() as steps:
            steps.callback(self._lock.release)
            steps.callback(self.doors.stop, 2.0)
            steps.callback(self._etcd.close, 5.0)
            with self.life:
                self.end_life(hand_over=True)

    def after_fork(self) -> None:
        """Let go, in a child process, of what would keep the parent's place after its end."""
        self._lock.release()
        self.doors.after_fork()

    def live(self, plan: Plan, trouble: CollectiveError | None = None) -> None:
        """Begin a life. A server that was removed, or is lost, has none: it only answers.

        Args:
            plan: what this server is.
            trouble: what keeps it between two lives, None for nothing.
        """
        self.trouble = trouble
        self._plan = plan
        self._credentials = Credentials(lives.usable_pki(self.layout, plan))
        if trouble is not None or plan.mode in (Mode.REMOVED, Mode.LOST):
            return
        listen = lives.all_listen_addresses(self.settings, plan)
        timing = Timing(
            self.settings.heartbeat_ms, self.settings.election_ms, self.settings.corruption_check
        )
        frame = Frame(self.layout, self._etcd, timing, listen, self.locator.at)
        remembered = self.state.load_view(plan.cluster_token)
        runtime = MemberRuntime(
            frame, plan, self._credentials, self._on_view, remembered, VotersEtcd
        )
        # Before the runtime: whoever watches takes one for the other's.
        self._hearing = RemovalEvidence(runtime)
        self.runtime = runtime
        returning = ReturnCheck(runtime, self.layout, self.locator.at, self._become_lost)
        self._workers = self._workers_of(runtime, self.settings, returning.catch_up)
        self.high_water_marks = HighWaterMarks(runtime, self.state)
        runtime.records_view.when_taken(self._wake_workers)
        runtime.start(returning.may_start)
        for worker in self._workers:
            worker.start()
        self.high_water_marks.start()
        if runtime.votes:
            threading.Thread(target=self._first_answer, args=(runtime,), daemon=True).start()
        else:
            self._etcd_socket = EtcdSocket(self.doors, self.layout, runtime.gateway)

    def stay(self, trouble: CollectiveError) -> None:
        """Stay between two lives, and say what keeps this server there."""
        self.trouble = trouble

    def use_addresses_of(self, settings: Settings) -> None:
        """Use the addresses that settings give which were read again."""
        self.settings = replace(
            self.settings, address=settings.address, listen=settings.listen, hosts=settings.hosts
        )

    def settle(self, seconds: float = _SETTLE_SECONDS) -> None:
        """Wait for a change of life that is under way to end, for so many seconds at most."""
        if self.life.acquire(timeout=seconds):
            self.life.release()

    def end_life(self, hand_over: bool) -> None:
        """Stop being a member, with leadership handed over first or not."""
        workers, self._workers = self._workers, ()
        runtime, self.runtime = self.runtime, None
        etcd_socket, self._etcd_socket = self._etcd_socket, None
        marks, self.high_water_marks = self.high_water_marks, None
        if marks is not None:
            marks.stop()
        for worker in workers:
            worker.stop()
        if etcd_socket is not None:
            etcd_socket.close()
        if runtime is not None:
            runtime.stop(hand_over)

    def _first_answer(self, runtime: MemberRuntime) -> None:
        """Note that etcd has data, and, in a collective of one, write our own record."""
        while not runtime.etcd.wait_until(lambda s: bool(s.member_id), FIRST_ANSWER_SECONDS):
            if self.stopped.is_set() or self.runtime is not runtime:
                return
        with self.life:
            if self.runtime is not runtime:
                return
            if not self.plan.started:
                self.save(replace(self.plan, started=True))
        if not runtime.plan.existing:
            self._record_ourselves(runtime)

    def _record_ourselves(self, runtime: MemberRuntime) -> None:
        while not runtime.etcd.wait_for_leader(FIRST_ANSWER_SECONDS):
            if self.stopped.is_set() or self.runtime is not runtime:
                return
        try:
            view = runtime.store.read()
            if view.members:
                return
            status = runtime.etcd.status()
            plan, own = runtime.plan, self._credentials.identity
            record = MemberRecord(
                plan.name,
                hex_id(status.member_id),
                Role.VOTER,
                plan.address,
                plan.door_port,
                plan.peer_port,
                (own.pem,),
                epoch(),
            )
            runtime.store.put_member(view, record, epoch())
        except CollectiveError as error:
            log.warning("this server could not write its own record: %s", error)

    def save(self, plan: Plan) -> None:
        """Replace the state file."""
        self.state.save(plan)
        self._plan = plan
        if self.runtime is not None:
            self.runtime.use_plan(plan)

    def _on_view(self, runtime: MemberRuntime, view: View) -> None:
        """Act on changed records: ask the right members, cut off those that are none."""
        runtime.follow(view)
        if view.certificates.keys() != runtime.records_view.view.certificates.keys():
            self.doors.close_where(
                lambda peer: (
                    peer.certificate is not None
                    and peer.certificate.fingerprint not in view.certificates
                )
            )
        self._remember(runtime, view)

    def _wake_workers(self) -> None:
        for worker in self._workers:
            worker.wake()

    def _remember(self, runtime: MemberRuntime, view: View) -> None:
        """Keep the records for a start without a quorum, where they have changed."""
        known = runtime.records_view.view
        if (known.members, known.revoked) == (view.members, view.revoked):
            return
        with self.life:
            if self.runtime is runtime:
                try:
                    self.state.save_view(view, runtime.plan.cluster_token)
                except CollectiveError as error:
                    log.error("the records cannot be remembered: %s", error)

    def _watch(self) -> None:
        """Find out that this server was removed or is lost, or its sockets were removed."""
        while not self.stopped.wait(_WATCH_SECONDS):
            try:
                self.run_folder.look(elapsed())
                if (runtime := self.runtime) is not None:
                    self._look_after(runtime)
            except Exception:
                log.exception("this server could not be looked after")

    def _look_after(self, runtime: MemberRuntime) -> None:
        if self._hearing.is_deleted():
            self._try_to_rest(runtime, "the other members say so")
        elif (why := lives.data_is_lost(self.layout, self.plan)) is not None:
            self._become_lost(runtime, why)
        else:
            changeover.look_after(self, runtime)

    def _try_to_rest(self, runtime: MemberRuntime, why: str) -> None:
        try:
            self.become_removed(runtime, why)
        except CollectiveError as error:
            log.error("the data of a deleted member cannot be moved aside: %s", error)

    def _etcd_ended(self) -> None:
        """Handle an etcd that ended with code 0 by itself, which a removed member's does.

        It is started again where no member says that this one was removed.
        """
        runtime = self.runtime
        if runtime is None or self.stopped.is_set():
            return
        if changeover.is_removed(self, runtime):
            self._try_to_rest(runtime, "etcd says so")
        elif self.runtime is runtime:
            log.error("etcd is started again: no member says that this one was removed")
            runtime.etcd.start_after_end()

    def ends_soon(self, runtime: MemberRuntime, seconds: float) -> bool:
        """Give a deletion a moment to be noticed, where the store does not answer any more."""
        deadline = elapsed() + seconds
        while self.runtime is runtime and elapsed() < deadline:
            self.stopped.wait(_LEAVE_POLL_SECONDS)
        return self.runtime is not runtime

    def leave_life(self, runtime: MemberRuntime, why: str) -> None:
        """Wait until a removal that is written down is made, and end this life.

        Raises:
            CollectiveError: it is not made yet. The life goes on: without this member's data
                the others might never make it.
        """
        deadline = elapsed() + _LEAVE_SECONDS
        while self.runtime is runtime and not runtime.detector.told_removed():
            if elapsed() > deadline or self.stopped.wait(_LEAVE_POLL_SECONDS):
                raise CollectiveError(
                    f"{runtime.name} is being deleted, but that is not done after "
                    f"{_LEAVE_SECONDS:.0f} s",
                    "it goes on by itself while the other members have a quorum; see "
                    "'collective show'",
                )
        self.become_removed(runtime, why)

    def become_removed(self, runtime: MemberRuntime, why: str) -> None:
        """End the life of a member that was deleted; its data is moved aside."""
        with self.life:
            if self.runtime is not runtime or self.stopped.is_set():
                return
            log.warning("this server was deleted from its collective: %s", why)
            reason = f"{self.plan.name} was deleted from its collective"
            if self.plan.mode is Mode.JOINING:
                reason = f"{self.plan.name} was given up while it joined"
            self._come_to_rest(reason)

    def give_up_life(self, reason: str) -> None:
        """End the life of a learner whose join is given up; its data is moved aside."""
        with self.life:
            # Where a member has removed it, it may have come to rest by itself.
            if self.plan.mode is Mode.JOINING:
                self._come_to_rest(reason)

    def _come_to_rest(self, reason: str) -> None:
        self.end_life(hand_over=False)
        try:
            now = utc_now()
            self._plan = lives.begin_rest(self.layout, self.state, self.plan, reason, now)
            rested = lives.rest(self.layout, self.state, self._plan, now)
        except CollectiveError as error:
            self.trouble = error
            raise
        self.live(rested)

    def _become_lost(self, runtime: MemberRuntime, why: str) -> None:
        """End the life of a member whose data is gone or old; etcd must not go on with it."""
        with self.life:
            if self.runtime is not runtime or self.stopped.is_set():
                return
            self.end_life(hand_over=True)
            self.live(lives.lose(self.state, self.plan, why))

    def may_begin_again(self) -> bool:
        """Tell whether this server rests, and no other one holds its collective.

        What a server lost that was the only one is gone for good, unless its data is put back.
        """
        plan = self.plan
        if plan.mode is not Mode.LOST:
            return plan.mode is Mode.REMOVED
        token = plan.cluster_token
        return not plan.existing and not small_files.has_others(self.layout, plan.name, token)

    def begin_again(self) -> None:
        """Make a server that rests a collective of one; what it had is moved aside."""
        with self.life:
            if not self.may_begin_again():
                return
            now, former = utc_now(), self.plan
            lives.keep_state(self.layout, self.state, former, now)
            self.live(lives.begin_alone(self.layout, self.state, self.settings, now, former))

    def require_runtime(self) -> MemberRuntime:
        """Return this server as a member.

        Raises:
            DaemonError: the daemon is about to end.
            RemovedError: it was removed.
            RefusedError: a join was cut off half way.
        """
        if self.runtime is None:
            # Between two lives there is none for a moment; what is said after it is true.
            self.settle()
        runtime = self.runtime
        if runtime is None:
            raise self.why_idle()
        return runtime

    def why_idle(self) -> CollectiveError:
        """Return why this server is a member of nothing, be it for a moment."""
        if self.stopped.is_set():
            return DaemonError(f"collectived on {self.plan.name} is ending", "start it again")
        return idle_error(self.plan, self.trouble)
