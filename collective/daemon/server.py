"""The class around all of it: this server, over its lives as member of one collective or another.

``collectived`` is a thin main around it, and another Python server can run it inside itself.

It does not parse requests (``control`` and ``member`` do) and decides nothing about membership.

Invariants:
  * One life at a time: all changes of what this server is are made under one lock.
  * A second daemon on the same folders does not start.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

from collective.daemon import credentials, lives
from collective.daemon.clock import elapsed, epoch, utc_now
from collective.daemon.credentials import Credentials, renewal_due
from collective.daemon.duties import Duties
from collective.daemon.gate import Gate
from collective.daemon.node import Frame, Node, hex_id
from collective.daemon.renewal import gencert
from collective.daemon.settings import Settings
from collective.daemon.state import State
from collective.errors import (
    CollectiveError,
    DaemonError,
    RefusedError,
    RemovedError,
)
from collective.etcd.arguments import Timing
from collective.etcd.binary import check_version, find_etcd, identify
from collective.etcd.process import EtcdProcess
from collective.files import FolderLock, make_private_folder, sweep_temporary
from collective.model.layout import Layout
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.protocol.door import DoorServer

log = logging.getLogger(__name__)

FIRST_ANSWER_SECONDS = 30.0
_WATCH_SECONDS = 0.5
_LEAVE_SECONDS = 10.0
_LEAVE_POLL_SECONDS = 0.05
_RENEW_SECONDS = 600.0
_SETTLE_SECONDS = 20.0


class CollectiveServer:
    """One server of a collective."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        """Take the lock and find etcd; nothing runs yet.

        Raises:
            RefusedError: another daemon runs on the same folders.
            EtcdError: etcd is missing or not fit.
            AccessError: a folder cannot be used.
        """
        self.settings = settings
        self.layout = layout
        make_private_folder(Path(layout.data))
        make_private_folder(Path(layout.run), 0o755)
        self._lock = FolderLock.acquire(Path(layout.daemon_lock))
        self.state = State(Path(layout.state))
        self.stopped = threading.Event()
        self.life = threading.RLock()
        self.gate = Gate()
        self.node: Node | None = None
        self._duties: Duties | None = None
        path = find_etcd(str(settings.etcd) if settings.etcd else None, os.environ.get("PATH", ""))
        binary = identify(path)
        check_version(binary, settings.allow_unsafe_etcd)
        log.info("etcd found path=%s version=%s", path, binary.version_text)
        self._etcd = EtcdProcess(
            binary, Path(layout.etcd_run), Path(layout.etcd_lock), self._etcd_ended
        )
        self.doors = DoorServer()

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
        plan = self.state.load()
        if plan is None:
            plan = lives.begin_alone(self.layout, self.state, self.settings, utc_now())
        lives.check_plan(plan, self.settings)
        if lives.first_start_was_cut(self.layout, plan):
            plan = lives.begin_alone(self.layout, self.state, self.settings, utc_now())
        if plan.mode is Mode.ADOPTING:
            plan = lives.adopt(self.layout, self.state, plan, utc_now())
        if plan.mode is Mode.LEAVING:
            plan = lives.rest(self.layout, self.state, plan, utc_now())
        self.live(plan)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Hand leadership over, end etcd, close the doors, release the lock."""
        self.stopped.set()
        with self.life:
            self.end_life(hand_over=True)
        self._etcd.close(5.0)
        self.doors.stop(2.0)
        self._lock.release()

    def live(self, plan: Plan) -> None:
        """Begin a life. A server that was removed has none: it only answers."""
        self._plan = plan
        self._credentials = Credentials(Path(self.layout.pki))
        self._credentials.guard = self.doors.between_handshakes
        if plan.mode is Mode.REMOVED:
            return
        if lives.data_is_lost(self.layout, plan):
            raise RefusedError(
                f"the data of etcd is gone from {self.layout.etcd_data}, which {plan.name} has "
                "used before",
                "put it back; if it is lost, see RECOVERY in collective(1)",
            )
        listen = lives.listen_addresses(self.settings, plan.address)
        timing = Timing(self.settings.heartbeat_ms, self.settings.election_ms)
        frame = Frame(self.layout, self._etcd, timing, listen)
        remembered = self.state.load_view(plan.cluster_token)
        node = Node(frame, plan, self._credentials, self._on_view, remembered)
        self.node = node
        self._duties = Duties(node, self.settings.learner_timeout)
        node.start()
        self._duties.start()
        threading.Thread(target=self._first_answer, args=(node,), daemon=True).start()

    def settle(self, seconds: float = _SETTLE_SECONDS) -> None:
        """Wait for a change of life that is under way to end, for so many seconds at most."""
        if self.life.acquire(timeout=seconds):
            self.life.release()

    def end_life(self, hand_over: bool) -> None:
        """Stop being a member, with leadership handed over first or not."""
        duties, self._duties = self._duties, None
        node, self.node = self.node, None
        if duties is not None:
            duties.stop()
        if node is not None:
            node.stop(hand_over)

    def _first_answer(self, node: Node) -> None:
        """Note that etcd has data, and, in a collective of one, write our own record."""
        while not node.wait_until(lambda status: bool(status.member_id), FIRST_ANSWER_SECONDS):
            if self.stopped.is_set() or self.node is not node:
                return
        with self.life:
            if self.node is not node:
                return
            if not self.plan.started:
                self.save(replace(self.plan, started=True))
        if not node.plan.existing:
            self._record_ourselves(node)

    def _record_ourselves(self, node: Node) -> None:
        while not node.wait_until(lambda status: bool(status.leader), FIRST_ANSWER_SECONDS):
            if self.stopped.is_set() or self.node is not node:
                return
        try:
            view = node.store.read()
            if view.members:
                return
            status = node.status()
            plan, leaf = node.plan, self._credentials.leaf
            record = MemberRecord(
                plan.name,
                hex_id(status.member_id),
                Role.VOTER,
                plan.address,
                plan.door_port,
                plan.peer_port,
                (leaf.serial,),
                (leaf.fingerprint,),
                epoch(),
                held_key=True,
            )
            node.store.put_member(view, record, epoch())
        except CollectiveError as error:
            log.warning("this server could not write its own record: %s", error)

    def save(self, plan: Plan) -> None:
        """Replace the state file."""
        self.state.save(plan)
        self._plan = plan

    def _on_view(self, node: Node, view: View) -> None:
        """Act on changed records: ask the right members, cut off revoked ones, wake duties."""
        node.prober.follow(view.members.values())
        revoked = view.revoked
        if revoked:
            self.doors.close_where(
                lambda peer: peer.certificate is not None and peer.certificate.serial in revoked
            )
        duties = self._duties
        if duties is not None:
            duties.wake()
        self._remember(node, view)

    def _remember(self, node: Node, view: View) -> None:
        """Keep the records for a start without a quorum, where they have changed."""
        known = node.replica.view
        if (known.members, known.revoked) == (view.members, view.revoked):
            return
        with self.life:
            if self.node is node:
                try:
                    self.state.save_view(view, node.plan.cluster_token)
                except CollectiveError as error:
                    log.error("the records cannot be remembered: %s", error)

    def _watch(self) -> None:
        """Find out that this server was removed, and renew its certificate in time."""
        next_try = 0.0
        while not self.stopped.wait(_WATCH_SECONDS):
            node = self.node
            if node is None:
                continue
            if node.prober.told_removed():
                self._try_to_rest(node)
            elif renewal_due(node.credentials.leaf, utc_now()) and elapsed() > next_try:
                next_try = elapsed() + _RENEW_SECONDS
                self._renew(node)

    def _try_to_rest(self, node: Node) -> None:
        try:
            self.become_removed(node, "the other members say so")
        except CollectiveError as error:
            log.error("the data of a deleted member cannot be moved aside: %s", error)

    def _renew(self, node: Node) -> None:
        try:
            gencert(node)
        except CollectiveError as error:
            log.warning("the certificate is to be renewed, but could not be: %s", error)

    def _etcd_ended(self) -> None:
        """Handle an etcd that ended with code 0 by itself, which a removed member's does."""
        node = self.node
        if node is not None and not self.stopped.is_set():
            self.become_removed(node, "etcd says so")

    def ends_soon(self, node: Node, seconds: float) -> bool:
        """Give a deletion a moment to be noticed, where the store does not answer any more."""
        deadline = elapsed() + seconds
        while self.node is node and elapsed() < deadline:
            self.stopped.wait(_LEAVE_POLL_SECONDS)
        return self.node is not node

    def leave_life(self, node: Node, why: str) -> None:
        """Wait until a removal that is written down is made, and end this life.

        Raises:
            CollectiveError: it is not made yet. The life goes on: without this member's data
                the others might never make it.
        """
        deadline = elapsed() + _LEAVE_SECONDS
        while self.node is node and not node.prober.told_removed():
            if elapsed() > deadline or self.stopped.wait(_LEAVE_POLL_SECONDS):
                raise CollectiveError(
                    f"{node.name} is being deleted, but that is not done after "
                    f"{_LEAVE_SECONDS:.0f} s",
                    "it goes on by itself while the other members have a quorum; see "
                    "'collective show'",
                )
        self.become_removed(node, why)

    def become_removed(self, node: Node, why: str) -> None:
        """End the life of a member that was deleted; its data is moved aside."""
        with self.life:
            if self.node is not node or self.stopped.is_set():
                return
            log.warning("this server was deleted from its collective: %s", why)
            self.end_life(hand_over=False)
            reason = f"{self.plan.name} was deleted from its collective"
            if self.plan.mode is Mode.JOINING:
                reason = f"{self.plan.name} was given up while it joined"
            leaving = lives.begin_rest(self.layout, self.state, self.plan, reason, utc_now())
            self.live(lives.rest(self.layout, self.state, leaving, utc_now()))

    def begin_again(self) -> None:
        """Make a server that was removed a collective of one."""
        with self.life:
            if self.plan.mode is not Mode.REMOVED:
                return
            self.live(lives.begin_alone(self.layout, self.state, self.settings, utc_now()))

    def require_node(self) -> Node:
        """Return this server as a member.

        Raises:
            DaemonError: the daemon is about to end.
            RemovedError: it was removed.
            RefusedError: a join was cut off half way.
        """
        if self.node is None:
            # Between two lives there is none for a moment; what is said after it is true.
            self.settle()
        node = self.node
        if node is None and self.stopped.is_set():
            raise DaemonError(f"collectived on {self.plan.name} is ending", "start it again")
        if node is None:
            raise idle_error(self.plan)
        return node


def idle_error(plan: Plan) -> CollectiveError:
    """Return the error of a server that is a member of nothing."""
    if plan.mode in (Mode.MEMBER, Mode.LEAVING):
        return CollectiveError(
            f"{plan.name} was deleted, and its data could not be moved aside",
            "see the log of collectived, make room or mend the folder, and restart collectived",
        )
    if plan.mode is not Mode.REMOVED:
        return RefusedError(
            f"{plan.name} has not finished to join",
            "run the same 'collective join' again, with the same token",
        )
    where = plan.former_data
    return RemovedError(
        plan.reason + (f"; its former data is in {where}" if where else ""),
        f"to come back: 'collective invite {plan.name}' on a member and 'collective join' here; "
        "for a new collective of one: 'collective gencert' here",
    )
