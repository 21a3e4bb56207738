"""``collective show``: see ``collective.daemon.listeners.show``."""

from __future__ import annotations

from typing import Any, Protocol

from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.listeners import show
from collective.errors import CollectiveError
from collective.model.plan import Mode, Plan
from collective.protocol.control import SelfResult

# Between two lives a server is nothing for a moment; the command must answer all the same.
_SETTLE_SECONDS = 0.3


class Server(Protocol):
    """What these ask of this server."""

    trouble: CollectiveError | None

    @property
    def plan(self) -> Plan:
        """What it is."""

    @property
    def runtime(self) -> show.Shown | None:
        """Its life as a member."""

    def settle(self, seconds: float) -> None:
        """Wait for a change of life that is under way to end."""

    def why_idle(self) -> CollectiveError:
        """Return why it is a member of nothing."""


def run(server: Server) -> Any:
    """Return what this server knows of its collective."""
    if server.runtime is None:
        server.settle(_SETTLE_SECONDS)
    runtime = server.runtime
    if runtime is None:
        return show.idle(server.plan, server.why_idle())
    return show.document(runtime)


def tell_self(server: Server) -> Any:
    """Return who this server is, without asking etcd or anybody: for software beside us."""
    plan = server.plan
    rests = plan.mode in (Mode.REMOVED, Mode.LOST)
    idle = idle_error(plan, server.trouble).to_wire() if rests else None
    return SelfResult(plan.name, plan.mode.value, idle).to_wire()
