"""Join another collective: the whole of ``collective join`` on the server that runs it.

The talk with the sponsor is in ``joiner``, the file operations in ``lives``; here they meet: the
former life ends, that of a learner begins, and it becomes a member.

Invariants:
  * One join at a time; the same command again attaches to the one under way, or goes on with it.
  * A join that is given up ends before its next step; from ``adopt`` on it is undone.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from collective.daemon.certificates.replacement import replace_certificate
from collective.daemon.clock import elapsed, utc_now
from collective.daemon.joining import giving_up
from collective.daemon.joining.admitted import Admitted
from collective.daemon.joining.giving_up import Given
from collective.daemon.joining.joiner import Emit, Join, Self, given_up_error
from collective.daemon.joining.preflight import Checks, Ready, look_here
from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.server import FIRST_ANSWER_SECONDS, CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import (
    CollectiveError,
    EtcdError,
    InvitationError,
    RefusedError,
    UnreachableError,
)
from collective.etcd.api import Status
from collective.failpoints import Step, reached
from collective.model.plan import Mode
from collective.model.records import Role
from collective.model.token import Token
from collective.model.view import View
from collective.pki import public_key_of
from collective.policy.forecast import Forecast
from collective.policy.transitions import Event, apply
from collective.protocol.listening import bind_tcp

log = logging.getLogger(__name__)

_READY_MARGIN_SECONDS = 30.0
_GLANCE_SECONDS = 0.5
_BUSY_SECONDS = 0.1
_GATE_SECONDS = 5.0
_ATTACH_SECONDS = 60.0
# etcd's words when it is started for the first time with a list of members that is not the
# cluster's own (server/etcdserver/server.go, ValidateClusterAndAssignIDs).
_OLD_LIST = "error validating peerURLs"
_AGAIN_SECONDS = 2.0
_SLICE_SECONDS = 2.0


def _log_step(step: str, said: str) -> None:
    log.info("join: %s step=%s", said, step)


class JoinCoordinator:
    """The joins of one server."""

    def __init__(self, server: CollectiveServer) -> None:
        self._server = server
        self._joining = threading.Lock()
        self._given_up = threading.Event()
        self._asked: tuple[str, str] | None = None
        self._step, self._since = "", 0.0
        self._peer_port_holder: socket.socket | None = None

    @property
    def under_way(self) -> dict[str, Any] | None:
        """The join that runs here, for people, also when nobody waits for it any more."""
        asked = self._asked
        if asked is None:
            return None
        return {"server": asked[0], "step": self._step, "seconds": round(elapsed() - self._since)}

    def resume(self) -> None:
        """Go on with a join that a restart cut off, if there is one; returns at once."""
        if self._server.plan.mode is Mode.JOINING:
            threading.Thread(target=self._finish_alone, name="join", daemon=True).start()

    def hold_peer_port(self, address: str | None) -> None:
        """Hold etcd's port open at an address where no etcd runs, or no longer."""
        holder, self._peer_port_holder = self._peer_port_holder, None
        if holder is not None:
            holder.close()
        if address is not None and self._server.runtime is None:
            self._peer_port_holder = bind_tcp(address, self._server.settings.peer_port)

    def renew_certificate(self, addresses: Sequence[str]) -> None:
        """Make this server, which nobody else trusts yet, another certificate."""
        runtime, own = self._server.runtime, self._server.credentials
        if runtime is not None:
            replace_certificate(runtime, addresses, _log_step)
            return
        own.prepare_next(addresses)
        own.use_next()

    def join(self, server: str, text: str, emit: Emit) -> Forecast | None:
        """Join the collective that a server is a member of, or go on with a join.

        Args:
            server: name or address, with an optional port.
            text: the token of the invitation.
            emit: gets each step's name and a sentence.

        Returns:
            What it did to the quorum, where that is known.

        Raises:
            CollectiveError: it did not work; the text says whether anything changed.
        """
        told: Forecast | None = None
        with self._in_turn((server, text), emit):
            emit = self._noting(emit)
            if self._has_joined_by(text):
                emit("ready", "this server takes part already")
                return None
            told = self._become_learner(server, text, emit)
            try:
                self._finish(emit, FIRST_ANSWER_SECONDS)
            except EtcdError:
                if not self._list_is_old():
                    raise
                # A member went while this one came: with the list as it is now it can start.
                told = self._become_learner(server, text, emit)
                self._finish(emit, FIRST_ANSWER_SECONDS)
        return told

    def _noting(self, emit: Emit) -> Emit:
        def noted(step: str, said: str) -> None:
            self._step = step
            emit(step, said)

        return noted

    @contextmanager
    def _in_turn(self, asked: tuple[str, str], emit: Emit) -> Iterator[None]:
        """Wait for the same join where it is under way: its command may have been killed.

        Raises:
            RefusedError: another join is, or this one takes too long.
        """
        seconds = _BUSY_SECONDS
        if self._joining.locked() and (
            self._server.plan.mode is Mode.JOINING or self._asked == asked
        ):
            emit("wait", "this join is under way already")
            seconds = _ATTACH_SECONDS
        with self._alone(seconds):
            self._asked, self._step, self._since = asked, "", elapsed()
            try:
                yield
            finally:
                self._asked = None

    def _become_learner(self, server: str, text: str, emit: Emit) -> Forecast | None:
        """Be taken in, unless this server is a learner whose etcd runs."""
        self._drop_false_start()
        if self._server.plan.mode is Mode.JOINING and self._server.runtime is not None:
            return None
        with self._server.gate.joining(self._server.settings.name, _GATE_SECONDS):
            self._server.settle()
            told = self._begin(server, text, emit)
        emit("adopt", f"data of before is in {self._server.layout.aside}")
        return told

    def _begin(self, server: str, text: str, emit: Emit) -> Forecast | None:
        """Get admitted, and begin the life of a learner."""
        checks = Checks(f"join {server}")
        join, ready = self._look_here(checks, server, text)
        self._adopt(join.run(server, ready, checks, emit))
        return join.forecast

    def check(self, server: str, text: str | None) -> tuple[Checks, Forecast | None]:
        """Find out all that would hinder a join, and change nothing.

        Args:
            server: name or address, with an optional port.
            text: the token of the invitation; None leaves out what needs one.

        Raises:
            RefusedError: a join is under way here.
        """
        with self._alone(_BUSY_SECONDS):
            checks = Checks(f"join {server}")
            if self._server.plan.mode in (Mode.JOINING, Mode.ADOPTING):
                raise idle_error(self._server.plan, self._server.trouble)
            join, ready = self._look_here(checks, server, text)
            return checks, join.check(server, ready, checks)

    def give_up(self, force: bool) -> Given:
        """Give up the join that is under way or half done here (``collective join --abort``).

        Args:
            force: also if no member can be asked.

        Raises:
            RefusedError: there is none, or this server is a voter already.
        """
        begun = self._joining.locked()
        self._given_up.set()
        try:
            with self._alone(_ATTACH_SECONDS, "give up the join"):
                return giving_up.give_up(self._server, force, begun)
        finally:
            self._given_up.clear()

    @contextmanager
    def _alone(self, seconds: float, doing: str = "join") -> Iterator[None]:
        """Do something that no other join may come in between."""
        if not self._joining.acquire(timeout=seconds):
            raise RefusedError(f"cannot {doing}: another join is under way here")
        try:
            yield
        finally:
            self._joining.release()

    def _has_joined_by(self, text: str) -> bool:
        """Tell whether the join with this very token is done, maybe by the daemon alone."""
        plan = self._server.plan
        if plan.mode not in (Mode.MEMBER, Mode.NONVOTING) or not plan.joined_by:
            return False
        try:
            return plan.joined_by == public_key_of(Token.parse(text).seed).hex()
        except InvitationError:
            return False

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
        runtime = self._server.runtime
        failure = runtime and runtime.etcd.failure
        return not self._server.plan.started and _OLD_LIST in (failure or "")

    def _failing(self) -> bool:
        return self._server.runtime is None or self._server.runtime.etcd.failure is not None

    def _look_here(self, checks: Checks, server: str, text: str | None) -> tuple[Join, Ready]:
        settings = self._server.settings
        ready = look_here(checks, self._server, server, text)
        here = Self(settings.name, ready.address, settings.port, settings.peer_port)
        return Join(self._server, here, self, self._given_up), ready

    def _adopt(self, admitted: Admitted) -> None:
        """End the former life and begin that of a learner."""
        with self._server.life:
            plan = apply(self._server.plan, Event.ADMITTED, **admitted.plan.given())
            if self._given_up.is_set():
                raise given_up_error(plan.name)
            state = self._server.state
            lives.keep_state(self._server.layout, state, self._server.plan, utc_now())
            state.save_view(admitted.view, plan.cluster_token)
            self._server.save(plan)
            reached(Step.JOIN_ADOPTING)
            self._server.end_life(hand_over=False)
            try:
                plan = lives.adopt(self._server.layout, self._server.state, plan, utc_now())
            except CollectiveError as error:
                self._server.stay(error)
                raise
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
                level = logging.INFO if self._given_up.is_set() else logging.ERROR
                log.log(level, "the join is not finished: %s", error)
            self._server.stopped.wait(_AGAIN_SECONDS)

    def _finish(self, emit: Emit, patience: float) -> None:
        """Wait until the learner is a voter, and fetch what only voters have.

        Args:
            emit: gets each step.
            patience: how long etcd may take to answer at all, in seconds.
        """
        if self._server.plan.mode is not Mode.JOINING:
            return
        runtime = self._server.require_runtime()
        if not runtime.votes:
            self._finish_without_vote(runtime, emit)
            return
        limit = self._server.settings.learner_timeout + _READY_MARGIN_SECONDS
        if not self._answers(runtime, patience):
            self._raise_if_idle()
            failure = runtime.etcd.failure
            raise EtcdError(
                f"the etcd of {runtime.name}, this server, "
                + (f"does not run: {failure}" if failure else f"is silent for {patience:.0f} s"),
                "see 'journalctl -u collectived' here, and run the same 'collective join' again: "
                "it goes on; or give it up: 'collective join --abort'",
            )
        emit("start", "etcd runs and catches up")
        reached(Step.JOIN_START)
        if not self._wait_until(runtime, lambda s: bool(s.leader) and not s.learner, limit):
            self._raise_if_idle()
            raise UnreachableError(
                f"the etcd of whoever leads did not make {runtime.name}, this server, a voter "
                f"within {limit:.0f} s",
                "when 'collective show' on a member shows a quorum, run the same 'collective "
                "join' again: it goes on; or give it up: 'collective join --abort'",
            )
        emit("promote", "this server is a voter")
        reached(Step.JOIN_PROMOTE)
        self._become_member(runtime, limit)
        reached(Step.JOIN_READY)
        emit("ready", "this server takes part")

    def _answers(self, runtime: MemberRuntime, patience: float) -> bool:
        """Wait until etcd answers at all; False when it did not, or never will."""
        deadline = elapsed() + patience
        while self._server.runtime is runtime and not self._list_is_old():
            left = min(deadline - elapsed(), _GLANCE_SECONDS)
            if left <= 0 or self._server.stopped.is_set():
                break
            if self._wait_until(runtime, lambda status: bool(status.member_id), left):
                return True
        return False

    def _wait_until(
        self, runtime: MemberRuntime, ready: Callable[[Status], bool], seconds: float
    ) -> bool:
        """Wait for etcd, as long as nobody gives the join up."""
        deadline = elapsed() + seconds
        while (left := deadline - elapsed()) > 0 and self._server.runtime is runtime:
            if self._given_up.is_set():
                raise given_up_error(runtime.name)
            if runtime.etcd.wait_until(ready, min(left, _GLANCE_SECONDS)):
                return True
        return False

    def _finish_without_vote(self, runtime: MemberRuntime, emit: Emit) -> None:
        """Wait until whoever leads has found that this server answers."""
        emit("start", "this server follows the voters")
        limit = self._server.settings.learner_timeout + _READY_MARGIN_SECONDS
        deadline = elapsed() + limit
        while not runtime.records_view.wait_until(
            lambda view: _is_nonvoting(view, runtime.name), 0.2
        ):
            self._raise_if_idle()
            if self._given_up.is_set():
                raise given_up_error(runtime.name)
            if elapsed() > deadline or self._server.stopped.is_set():
                raise UnreachableError(
                    f"no voter took this server in within {limit:.0f} s",
                    "see 'collective show' on a member; run the same command again",
                )
        self._become(runtime, Event.TAKEN_IN)
        reached(Step.JOIN_NONVOTING)
        emit("ready", "this server takes part; it does not vote")

    def _become_member(self, runtime: MemberRuntime, limit: float) -> None:
        """Wait until the records say that this server votes: then the invitation is gone, too."""
        deadline = elapsed() + limit
        while not runtime.records_view.wait_until(
            lambda view: runtime.name in view.voters, _GLANCE_SECONDS
        ):
            if self._given_up.is_set():
                raise given_up_error(runtime.name)
            if elapsed() > deadline or self._server.stopped.is_set():
                raise UnreachableError(
                    "no member wrote down that this server votes", "see 'collective show'"
                )
        self._become(runtime, Event.VOTES)

    def _become(self, runtime: MemberRuntime, event: Event) -> None:
        with self._server.life:
            if self._server.runtime is not runtime:
                raise self._server.why_idle()
            self._server.save(apply(self._server.plan, event))

    def _raise_if_idle(self) -> None:
        self._server.settle()
        if self._server.plan.mode is Mode.REMOVED:
            raise idle_error(self._server.plan, self._server.trouble)


def _is_nonvoting(view: View, name: str) -> bool:
    own = view.members.get(name)
    return own is not None and own.role is Role.NONVOTING
