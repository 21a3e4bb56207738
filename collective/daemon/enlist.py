"""Join another collective: the whole of ``collective join`` on the server that runs it.

The talk with the sponsor is in ``joiner``, the file operations in ``lives``; here they meet: the
former life ends, that of a learner begins, and it becomes a member.

Invariants:
  * One join at a time; the same command again attaches to the one under way, or goes on with it.
"""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import replace
from pathlib import Path

from collective.daemon import credentials, lives
from collective.daemon.clock import elapsed, utc_now
from collective.daemon.joiner import Admitted, Dialled, Emit, Join, Self
from collective.daemon.node import Node, hex_id
from collective.daemon.server import FIRST_ANSWER_SECONDS, CollectiveServer, idle_error
from collective.errors import CollectiveError, EtcdError, RefusedError, UnreachableError
from collective.failpoints import Step, reached
from collective.model.names import natural_key
from collective.model.plan import Mode
from collective.model.records import Role
from collective.model.token import Token
from collective.pki import public_key_of
from collective.protocol import messages
from collective.protocol.listening import bind_tcp

log = logging.getLogger(__name__)

_CALL_SECONDS = 5.0
_READY_MARGIN_SECONDS = 30.0
_POLL_SECONDS = 0.03
_NOTICE_SECONDS = 2.0
_ATTACH_SECONDS = 60.0
_BETWEEN_SECONDS = 0.1
_LOOK_SECONDS = 0.5
# etcd's words when it is started for the first time with a list of members that is not the
# cluster's own (server/etcdserver/server.go, ValidateClusterAndAssignIDs).
_OLD_LIST = "error validating peerURLs"
_AGAIN_SECONDS = 2.0
_SLICE_SECONDS = 2.0


def _log_step(step: str, said: str) -> None:
    log.info("join: %s step=%s", said, step)


