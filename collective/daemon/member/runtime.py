"""One life of this server as one member of one collective: its etcd and what hangs on it.

It does not change what the server is: ``lifecycle.server`` ends one life and begins the next when
the server joins, leaves or was removed.

Invariants:
  * Started once, stopped once; what it holds open is closed by ``stop``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from collective import __version__
from collective.daemon.clock import elapsed
from collective.daemon.member import recognition
from collective.daemon.member.access import objection
from collective.daemon.member.backend import Backend, Frame, OwnEtcd
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.failure_detector import FailureDetector
from collective.daemon.member.places import MemberPlaces
from collective.daemon.member.proof_limiter import OneEach, ProofLimiter
from collective.daemon.member.recognition import Found
from collective.daemon.member.recorded import certificates_of
from collective.daemon.member.records_view import RecordsView
from collective.errors import CollectiveError, EtcdError, EtcdUnavailableError
from collective.etcd.api import Status
from collective.etcd.deadline import within
from collective.etcd.record_store import RecordStore
from collective.model.high_water_mark import HighWaterMark
from collective.model.plan import Plan
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import Certificate, read_certificate
from collective.policy.membership import Observed
from collective.protocol.messages import ServerStatus
from collective.protocol.peer import Check, PeerClient, served_certificate
from collective.protocol.tunnel import Way

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
_RELAYED_BYTES = 64 << 20
RESTART_SECONDS = 20.0
_HANDOVER_SECONDS = 1.0
_POLL_SECONDS = 0.02
_DOOR_SECONDS = 1.0
_START_AGAIN_SECONDS = 1.0


def hex_id(member_id: int) -> str:
    """Return an etcd id as it is written everywhere, "" for none."""
    return f"{member_id:016x}" if member_id else ""


#: Gets the voters, and what connects to one.
Elsewhere = Callable[
    [Callable[[], Iterable[MemberRecord]], Callable[[MemberRecord], PeerClient]], Backend
]


class MemberRuntime:
    """This server as a member.

    Attributes:
        plan: which member this is.
        trouble: what ``show`` is to say of this server's address, or "".
    """

    def __init__(
        self,
        frame: Frame,
        plan: Plan,
        credentials: Credentials,
        on_view: Callable[[MemberRuntime, View], None],
        remembered: View,
        elsewhere: Elsewhere,
    ) -> None:
        """Put the parts together; nothing runs yet.

        Args:
            frame: etcd's process and where things are.
            plan: which member this is.
            credentials: certificates in use.
            on_view: called with each new view of the records.
            remembered: the records as they were in the last run.
            elsewhere: makes the way to the etcd of others, for a server that does not vote.
        """
        self._frame = frame
        self.plan = plan
        self.trouble = ""
        #: Whom etcd waits for before it is started, for people, "" for nobody.
        self.waits_for = ""
        self.credentials = credentials
        self.etcd_trust = EtcdTrust(credentials)
        self._votes = plan.votes
        self._backend: Backend = (
            OwnEtcd(frame, self.etcd_trust)
            if plan.votes
            else elsewhere(self._voters, self._relay_peer)
        )
        self.gateway = self._backend.gateway
        self.store = RecordStore(self.gateway)
        # Trust first: who acts on a view finds that it holds at both doors.
        listeners = [self._trust, lambda view: on_view(self, view)]
        self.records_view = RecordsView(self.gateway, listeners, remembered)
        self.detector = FailureDetector(
            plan.name, credentials.client_context, self.check_of, self._ask_as_stranger
        )
        #: Whether etcd goes by a detour, maybe with another certificate than that of this server.
        self.detoured = False
        #: What our etcd has on its disk for sure; ``high_water_marks`` finds it out.
        self.durable: HighWaterMark | None = None
        #: Fingerprint of the certificate that our door was last seen to show, "" while unknown.
        self.served = ""
        self._served_wrongly: tuple[str, ...] = ()
        #: Held by whoever changes the certificate in use, see ``replacement``.
        self.replacing = threading.RLock()
        self._stopping = threading.Event()
        #: Held by whoever starts etcd, or has it stopped for good.
        self._starting = threading.RLock()
        self._etcd_wanted = False
        #: What hinders a start of etcd before there is a process, "" for nothing.
        self._hindered = ""
        self._may_live = threading.Event()
        self._trusting = threading.RLock()
        self._trusted_view = remembered
        self._recognised: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._detours: Mapping[str, tuple[Certificate, tuple[str, ...]]] = {}
        self._cutting = threading.Condition()
        #: Set while this server has its turn to restart etcd, or tries to get it.
        self.in_turn = threading.Event()
        self._cut = frozenset[str]()
        self.proof_limiter = ProofLimiter()
        #: Whom this server dials back now, for a join or its preflight.
        self.dialled = OneEach()
        #: What each member without a vote takes of this server at a time, see ``etcd_proxy``.
        self.places = MemberPlaces()

    @property
    def name(self) -> str:
        """This server's name."""
        return self.plan.name

    @property
    def stopping(self) -> threading.Event:
        """Set when this life ends."""
        return self._stopping

    @property
    def listen(self) -> Sequence[str]:
        """The addresses that etcd listens on, or will from its next start on."""
        return self._frame.listen

    def use_plan(self, plan: Plan) -> None:
        """Go by what the state file says now."""
        self.plan = plan

    def note_trouble(self, told: str) -> None:
        """Have ``show`` say something of this server's address, "" for nothing."""
        self.trouble = told

    def note_waiting(self, told: str) -> None:
        """Note whom etcd waits for before it is started, for people, "" for nobody."""
        self.waits_for = told

    def note_durable(self, mark: HighWaterMark) -> None:
        """Note what our etcd has on its disk for sure."""
        self.durable = mark

    def relocate(self, plan: Plan, listen: Sequence[str]) -> None:
        """Have another address from the next start of etcd on."""
        self.plan = plan
        self._frame = replace(self._frame, listen=tuple(listen))
        self._backend.relocate(self._frame.listen)

    @property
    def failure(self) -> str | None:
        """Why etcd does not run, or None."""
        return self.waits_for or self._hindered or self._backend.failure

    @property
    def votes(self) -> bool:
        """Whether this server has an etcd of its own: it votes, or is a learner that is to."""
        return self._votes

    @property
    def etcd_runs(self) -> bool:
        """Whether etcd is well, or is at least there, so that its port is its own."""
        return self._backend.runs

    def start(self, may_start: Callable[[], bool] = lambda: True) -> None:
        """Follow the store, and start etcd; returns at once.

        Args:
            may_start: waits until etcd may start, and returns whether it may; calls can be made
                by then, and nothing is served yet.
        """
        self._trust(self.records_view.view)
        self.detector.follow(self.records_view.view.members.values())
        self.records_view.start()
        threading.Thread(target=self._begin, args=(may_start,), name="begin", daemon=True).start()

    def _begin(self, may_start: Callable[[], bool]) -> None:
        try:
            if not may_start():
                return
            self._may_live.set()
        except Exception as error:
            log.exception("etcd is not started")
            self.waits_for = f"etcd was not started: {str(error) or type(error).__name__}"
            return
        self._etcd_wanted = True
        self._start_in_the_end()

    def has_heard(self, seconds: float) -> bool:
        """Wait until the view here is one of this life; False when that takes too long.

        What is remembered may be old: a server that is a member by it may have been deleted since.
        """
        deadline = elapsed() + seconds
        if not self._may_live.wait(seconds):
            return False
        return self.votes or self.records_view.wait_until(
            lambda _: self.records_view.has_told, max(0.0, deadline - elapsed())
        )

    def restart_etcd(self, seconds: float = RESTART_SECONDS) -> None:
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
            with self._starting:
                if self._stopping.is_set():
                    return
                self._start_backend_again()
            back = self.wait_for_leader(seconds)
        if not back:
            raise EtcdError(
                self.failure or f"etcd does not take part again after {seconds:.0f} s",
                "see the log of collectived on this server",
            )

    def _start_in_the_end(self) -> None:
        """Start etcd, over and over while something hinders it, such as a full disk."""
        while True:
            with self._starting:
                if self._stopping.is_set():
                    return
                try:
                    return self._start_backend()
                except CollectiveError as error:
                    log.debug("etcd is not started: %s", error)
            self._stopping.wait(_START_AGAIN_SECONDS)

    def _start_backend(self) -> None:
        """Start etcd with those that it is to let in now.

        Raises:
            CollectiveError: its files cannot be written; ``failure`` says so until they can be.
        """
        try:
            with self._trusting:
                if self.votes:
                    self.etcd_trust.write(self.wanted_peers())
                alone = not self._trusted_view.voters.keys() - {self.name}
        except CollectiveError as error:
            hindered = f"etcd is not started: {error.message}"
            if hindered != self._hindered:
                log.error("%s", hindered)
            self._hindered = hindered
            raise
        self._hindered = ""
        self._backend.start(self.plan, self.credentials, alone)

    def _start_backend_again(self) -> None:
        """Start etcd that was ended for it; what hinders that now is waited for elsewhere.

        Raises:
            CollectiveError: as ``_start_backend``.
        """
        try:
            self._start_backend()
        except CollectiveError:
            threading.Thread(target=self._start_in_the_end, name="begin", daemon=True).start()
            raise

    def take_detour(
        self, variables: Mapping[str, str], leaf_file: Path | None, wait: bool = False
    ) -> None:
        """Restart etcd with further variables and another certificate, or without them again.

        Args:
            variables: of its environment.
            leaf_file: key and certificate, PEM; None for those of this server.
            wait: until it takes part again, having handed leadership over; see ``restart_etcd``.
        """
        self._backend.take_detour(variables, leaf_file)
        self.detoured = bool(variables)
        if wait:
            self.restart_etcd()
            return
        with self._starting:
            # Before etcd was started for the first time, it is not ours to decide that it may.
            if self._etcd_wanted and not self._stopping.is_set():
                self._backend.stop()
                self._start_backend_again()

    def stop(self, hand_over: bool = True) -> None:
        """End etcd: leadership handed over, or at once where nobody counts on it."""
        self._stopping.set()
        if hand_over:
            self.hand_over()
        self.records_view.stop()
        self.detector.stop()
        with self._starting:
            if hand_over:
                self._backend.stop()
            else:
                self._backend.kill()
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
                self.gateway.move_leader(int(target.member_id, 16))
            log.info("leadership handed over to=%s", target.name)
        except CollectiveError as error:
            log.warning("leadership was not handed over: %s", error)

    def _successor(self) -> MemberRecord | None:
        voters = self.records_view.view.voters
        found = self.detector.answers(0.0)
        able = [
            (answer.status.index, voters[name])
            for name, answer in found.items()
            if name in voters and answer.status is not None and answer.status.healthy
        ]
        return max(able, key=lambda pair: pair[0])[1] if able else None

    def status(self, seconds: float = STATUS_SECONDS) -> Status:
        """Return what this server's etcd says of itself.

        Raises:
            EtcdError: it does not run or does not answer.
        """
        try:
            with within(seconds):
                status = self.gateway.status()
        except EtcdUnavailableError as error:
            if self.failure is not None:
                raise EtcdError(self.failure) from error
            raise
        self._backend.has_answered()
        return status

    def wait_until(self, ready: Callable[[Status], bool], seconds: float) -> bool:
        """Ask etcd for its status until a condition holds; False when time is up."""
        deadline = elapsed() + seconds
        while elapsed() < deadline:
            try:
                if ready(self.status()):
                    self.records_view.wake()
                    return True
            except EtcdUnavailableError:
                pass
            except EtcdError as error:
                log.debug("not yet: %s", error)
            if self._stopping.wait(_POLL_SECONDS):
                return False
        return False

    def wait_for_leader(self, seconds: float) -> bool:
        """Wait until etcd here knows a leader; False when time is up."""
        return self.wait_until(lambda status: bool(status.leader), seconds)

    def observe(self, seconds: float = 2.0) -> Observed:
        """Return what a decision about membership is made on: records, voters, who answers.

        Everybody is asked anew: an answer from before would let a deletion take the quorum of a
        collective that has just lost a server.

        Raises:
            EtcdError: the records cannot be read linearizably: there is no quorum.
        """
        since = elapsed()
        self.detector.answers(0.0, since)  # they are asked while the store is
        view = self.store.read()
        with within(seconds):
            voters = frozenset(
                record.name if record is not None else member.name or hex_id(member.id)
                for member in self.gateway.members()
                if not member.learner
                for record in [view.by_member_id(hex_id(member.id))]
            )
        self.detector.follow(view.members.values())
        answering = self.detector.answering(seconds, since) | {self.name}
        return Observed(self.name, view, voters, frozenset(answering))

    def peer(self, member: MemberRecord) -> PeerClient:
        """Return a new connection to a member's door."""
        context = self.credentials.client_context
        return PeerClient(member.address, member.door_port, context, self.check_of(member.name))

    def way_to(self, member: MemberRecord) -> Way:
        """Return how a member's door is reached, for a call to software there."""
        context, check = self.credentials.client_context, self.check_of(member.name)
        return Way(member.name, member.address, member.door_port, context, check)

    def _voters(self) -> list[MemberRecord]:
        return self.records_view.view.voters_but(self.name)

    def _relay_peer(self, member: MemberRecord) -> PeerClient:
        context, check = self.credentials.client_context, self.check_of(member.name)
        return PeerClient(member.address, member.door_port, context, check, _RELAYED_BYTES)

    def own_status(self) -> ServerStatus:
        """Return what this server says of itself to others."""
        errors: list[str] = []
        status: Status | None = None
        try:
            status = self.status()
            errors += status.errors
        except CollectiveError as error:
            errors.append(error.message)
        errors += self._served_wrongly
        errors += [self.trouble] if self.trouble else []
        return ServerStatus(
            name=self.name,
            release=__version__,
            etcd_version=self._frame.etcd.binary.version_text if self.votes else "",
            member_id=hex_id(status.member_id) if status else "",
            leader=hex_id(status.leader) if status else "",
            term=status.term if status else 0,
            index=status.index if status else 0,
            applied=status.applied if status else 0,
            db_size=status.db_size if status else 0,
            learner=status.learner if status else False,
            certificate=self.served,
            errors=tuple(errors),
            addresses=self.credentials.identity.addresses,
            durable_term=self.durable.term if self.durable else 0,
            durable_index=self.durable.index if self.durable else 0,
            nonvoting=not self.votes,
        )

    def look_at_door(self) -> bool:
        """Connect to our own door: what counts is the certificate that others are shown.

        A new one that is on the disk alone is new for nobody (kubernetes issue 102556). Tell
        whether the door could be looked at.
        """
        self._served_wrongly = ()
        try:
            der = served_certificate(self.plan.address, self.plan.door_port, _DOOR_SECONDS)
            self.served = read_certificate(der).fingerprint
        except (CollectiveError, OSError) as error:
            log.debug("our own door cannot be looked at: %s", error)
            self.served = ""
            return False
        if self.served != self.credentials.identity.fingerprint:
            self._served_wrongly = (
                f"at {self.plan.address} another certificate is shown than the one in "
                f"{self.credentials.identity_file}: does another server answer there?",
            )
        elif not self.credentials.is_on_disk():
            self._served_wrongly = (
                f"{self.credentials.identity_file} does not have the certificate that is shown, "
                f"{self.served}: put that one back, or the others will refuse etcd here",
            )
        return True

    def use_next(self) -> None:
        """Show the next certificate from now on, in our own calls too."""
        self.credentials.use_next()
        self.detector.use(self.credentials.client_context)

    # Whom we know, and whom we let in -----------------------------------------------------------

    def take_view(self, view: View) -> None:
        """Take records over that a majority of the voters has told, while etcd does not run."""
        if view.revision > self.records_view.view.revision:
            self.records_view.take(view)

    def check_of(self, wanted: str) -> Check:
        """Return the check of the certificate that a member serves."""

        def check(served: str) -> str | None:
            view = self.records_view.view
            if served in self._recognised_as(wanted) and served not in view.revoked:
                return None
            return objection(view, wanted, served)

        return check

    def _ask_as_stranger(self, member: MemberRecord) -> Found:
        """Find out why a member and we do not know each other, and recognise it if that is why."""
        record = self.records_view.view.members.get(member.name, member)
        known = (frozenset(record.fingerprints) | self._recognised_as(member.name)) - {""}
        found = recognition.ask(member, known, self.credentials.identity.fingerprint)
        if found.recognised:
            log.warning("a member has another certificate than it had name=%s", member.name)
            self._recognised[member.name] = (found.recognised, record.fingerprints)
        return found

    def recognises(self, member: MemberRecord) -> bool:
        """Tell whether a member that shows another certificate than is known has proven it its."""
        return bool(self._ask_as_stranger(member).recognised)

    def _recognised_as(self, name: str) -> frozenset[str]:
        """Return the certificate by which a member was recognised, while its record is the same.

        What is recorded since counts alone: the server may be another one, or its key was stolen.
        """
        found, recorded = self._recognised.get(name, ("", ()))
        member = self.records_view.view.members.get(name)
        same = member is not None and member.fingerprints == recorded
        return frozenset((found,)) if same else frozenset()

    def is_deleted_by(self, member: MemberRecord) -> bool:
        """Ask a member that does not let us in whether we were deleted."""
        return self._ask_as_stranger(member).deleted

    def wanted_peers(self) -> dict[str, Certificate]:
        """Return whom our etcd is to let in, by fingerprint: the recorded voters and learners."""
        view = self._trusted_view
        peers = (member for member in view.members.values() if member.is_peer)
        own = self.credentials.identity
        return {
            own.fingerprint: own,
            **certificates_of(peers, view.revoked),
            **{
                f: c
                for f, (c, recorded) in self._detours.items()
                if c.name in view.voters and view.voters[c.name].fingerprints == recorded
            },
        }

    def let_in_by_detour(self, certificates: Mapping[str, Certificate]) -> None:
        """Let voters in at etcd's door, from its next start on, by certificates not recorded yet.

        Args:
            certificates: that these have shown to us over the door, by fingerprint.
        """
        with self._trusting:
            voters = self._trusted_view.voters
            self._detours = {
                f: (c, voters[c.name].fingerprints)
                for f, c in certificates.items()
                if c.name in voters
            }

    def _trust(self, view: View) -> None:
        """Let in at both doors those whose certificates a view of the records lists.

        If the disk is full this raises, the view is not taken, and it is tried again: a member
        must not say that it refuses somebody whom its etcd still lets in.
        """
        with self._trusting:
            self._trusted_view = view
            members = certificates_of(view.members.values(), view.revoked)
            self.credentials.trust({f: c.pem for f, c in members.items()})
            if self.votes and self._etcd_wanted:
                self.etcd_trust.refuse_others(self.wanted_peers())

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked at a revision of the store opens nothing here.

        Returns:
            None when that is so: it is refused at both doors, and nothing of it is open. Else
            what that still wants, for people.
        """
        deadline = elapsed() + seconds
        if not self.records_view.wait_for(revision, seconds):
            return "its etcd has not heard of it"
        if not self.votes:
            return None  # the rest is about etcd's peer port
        with self._cutting:
            if self._cutting.wait_for(self._nothing_to_cut, max(0.0, deadline - elapsed())):
                return None
        return "a connection to its etcd is open still"

    def _nothing_to_cut(self) -> bool:
        return not self.to_cut()

    def to_cut(self) -> frozenset[str]:
        """Return the certificates of former peers that may have something open to our etcd.

        What is not in the trust file of the running etcd has nothing.
        """
        refused = self.etcd_trust.refused
        with self._cutting:
            # One that is let in again, and put out once more, is cut once more.
            self._cut &= refused
            return refused - self._cut

    def has_cut(self, fingerprints: frozenset[str]) -> None:
        """Note that certificates of former peers hold nothing open any more."""
        with self._cutting:
            self._cut |= fingerprints
            self._cutting.notify_all()
