"""One life of this server as one member of one collective: its etcd and what hangs on it.

It does not change what the server is: ``collective.daemon.server`` ends one life and begins the
next when the server joins, leaves or was removed.

Invariants:
  * Started once, stopped once; what it holds open is closed by ``stop``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from collective import __version__
from collective.daemon.certificates.credentials import Credentials
from collective.daemon.certificates.revocation import is_revoked
from collective.daemon.clock import elapsed, utc_now
from collective.daemon.doors.access import objection
from collective.daemon.joining.proving import Doubts
from collective.daemon.nonvoting.backend import Backend, Frame, OwnEtcd, VotersEtcd
from collective.daemon.nonvoting.places import MemberPlaces
from collective.daemon.peers.prober import Prober
from collective.daemon.peers.replica import Replica
from collective.errors import CollectiveError, EtcdError, EtcdUnavailableError
from collective.etcd.calls import Status
from collective.etcd.deadline import within
from collective.etcd.store import Store
from collective.model.plan import Plan
from collective.model.promise import Promise
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import LeafInfo, read_leaf
from collective.policy.membership import Observed
from collective.policy.rekeying import Keys
from collective.protocol.messages import ServerStatus
from collective.protocol.passage import Way
from collective.protocol.peer import Check, Peer, served_chain
from collective.protocol.web import PeerCertificate

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
_RELAYED_BYTES = 64 << 20
RESTART_SECONDS = 20.0
_HANDOVER_SECONDS = 1.0
_POLL_SECONDS = 0.02
_DOOR_SECONDS = 1.0


def hex_id(member_id: int) -> str:
    """Return an etcd id as it is written everywhere, "" for none."""
    return f"{member_id:016x}" if member_id else ""


class Node:
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
        on_view: Callable[[Node, View], None],
        remembered: View,
    ) -> None:
        """Put the parts together; nothing runs yet.

        Args:
            frame: etcd's process and where things are.
            plan: which member this is.
            credentials: certificates in use.
            on_view: called with each new view of the records.
            remembered: the records as they were in the last run.
        """
        self._frame = frame
        self.plan = plan
        self.trouble = ""
        self.credentials = credentials
        self._votes = plan.votes
        self._backend: Backend = (
            OwnEtcd(frame) if plan.votes else VotersEtcd(self._voters, self._relay_peer)
        )
        self.gateway = self._backend.gateway
        self.store = Store(self.gateway)
        listeners = [self._revoke, lambda view: on_view(self, view)]
        self.replica = Replica(self.store, listeners, remembered)
        disowned = partial(is_revoked, credentials, self._serials)
        self.prober = Prober(plan.name, credentials.client_context, self._check, disowned)
        #: What our etcd has on its disk for sure; ``recollection`` finds it out.
        self.durable: Promise | None = None
        #: The certificate that our door was last seen to show, None while that is not known.
        self.served: LeafInfo | None = None
        self._served_wrongly: tuple[str, ...] = ()
        #: Held by whoever changes the certificate in use, see ``renewal``.
        self.renewing = threading.RLock()
        self._stopping = threading.Event()
        self._revoked: frozenset[str] | None = None
        self._listed: View | None = None
        self._revoking = threading.Lock()
        self._cutting = threading.Condition()
        #: Set while this server has its turn to restart etcd, or tries to get it.
        self.in_turn = threading.Event()
        self._cut: frozenset[str] | None = None
        self._trusted_by_etcd = frozenset[str]()
        self.doubts = Doubts()
        #: What each member without a vote takes of this server at a time, see ``relay``.
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

    def relocate(self, plan: Plan, listen: Sequence[str]) -> None:
        """Have another address from the next start of etcd on."""
        self.plan = plan
        self._frame = replace(self._frame, listen=tuple(listen))
        self._backend.relocate(self._frame.listen)

    @property
    def failure(self) -> str | None:
        """Why etcd does not run, or None."""
        return self._backend.failure

    @property
    def votes(self) -> bool:
        """Whether this server has an etcd of its own: it votes, or is a learner that is to."""
        return self._votes

    @property
    def etcd_runs(self) -> bool:
        """Whether etcd is well, or is at least there, so that its port is its own."""
        return self._backend.runs

    def start(self, before_etcd: Callable[[], None] = lambda: None) -> None:
        """Start etcd and follow the store; returns at once.

        Args:
            before_etcd: is called when calls can be made, and nothing is served yet.
        """
        before_etcd()
        self._start_backend()
        self.prober.follow(self.replica.view.members.values())
        self.replica.start()

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
            if self._stopping.is_set():
                return
            self._start_backend()
            back = self.wait_for_leader(seconds)
        if not back:
            raise EtcdError(
                self.failure or f"etcd does not take part again after {seconds:.0f} s",
                "see the log of collectived on this server",
            )

    def _start_backend(self) -> None:
        self._trusted_by_etcd = self.credentials.trusts
        self._backend.start(self.plan, self.credentials)

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
        if wait:
            self.restart_etcd()
            return
        self._backend.stop()
        if not self._stopping.is_set():
            self._start_backend()

    def stop(self, hand_over: bool = True) -> None:
        """Hand leadership over if this server leads, and end etcd."""
        self._stopping.set()
        if hand_over:
            self.hand_over()
        self.replica.stop()
        self.prober.stop()
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
                self.gateway.move_leader(int(target.member_id, 16))
            log.info("leadership handed over to=%s", target.name)
        except CollectiveError as error:
            log.warning("leadership was not handed over: %s", error)

    def _successor(self) -> MemberRecord | None:
        voters = self.replica.view.voters
        found = self.prober.answers(0.0)
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
        view = self.store.read()
        with within(seconds):
            voters = frozenset(
                record.name if record is not None else member.name or hex_id(member.id)
                for member in self.gateway.members()
                if not member.learner
                for record in [view.by_member_id(hex_id(member.id))]
            )
        self.prober.follow(view.members.values())
        answering = self.prober.answering(seconds, since=elapsed()) | {self.name}
        return Observed(self.name, view, voters, frozenset(answering))

    def peer(self, member: MemberRecord) -> Peer:
        """Return a new connection to a member's door."""
        context = self.credentials.client_context
        return Peer(member.address, member.door_port, context, self._check(member.name))

    def way_to(self, member: MemberRecord) -> Way:
        """Return how a member's door is reached, for a call to software there."""
        context, check = self.credentials.client_context, self._check(member.name)

        def objection(served: PeerCertificate) -> str | None:
            # As at our own door: what the others have told may be newer than the records here.
            if served.serial in self.credentials.revoked:
                return f"{member.name} was deleted from this collective"
            return check(served)

        return Way(member.address, member.door_port, context, objection)

    def _serials(self) -> Sequence[str]:
        """Return the certificates in our own record, as far as it is known here."""
        own = self.replica.view.members.get(self.name)
        return own.serials if own is not None else ()

    def _voters(self) -> list[MemberRecord]:
        return [m for n, m in self.replica.view.voters.items() if n != self.name]

    def _relay_peer(self, member: MemberRecord) -> Peer:
        context, check = self.credentials.client_context, self._check(member.name)
        return Peer(member.address, member.door_port, context, check, _RELAYED_BYTES)

    def own_status(self) -> ServerStatus:
        """Return what this server says of itself to others."""
        errors: list[str] = []
        status: Status | None = None
        try:
            status = self.status()
            errors += status.errors
        except CollectiveError as error:
            errors.append(error.message)
        keys = self.keys
        served = self.served or self.credentials.leaf
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
            certificate_ends=served.not_after.isoformat(),
            errors=tuple(errors),
            trusts=tuple(sorted(keys.trusts)),
            issuer=keys.issuer,
            holds=tuple(sorted(keys.holds)),
            addresses=self.credentials.leaf.addresses,
            durable_term=self.durable.term if self.durable else 0,
            durable_index=self.durable.index if self.durable else 0,
            nonvoting=not self.votes,
        )

    def look_at_door(self) -> None:
        """Connect to our own door: what counts is the certificate that others are shown.

        A renewed one that is on the disk alone is renewed for nobody (kubernetes issue 102556).
        """
        self._served_wrongly = ()
        try:
            chain = served_chain(self.plan.address, self.plan.door_port, _DOOR_SECONDS)
            self.served = read_leaf(chain[0])
            wanted = self.credentials.leaf_on_disk()
        except (CollectiveError, OSError) as error:
            log.debug("our own door cannot be looked at: %s", error)
            self.served = None
            return
        if self.served.fingerprint != wanted.fingerprint:
            self._served_wrongly = (
                f"the door shows a certificate that ends {self.served.not_after:%Y-%m-%d}, and "
                f"not the one in {self.credentials.leaf_file}: restart collectived",
            )

    @property
    def keys(self) -> Keys:
        """What a re-keying needs to know of this server."""
        trusts = self._trusted_by_etcd if self.votes else self.credentials.trusts
        return Keys(trusts, self.credentials.issuer, self.credentials.holds)

    def use_leaf(self, leaf_file: bytes) -> None:
        """Show another certificate from now on, in our own calls too."""
        self.credentials.use_leaf(leaf_file)
        self.prober.use(self.credentials.client_context)

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked at a revision of the store opens nothing here.

        Returns:
            None when that is so: it is refused at both doors, and nothing of it is open. Else
            what that still wants, for people.
        """
        deadline = elapsed() + seconds
        if not self.replica.wait_for(revision, seconds):
            return "its etcd has not heard of it"
        if not self.votes:
            return None  # the rest is about etcd's peer port
        while self._revoked != frozenset(self.replica.view.revoked):
            # The list is just being signed, or cannot be written.
            if elapsed() > deadline or self.stopping.wait(_POLL_SECONDS):
                return "its revocation list is not written"
        with self._cutting:
            if self._cutting.wait_for(self._nothing_to_cut, max(0.0, deadline - elapsed())):
                return None
        return "a connection to its etcd is open still"

    def _nothing_to_cut(self) -> bool:
        return not self.to_cut()

    def to_cut(self) -> frozenset[str]:
        """Return the serial numbers of removed servers that may have something open to our etcd.

        What was revoked before the first view has nothing: etcd has just been started.
        """
        view = self.replica.view
        with self._cutting:
            known = self._cut
        if known is None:
            return frozenset()
        # Also those of a server that was taken in again: what it had open before is not its any
        # more. One that is a member has an address that is known, so that nothing is cut of it.
        return frozenset(view.revoked) - known

    def has_cut(self, serials: frozenset[str]) -> None:
        """Note that certificates of removed servers hold nothing open any more."""
        with self._cutting:
            self._cut = (self._cut or frozenset()) | serials
            self._cutting.notify_all()

    def take_ca_key(self, key_pem: bytes) -> None:
        """Keep the CA's key, and write the revocation list with it."""
        with self._revoking:
            self.credentials.store_ca_key(key_pem)
        self._revoke(self.replica.view)

    def issue_with_next(self, pin: str) -> bool:
        """Issue with the new CA of a re-keying, and sign the revocation list with it."""
        with self._revoking:
            self._revoked = None
            done = self.credentials.issue_with_next(pin)
        self._revoke(self.replica.view)
        return done

    def _check(self, wanted: str) -> Check:
        return lambda served: objection(self.replica.view, wanted, served)

    def _revoke(self, view: View) -> None:
        """Rewrite the revocation list when the records revoke more than it does."""
        if self._cut is None:
            self._cut = frozenset(view.revoked)
        with self._revoking:
            # Whoever signs anew may come with a view from before the newest list.
            if self._listed is None or view.revision >= self._listed.revision:
                self._listed = view
            revoked = frozenset(self._listed.revoked)
            # Before anybody is cut off: who comes after that is refused on it, list or no list.
            self.credentials.revoked = revoked
            if revoked == self._revoked or not self.credentials.holds_ca_key:
                return
            # If the disk is full this raises, the view is not taken, and it is tried again: a
            # member must not say that it refuses somebody whom its etcd still lets in.
            self.credentials.revoke(revoked, utc_now())
            self._revoked = revoked
