"""One life of this server as one member of one collective: the parts of it, put together.

It does not change what the server is: ``lifecycle.server`` ends one life and begins the next when
the server joins, leaves or was removed.

Invariants:
  * Started once, stopped once; what it holds open is closed by ``stop``.
  * Who acts on a view of the records finds that it holds at both doors.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from collective.daemon.clock import elapsed
from collective.daemon.member.backend import Backend, Frame, OwnEtcd
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.failure_detector import FailureDetector
from collective.daemon.member.member_trust import MemberTrust
from collective.daemon.member.peers import Peers
from collective.daemon.member.places import MemberPlaces
from collective.daemon.member.proof_limiter import OneEach, ProofLimiter
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.status_reporter import StatusReporter
from collective.etcd.api import hex_id
from collective.etcd.deadline import within
from collective.etcd.record_store import RecordStore
from collective.model.plan import Plan
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.policy.membership import Observed
from collective.protocol.messages import ServerStatus
from collective.protocol.peer import PeerClient

log = logging.getLogger(__name__)

#: Gets the voters, and what connects to one.
Elsewhere = Callable[
    [Callable[[], Iterable[MemberRecord]], Callable[[MemberRecord], PeerClient]], Backend
]


class MemberRuntime:
    """This server as a member.

    Attributes:
        plan: which member this is.
        votes: whether it has an etcd of its own: it votes, or is a learner that is to.
        election_ms: the silence of a leader that makes etcd here start an election.
        listen: the addresses that etcd listens on, or will from its next start on.
        stopping: set when this life ends.
        replacing: held by whoever changes the certificate in use, see ``replacement``.
        gateway, store, records_view: the way to etcd, the records there, and those known here.
        trust, credentials, etcd_trust: whom this server lets in, and by which files at which door.
        peers, detector: the other members, as this server dials them, and who answers.
        etcd, reporter: what starts and ends etcd, and what this server says of itself.
        proof_limiter, dialled: what is done for strangers that would join, and for whom now.
        locate: returns a member's record with the address at which it was found.
        ignores_strays: whether our etcd ignores what was sent to another member.
        places: what each member without a vote takes of this server, see ``etcd_proxy``.
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
        self.plan, self.votes, self.listen = plan, plan.votes, frame.listen
        self.election_ms = frame.timing.election_ms
        self.credentials, self.etcd_trust = credentials, EtcdTrust(credentials)
        self.stopping, self.replacing = threading.Event(), threading.RLock()
        self.trust = MemberTrust(credentials, self.etcd_trust, remembered, self._wants_etcd)
        self.peers = Peers(credentials, lambda: self.records_view.view)
        self._backend, self._process = self._backend_of(frame, elsewhere), frame.etcd
        self.locate, self.ignores_strays = frame.locate, frame.etcd.binary.ignores_strays
        self.gateway = self._backend.gateway
        self.store = RecordStore(self.gateway)
        # Trust first: who acts on a view finds that it holds at both doors.
        listeners = [self.trust.take_up, lambda view: on_view(self, view)]
        self.records_view = RecordsView(self.gateway, listeners, remembered)
        self.detector = FailureDetector(
            plan.name,
            credentials.client_context,
            self.peers.check_of,
            self.peers.ask_as_stranger,
            self._dial_anew,
        )
        self.etcd = EtcdSupervisor(
            self._backend, self._plan, self.trust, self.records_view, self.detector, self.stopping
        )
        version = frame.etcd.binary.version_text if plan.votes else ""
        self.reporter = StatusReporter(self.etcd, version, credentials, self._plan)
        self.proof_limiter, self.dialled, self.places = ProofLimiter(), OneEach(), MemberPlaces()

    def _backend_of(self, frame: Frame, elsewhere: Elsewhere) -> Backend:
        if self.votes:
            return OwnEtcd(frame, self.credentials, self.etcd_trust)
        return elsewhere(
            lambda: self.records_view.view.voters_but(self.name), self.peers.relay_client
        )

    def _wants_etcd(self) -> bool:
        return self.votes and self.etcd.wanted

    def _plan(self) -> Plan:
        return self.plan

    def _dial_anew(self, member: MemberRecord, status: ServerStatus | None) -> None:
        """Have our etcd dial a member anew that was silent, where it would wait for it longer."""
        told = () if status is None else status.addresses
        count = self._process.reset_stuck({member.address, *told})
        if count:
            log.info(
                "etcd dials a member anew that answers again name=%s count=%d", member.name, count
            )

    @property
    def name(self) -> str:
        """This server's name."""
        return self.plan.name

    def use_plan(self, plan: Plan) -> None:
        """Go by what the state file says now."""
        self.plan = plan

    def relocate(self, plan: Plan, listen: Sequence[str]) -> None:
        """Have another address from the next start of etcd on."""
        self.plan, self.listen = plan, tuple(listen)
        self._backend.relocate(self.listen)

    def start(self, may_start: Callable[[], bool] = lambda: True) -> None:
        """Follow the store, and start etcd; returns at once.

        Args:
            may_start: waits until etcd may start, and returns whether it may; calls can be made
                by then, and nothing is served yet.
        """
        self.trust.take_up(self.records_view.view)
        self.follow(self.records_view.view)
        self.records_view.start()
        begin = self.etcd.begin
        threading.Thread(target=begin, args=(may_start,), name="begin", daemon=True).start()

    def follow(self, view: View) -> None:
        """Ask the members of a view from now on whether they answer, where they were found."""
        self.detector.follow(map(self.locate, view.members.values()))

    def has_heard(self, seconds: float) -> bool:
        """Wait until the view here is one of this life; False when that takes too long.

        What is remembered may be old: a server that is a member by it may have been deleted since.
        """
        deadline = elapsed() + seconds
        if not self.etcd.may_live.wait(seconds):
            return False
        return self.votes or self.records_view.wait_until(
            lambda _: self.records_view.has_told, max(0.0, deadline - elapsed())
        )

    def stop(self, hand_over: bool = True) -> None:
        """End etcd: leadership handed over, or at once where nobody counts on it."""
        self.stopping.set()
        if hand_over:
            self.etcd.hand_over()
        self.records_view.stop()
        self.detector.stop()
        self.etcd.stop(at_once=not hand_over)

    def observe(self, seconds: float = 2.0) -> Observed:
        """Return what a decision about membership is made on: records, voters, who follows.

        Everybody is asked anew: an answer from before would let a deletion take the quorum of a
        collective that has just lost a server. And who answers counts only when it has what was
        committed since: an etcd whose disk is frozen answers from its memory.

        Raises:
            EtcdError: the records cannot be read at a commit: there is no quorum.
        """
        since = elapsed()
        self.detector.answers(0.0, since)  # they are asked while the store is
        view = self.store.read_at_commit()
        index = self.etcd.status().index
        with within(seconds):
            voters = frozenset(
                record.name if record is not None else member.name or hex_id(member.id)
                for member in self.gateway.members()
                if not member.learner
                for record in [view.by_member_id(hex_id(member.id))]
            )
        self.follow(view)
        found = self.detector.answers_at(index, since, seconds, patient=True)
        answering = {n for n, answer in found.items() if self.detector.follows(answer, index)}
        behind = {n for n, answer in found.items() if answer.status is not None} - answering
        return Observed(
            self.name, view, voters, frozenset(answering | {self.name}), frozenset(behind)
        )

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked at a revision of the store opens nothing here.

        Returns:
            None when that is so: it is refused at both doors, and nothing of it is open. Else
            what that still wants, for people.
        """
        deadline = elapsed() + seconds
        if not self.records_view.wait_for(revision, seconds):
            return "its etcd has not heard of it"
        # The rest is about etcd's peer port.
        if not self.votes or self.etcd_trust.wait_until_cut(max(0.0, deadline - elapsed())):
            return None
        return "a connection to its etcd is open still"

    def use_next(self) -> None:
        """Show the next certificate from now on, in our own calls too."""
        self.credentials.use_next()
        self.detector.use(self.credentials.client_context)