class Enlister:
    """The joins of one server."""

    def __init__(self, server: CollectiveServer) -> None:
        self._server = server
        self._joining = threading.Lock()
        self._asked: tuple[str, Token] | None = None
        self._dialled: Dialled | None = None
        self._peer_port_holder: socket.socket | None = None

    def resume(self) -> None:
        """Go on with a join that a restart cut off, if there is one; returns at once."""
        if self._server.plan.mode is Mode.JOINING:
            threading.Thread(target=self._finish_alone, name="join", daemon=True).start()

    def expect_dial_back(self, dialled: Dialled | None) -> None:
        """Answer dial-backs with this; while etcd does not run, also hold its port open."""
        self._dialled = dialled
        holder, self._peer_port_holder = self._peer_port_holder, None
        if holder is not None:
            holder.close()
        if dialled is not None and self._server.node is None:
            self._peer_port_holder = bind_tcp(
                dialled.addresses[0], self._server.settings.peer_port
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
        self._take_turn((server, token), emit)
        try:
            self._asked = (server, token)
            if self._has_joined_by(token):
                emit("ready", "this server takes part already")
                return
            self._become_learner(server, token, emit)
            try:
                self._finish(emit, FIRST_ANSWER_SECONDS)
            except EtcdError:
                if not self._list_is_old():
                    raise
                # A member went while this one came: with the list as it is now it can start.
                self._become_learner(server, token, emit)
                self._finish(emit, FIRST_ANSWER_SECONDS)
        finally:
            self._asked = None
            self._joining.release()

    def _take_turn(self, asked: tuple[str, Token], emit: Emit) -> None:
        """Wait for the same join where it is under way: its command may have been killed.

        Raises:
            RefusedError: another join is, or this one takes too long.
        """
        if self._joining.acquire(timeout=_BETWEEN_SECONDS):
            return
        if self._server.plan.mode is Mode.JOINING or self._asked == asked:
            emit("wait", "this join is under way already")
            if self._joining.acquire(timeout=_ATTACH_SECONDS):
                return
        raise RefusedError("cannot join: another join is under way here")

    def _become_learner(self, server: str, token: Token, emit: Emit) -> None:
        """Be taken in, unless this server is a learner whose etcd runs."""
        self._drop_false_start()
        if self._server.plan.mode is Mode.JOINING and self._server.node is not None:
            return
        with self._server.gate.joining(self._server.settings.name):
            self._refuse_if_in_company()
            self._server.settle()
            admitted = self._admit(server, token, emit)
            self._adopt(admitted)
        emit("adopt", f"data of before is in {self._server.layout.aside}")

    def _has_joined_by(self, token: Token) -> bool:
        """Tell whether the join with this very token is done, maybe by the daemon alone."""
        plan = self._server.plan
        return plan.mode is Mode.MEMBER and plan.joined_by == public_key_of(token.seed).hex()

    def _drop_false_start(self) -> None:
        """End the life of a learner whose etcd never started: its list of members is too old."""
        with self._server.life:
            if (
                self._server.plan.mode is Mode.JOINING
                and not self._server.plan.started
                and self._failing()
            ):
                self._server.end_life(hand_over=False)

    def _list_is_old(self) -> bool:
        """Tell whether etcd refused its first start, since the members have changed."""
        node = self._server.node
        return not self._server.plan.started and _OLD_LIST in ((node and node.failure) or "")

    def _failing(self) -> bool:
        return self._server.node is None or self._server.node.failure is not None

    def _refuse_if_in_company(self) -> None:
        """Let only a collective of one join another, and be sure that it is one.

        Raises:
            RefusedError: there are other members, or the store does not say.
        """
        node = self._server.node
        if node is None:
            return
        try:
            view, members = node.store.read(_NOTICE_SECONDS), node.gateway.members()
            known = {m.name or hex_id(m.id) for m in members} | view.members.keys()
        except EtcdError as error:
            known = set(node.replica.view.members)
            if self._server.ends_soon(node, _NOTICE_SECONDS):
                return
            # What is remembered says that we are alone; a memory that is lost says nothing.
            if not known:
                raise RefusedError(
                    f"cannot join: the store of {node.name} does not say whether it has other "
                    f"members: {error.message}",
                    "see 'collective show'",
                ) from error
        others = sorted(known - {node.name}, key=natural_key)
        if others:
            raise RefusedError(
                f"cannot join: {node.name} is in a collective already, with {', '.join(others)}",
                "run 'collective delete' here first to leave it",
            )

    def _admit(self, server: str, token: Token, emit: Emit) -> Admitted:
        here = Self(
            name=self._server.settings.name,
            address=lives.own_address(self._server.settings),
            door_port=self._server.settings.port,
            peer_port=self._server.settings.peer_port,
            fingerprint=self._server.credentials.leaf.fingerprint,
            hosts=self._server.settings.hosts,
        )
        return Join(here, self._server.state, self, self._server.stopped).run(server, token, emit)

    def _adopt(self, admitted: Admitted) -> None:
        """End the former life and begin that of a learner."""
        pki = Path(self._server.layout.pki)
        credentials.prepare(pki, admitted.bundle, None)
        reached(Step.JOIN_PREPARED)
        with self._server.life:
            plan = replace(admitted.plan, aside=self._server.plan.aside)
            self._server.save(plan)
            reached(Step.JOIN_ADOPTING)
            self._server.end_life(hand_over=False)
            plan = lives.adopt(self._server.layout, self._server.state, plan, utc_now())
            reached(Step.JOIN_ADOPT)
            self._server.live(plan)

    def _finish_alone(self) -> None:
        """Go on with a join after a restart, with nobody at the terminal, until it is decided."""
        while self._server.plan.mode is Mode.JOINING and not self._server.stopped.is_set():
            try:
                with self._joining:
                    # Not for long: somebody may run the command again meanwhile.
                    self._finish(_log_step, _SLICE_SECONDS)
            except CollectiveError as error:
                log.error("the join is not finished: %s", error)
            self._server.stopped.wait(_AGAIN_SECONDS)

    def _finish(self, emit: Emit, patience: float) -> None:
        """Wait until the learner is a voter, and fetch what only voters have.

        Args:
            emit: gets each step.
            patience: how long etcd may take to answer at all, in seconds.
        """
        if self._server.plan.mode is Mode.MEMBER:
            return
        node = self._server.require_node()
        limit = self._server.settings.learner_timeout + _READY_MARGIN_SECONDS
        if not self._answers(node, patience):
            self._raise_if_idle()
            raise EtcdError(
                node.failure or f"etcd did not answer within {patience:.0f} s",
                "run the same command again; the collective is not harmed by a learner",
            )
        emit("start", "etcd runs and catches up")
        reached(Step.JOIN_START)
        if not node.wait_until(lambda s: bool(s.leader) and not s.learner, limit):
            self._raise_if_idle()
            raise UnreachableError(
                f"this server was not made a voter within {limit:.0f} s",
                "see 'collective show' on a member; run the same command again",
            )
        emit("promote", "this server is a voter")
        reached(Step.JOIN_PROMOTE)
        self._become_member(node, limit)
        reached(Step.JOIN_READY)
        emit("ready", "this server takes part")

    def _answers(self, node: Node, patience: float) -> bool:
        """Wait until etcd answers at all; False when it did not, or never will."""
        deadline = elapsed() + patience
        while self._server.node is node and not self._list_is_old():
            left = deadline - elapsed()
            if node.wait_until(lambda status: bool(status.member_id), min(left, _LOOK_SECONDS)):
                return True
            if left <= 0 or self._server.stopped.is_set():
                break
        return False

    def _become_member(self, node: Node, limit: float) -> None:
        deadline = elapsed() + limit
        while True:
            try:
                if self._fetch_ca_key(node):
                    break
            except CollectiveError as error:
                log.debug("not ready yet: %s", error)
            if elapsed() > deadline or self._server.stopped.wait(_POLL_SECONDS):
                raise UnreachableError(
                    "no member gave this server the key of the collective's CA",
                    "it keeps trying; see 'collective show'",
                )
        reached(Step.JOIN_CA_KEY)
        with self._server.life:
            if self._server.node is not node:
                raise idle_error(self._server.plan)
            self._server.save(replace(self._server.plan, mode=Mode.MEMBER, started=True))
            self._server.state.drop_join_key()

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
                node.take_ca_key(messages.text(raw, "key").encode())
                return True
            except CollectiveError as error:
                log.debug("no key from %s: %s", member.name, error)
            finally:
                peer.close()
        return False

    def _raise_if_idle(self) -> None:
        if self._server.plan.mode is Mode.REMOVED:
            raise idle_error(self._server.plan)
