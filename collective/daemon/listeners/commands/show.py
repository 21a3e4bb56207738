"""``collective show``: see ``collective.daemon.listeners.show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.inactive import deleted_by, idle_error
from collective.daemon.listeners import show
from collective.daemon.listeners.shown import Shown
from collective.errors import CollectiveError
from collective.model.names import natural_key
from collective.model.plan import Mode, Plan
from collective.protocol.self_result import SelfResult

# Between two lives a server is nothing, and what it is then can be told when that is over: the
# parts of the former one may wait for an answer of etcd.
_SETTLE_SECONDS = 3.0
_ASK_SECONDS = 1.0


class Server(Protocol):
    """What these ask of this server."""

    trouble: CollectiveError | None

    @property
    def plan(self) -> Plan:
        """What it is."""

    @property
    def runtime(self) -> Shown | None:
        """Its life as a member."""

    def settle(self, seconds: float) -> None:
        """Wait for a change of life that is under way to end."""

    def why_idle(self) -> CollectiveError:
        """Return why it is a member of nothing."""


def run(server: Server, joining: Mapping[str, Any] | None = None) -> Any:
    """Return what this server knows of its collective.

    Args:
        server: this server.
        joining: the join that runs here, None for none.
    """
    return {**_document(server), "joining": joining}


def _document(server: Server) -> dict[str, Any]:
    if server.runtime is None:
        server.settle(_SETTLE_SECONDS)
    runtime = server.runtime
    if runtime is None:
        return show.idle(server.plan, server.why_idle())
    begun = elapsed()
    document = show.document(runtime)
    if document["quorum"]:
        return document
    if server.runtime is not runtime:
        return _document(server)
    # It rests when that is certain; who asks need not wait for it.
    runtime.detector.answers_at(0, begun, _ASK_SECONDS)
    who = runtime.detector.who_say_removed()
    return show.idle(server.plan, deleted_by(server.plan.name, who)) if who else document


def names(server: Server) -> Any:
    """Return the names of the members as they are known here, without asking anybody."""
    if server.runtime is None:
        raise server.why_idle()
    return {"names": sorted(server.runtime.records_view.view.members, key=natural_key)}


def tell_self(server: Server) -> Any:
    """Return who this server is, without asking etcd or anybody: for software beside us."""
    plan = server.plan
    rests = plan.mode in (Mode.REMOVED, Mode.LOST)
    idle = idle_error(plan, server.trouble).to_wire() if rests else None
    return SelfResult(plan.name, plan.mode.value, idle).to_wire()
