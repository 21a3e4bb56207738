"""The server that is being promoted: it sees that it is to vote, and begins to.

It asks nobody at a terminal: ``collective promote`` may have been run anywhere, and this server
may have been restarted meanwhile.

    step      what the state file says   a crash then means
    target    NONVOTING                  it is seen again
    asked     NONVOTING                  the voters find their learner again
    joining   JOINING, fallback          etcd goes on catching up, as in a join
    (done)    MEMBER

Invariants:
  * A learner that is given up becomes again what it was, see ``changeover``.
"""

from __future__ import annotations

import logging
import threading

from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.changeover import become_learner, become_nonvoting
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.nonvoting import voters
from collective.errors import CollectiveError, ProtocolError
from collective.failpoints import Step, reached
from collective.model.names import peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import Role
from collective.model.view import View
from collective.protocol.listening import bind_tcp
from collective.protocol.messages import LEARNER, Learner, Message

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_AGAIN_SECONDS = 0.5
# The voters restart their etcds in turn meanwhile.
_ASK_SECONDS = 90.0


class Promotee:
    """A thread that waits for a promotion of this server."""

    def __init__(self, server: CollectiveServer, coordinator: JoinCoordinator) -> None:
        self._server = server
        self._coordinator = coordinator

    def start(self) -> None:
        """Begin to watch; it ends with the server."""
        threading.Thread(target=self._run, name="promotee", daemon=True).start()

    def _run(self) -> None:
        while not self._server.stopped.is_set():
            runtime, mode = self._server.runtime, self._server.plan.mode
            try:
                if runtime is not None and mode is Mode.NONVOTING:
                    self._look(runtime)
                    continue
                if runtime is not None and mode is Mode.JOINING:
                    self._give_up_false_start(runtime)
            except CollectiveError as error:
                log.warning("this server is not promoted yet: %s", error)
            except Exception:
                log.exception("this server could not be promoted")
            self._server.stopped.wait(_AGAIN_SECONDS)

    def _look(self, runtime: MemberRuntime) -> None:
        wanted = runtime.records_view.wait_until(
            lambda view: _is_wanted(view, runtime.name), _WATCH_SECONDS
        )
        if wanted and self._server.runtime is runtime and _is_at_home(self._server.plan, runtime):
            self._promote(runtime)

    def _promote(self, runtime: MemberRuntime) -> None:
        """Be made a learner, and begin to live as one."""
        plan = self._server.plan
        # A voter knocks at the peer port before it changes anything.
        holder = bind_tcp(plan.address, plan.peer_port)
        try:
            made = voters.ask(runtime, LEARNER, Message(), Learner, _ASK_SECONDS)
        finally:
            holder.close()
        reached(Step.PROMOTE_ASKED)
        become_learner(self._server, runtime, **_told(plan, made))
        self._coordinator.resume()

    def _give_up_false_start(self, runtime: MemberRuntime) -> None:
        """Ask again where etcd never started: its list of members may be too old by now."""
        plan, failure = self._server.plan, runtime.etcd.failure
        if plan.fallback is Role.NONVOTING and not plan.started and failure is not None:
            log.warning("etcd did not start for the promotion: %s", failure)
            become_nonvoting(self._server, runtime)


def _is_wanted(view: View, name: str) -> bool:
    own = view.members.get(name)
    return own is not None and own.target is Role.VOTER and own.role is not Role.VOTER


def _is_at_home(plan: Plan, runtime: MemberRuntime) -> bool:
    """Tell whether this server is where its record says: a learner's address cannot be changed."""
    own = runtime.records_view.view.members.get(runtime.name)
    return own is not None and own.address == plan.address and not plan.moving_to


def _told(plan: Plan, made: Learner) -> dict[str, str]:
    """Return what a voter tells of the learner that we are to be, as fields of its plan."""
    told = {
        "cluster_token": made.cluster_token,
        "initial_cluster": made.initial_cluster,
        "member_id": made.member_id,
    }
    ours = f"{plan.name}={peer_url(plan.address, plan.peer_port)}"
    if ours not in told["initial_cluster"].split(","):
        raise ProtocolError(f"a voter's list of members lacks {ours}")
    return told
