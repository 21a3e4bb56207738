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
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from collective.daemon import credentials, lives
from collective.daemon.clock import elapsed, utc_now
from collective.daemon.credentials import Credentials, renewal_due
from collective.daemon.duties import Duties
from collective.daemon.joiner import Admitted, Dialled, Emit, Join, Self
from collective.daemon.membership import gencert
from collective.daemon.node import Frame, Node
from collective.daemon.settings import Settings
from collective.daemon.state import State
from collective.errors import (
    CollectiveError,
    EtcdError,
    RefusedError,
    RemovedError,
    UnreachableError,
)
from collective.etcd.arguments import Timing
from collective.etcd.binary import check_version, find_etcd, identify
from collective.etcd.process import EtcdProcess
from collective.files import FolderLock, make_private_folder
from collective.model.layout import Layout
from collective.model.names import natural_key
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.token import Token
from collective.model.view import View
from collective.protocol import messages
from collective.protocol.door import DoorServer

log = logging.getLogger(__name__)

_CALL_SECONDS = 5.0
_FIRST_ANSWER_SECONDS = 30.0
_READY_MARGIN_SECONDS = 30.0
_WATCH_SECONDS = 0.5
_LEAVE_SECONDS = 5.0
_NOTICE_SECONDS = 2.0
_RENEW_SECONDS = 600.0
_ATTACH_SECONDS = 60.0


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
        self._state = State(Path(layout.state))
        self.stopped = threading.Event()
        self._life = threading.RLock()
        self._joining = threading.Lock()
        self._dialled: Dialled | None = None
        self._peer_port_holder: socket.socket | None = None
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
        self.on_new_context: Callable[[], None] = lambda: None

    @property
    def plan(self) -> Plan:
        """What this server is."""
        plan = self._plan
        assert plan is not None
        return plan

    @property
    def credentials(self) -> Credentials:
        """The certificates in use."""
        return self._credentials

    def start(self) -> None:
        """Begin or go on with the life that the state file names; doors are not opened here.

        Raises:
            CollectiveError: the state cannot be used; the text says what to do.
        """
        plan = self._state.load()
        if plan is None:
            plan = lives.begin_alone(self.layout, self._state, self.settings, utc_now())
        lives.check_plan(plan, self.settings)
        if plan.mode is Mode.ADOPTING:
            plan = lives.adopt(self.layout, self._state, plan, utc_now())
        self._live(plan)
        if plan.mode is Mode.JOINING:
            threading.Thread(target=self._finish_alone, name="join", daemon=True).start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Hand leadership over, end etcd, close the doors, release the lock."""
        self.stopped.set()
        with self._life:
            self._end_life(hand_over=True)
        self._etcd.close(5.0)
        self.doors.stop(2.0)
        self._lock.release()

    def _live(self, plan: Plan) -> None:
        """Begin a life. A server that was removed has none: it only answers."""
        self._plan = plan
        self._credentials = Credentials(Path(self.layout.pki))
        self._credentials.guard = self.doors.between_handshakes
        if plan.mode is Mode.REMOVED:
            self.on_new_context()
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
        node = Node(frame, plan, self._credentials, self._on_view)
        self.node = node
        self._duties = Duties(node, self.settings.learner_timeout)
        self.on_new_context()
        node.start()
        self._duties.start()
        threading.Thread(target=self._first_answer, args=(node,), daemon=True).start()

    def _end_life(self, hand_over: bool) -> None:
        duties, self._duties = self._duties, None
        node, self.node = self.node, None
        if duties is not None:
            duties.stop()
        if node is not None:
            node.stop(hand_over)

    def _first_answer(self, node: Node) -> None:
        """Note that etcd has data, and, in a collective of one, write our own record."""
        if not node.wait_until(lambda status: bool(status.member_id), _FIRST_ANSWER_SECONDS):
            return
        with self._life:
            if self.node is not node:
                return
            if not self.plan.started:
                self._save(replace(self.plan, started=True))
        if not node.plan.existing:
            self._record_ourselves(node)

    def _record_ourselves(self, node: Node) -> None:
        if not node.wait_until(lambda status: bool(status.leader), _FIRST_ANSWER_SECONDS):
            return
        try:
            view = node.store.read()
            if view.members:
                return
            status = node.status()
            plan, serial = node.plan, self._credentials.leaf.serial
            record = MemberRecord(
                plan.name,
                f"{status.member_id:016x}",
                Role.VOTER,
                plan.address,
                plan.door_port,
                plan.peer_port,
                (serial,),
                utc_now().timestamp(),
            )
            node.store.put_member(view, record)
        except CollectiveError as error:
            log.warning("this server could not write its own record: %s", error)

    def _save(self, plan: Plan) -> None:
        self._state.save(plan)
        self._plan = plan

    def _on_view(self, node: Node, view: View) -> None:
        """Act on changed records: ask the right members, cut off revoked ones, wake duties."""
        node.prober.follow(view.members.values())
        revoked = view.revoked
        if revoked:
            self.doors.close_where(
                lambda peer: peer.certificate is not None and peer.certificate.serial in revoked
            )
        if self._duties is not None:
            self._duties.wake()

    # Joining ---------------------------------------------------------------------------------

    def expect_dial_back(self, dialled: Dialled | None) -> None:
        """Answer dial-backs with this; while etcd does not run, also hold its port open."""
        self._dialled = dialled
        holder, self._peer_port_holder = self._peer_port_holder, None
        if holder is not None:
            holder.close()
        if dialled is not None and self.node is None:
            self._peer_port_holder = socket.create_server(
                (dialled.addresses[0], self.settings.peer_port),
                family=socket.AF_INET6 if ":" in dialled.addresses[0] else socket.AF_INET,
            )

    @property
    def dialled(self) -> Dialled | None:
        """What a dial-back is answered with now, None outside of a join."""
        return self._dialled

    def join(self, server: str, token: Token, emit: Emit) -> None:
        """Join the collective that a server is a member of, or go on with a join.

        Args:
            server: name or address, with an optional port.
            token: the invitation.
            emit: gets each step's name and a sentence.

        Raises:
            CollectiveError: it did not work; the text says whether anything changed.
        """
        resumes = self.plan.mode is Mode.JOINING
        if not self._joining.acquire(timeout=_ATTACH_SECONDS if resumes else 0.1):
            raise RefusedError("cannot join: another join is under way here")
        try:
            if resumes and self.plan.mode is Mode.MEMBER:
                return
            self._drop_false_start()
            if self.plan.mode is not Mode.JOINING or self.node is None:
                self._refuse_if_in_company()
                admitted = self._admit(server, token, emit)
                self._adopt(admitted)
                emit("adopt", f"data of before is in {self.layout.aside}")
            self._finish(emit)
        finally:
            self._joining.release()

    def _drop_false_start(self) -> None:
        """End the life of a learner whose etcd never started: its list of members is too old."""
        with self._life:
            if self.plan.mode is Mode.JOINING and not self.plan.started and self._failing():
                self._end_life(hand_over=False)

    def _failing(self) -> bool:
        return self.node is None or self.node.failure is not None

    def _refuse_if_in_company(self) -> None:
        node = self.node
        if node is None:
            return
        view = node.replica.view
        others = sorted(view.members.keys() - {node.name}, key=natural_key)
        if others and not self._was_just_removed(node):
            raise RefusedError(
                f"cannot join: {node.name} is in a collective already, with {', '.join(others)}",
                "run 'collective delete' here first to leave it",
            )

    def _was_just_removed(self, node: Node) -> bool:
        """Give a deletion a moment to be noticed here, where the store does not answer."""
        try:
            node.store.read(_NOTICE_SECONDS)
            return False
        except EtcdError:
            deadline = elapsed() + _NOTICE_SECONDS
            while self.node is node and elapsed() < deadline:
                self.stopped.wait(0.05)
            return self.node is not node

    def _admit(self, server: str, token: Token, emit: Emit) -> Admitted:
        here = Self(
            name=self.settings.name,
            address=lives.own_address(self.settings),
            door_port=self.settings.port,
            peer_port=self.settings.peer_port,
            fingerprint=self._credentials.leaf.fingerprint,
            hosts=self.settings.hosts,
        )
        return Join(here, self._state, self, self.stopped).run(server, token, emit)

    def _adopt(self, admitted: Admitted) -> None:
        """End the former life and begin that of a learner."""
        pki = Path(self.layout.pki)
        credentials.prepare(pki, admitted.bundle, None)
        with self._life:
            plan = replace(admitted.plan, aside=self.plan.aside)
            self._save(plan)
            self._end_life(hand_over=False)
            plan = lives.adopt(self.layout, self._state, plan, utc_now())
            self._live(plan)

    def _finish_alone(self) -> None:
        """Go on with a join after a restart, with nobody at the terminal."""
        try:
            with self._joining:
                self._finish(lambda step, said: log.info("join: %s step=%s", said, step))
        except CollectiveError as error:
            log.error("the join was not finished: %s", error)

    def _finish(self, emit: Emit) -> None:
        """Wait until the learner is a voter, and fetch what only voters have."""
        if self.plan.mode is Mode.MEMBER:
            return
        node = self._living()
        limit = self.settings.learner_timeout + _READY_MARGIN_SECONDS
        if not node.wait_until(lambda status: bool(status.member_id), _FIRST_ANSWER_SECONDS):
            self._raise_if_removed()
            raise EtcdError(
                node.failure or f"etcd did not answer within {_FIRST_ANSWER_SECONDS:.0f} s",
                "run the same command again; the collective is not harmed by a learner",
            )
        emit("start", "etcd runs and catches up")
        if not node.wait_until(lambda s: bool(s.leader) and not s.learner, limit):
            self._raise_if_removed()
            raise UnreachableError(
                f"this server was not made a voter within {limit:.0f} s",
                "see 'collective show' on a member; run the same command again",
            )
        emit("promote", "this server is a voter")
        self._become_member(node, limit)
        emit("ready", "this server takes part")

    def _become_member(self, node: Node, limit: float) -> None:
        deadline = elapsed() + limit
        while True:
            try:
                if self._fetch_ca_key(node):
                    break
            except CollectiveError as error:
                log.debug("not ready yet: %s", error)
            if elapsed() > deadline or self.stopped.wait(0.03):
                raise UnreachableError(
                    "no member gave this server the key of the collective's CA",
                    "it keeps trying; see 'collective show'",
                )
        with self._life:
            self._save(replace(self.plan, mode=Mode.MEMBER, started=True))
            self._state.drop_join_key()

    def _fetch_ca_key(self, node: Node) -> bool:
        """Get the CA's key from another voter; False while our record does not say voter."""
        view = node.store.read()
        own = view.members.get(node.name)
        if own is None or own.role is not Role.VOTER:
            return False
        for member in view.voters.values():
            if member.name == node.name:
                continue
            peer = node.peer(member)
            try:
                raw = peer.call("GET", messages.CA_KEY, None, _CALL_SECONDS)
                node.credentials.store_ca_key(messages.text(raw, "key").encode())
                node.credentials.revoke(view.revoked, utc_now())
                return True
            except CollectiveError as error:
                log.debug("no key from %s: %s", member.name, error)
            finally:
                peer.close()
        return False

    # Being removed ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Find out that this server was removed, and renew its certificate in time."""
        next_try = 0.0
        while not self.stopped.wait(_WATCH_SECONDS):
            node = self.node
            if node is None:
                continue
            if node.prober.told_removed():
                self.become_removed(node, "the other members say so")
            elif renewal_due(node.credentials.leaf, utc_now()) and elapsed() > next_try:
                next_try = elapsed() + _RENEW_SECONDS
                self._renew(node)

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

    def leave_life(self, node: Node, why: str) -> None:
        """Wait until a removal that is written down is made, and end this life."""
        deadline = elapsed() + _LEAVE_SECONDS
        while self.node is node and elapsed() < deadline and not node.prober.told_removed():
            self.stopped.wait(0.05)
        self.become_removed(node, why)

    def become_removed(self, node: Node, why: str) -> None:
        """End the life of a member that was deleted; its data is moved aside."""
        with self._life:
            if self.node is not node or self.stopped.is_set():
                return
            log.warning("this server was deleted from its collective: %s", why)
            self._end_life(hand_over=False)
            reason = f"{self.plan.name} was deleted from its collective"
            if self.plan.mode is Mode.JOINING:
                reason = f"{self.plan.name} was given up while it joined"
            self._live(lives.rest(self.layout, self._state, self.plan, reason, utc_now()))

    def begin_again(self) -> None:
        """Make a server that was removed a collective of one."""
        with self._life:
            if self.plan.mode is not Mode.REMOVED:
                return
            self._live(lives.begin_alone(self.layout, self._state, self.settings, utc_now()))

    def _raise_if_removed(self) -> None:
        if self.plan.mode is Mode.REMOVED:
            raise removed_error(self.plan)

    def _living(self) -> Node:
        node = self.node
        if node is None:
            raise removed_error(self.plan)
        return node

    def require_node(self) -> Node:
        """Return this server as a member.

        Raises:
            RemovedError: it was removed.
        """
        return self._living()


def removed_error(plan: Plan) -> RemovedError:
    """Return the error of a server that rests."""
    where = plan.former_data
    return RemovedError(
        plan.reason + (f"; its former data is in {where}" if where else ""),
        f"to come back: 'collective invite {plan.name}' on a member and 'collective join' here; "
        "for a new collective of one: 'collective gencert' here",
    )
