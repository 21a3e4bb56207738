"""``collective show``: see ``collective.daemon.listeners.show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.listeners import show
from collective.daemon.listeners.commands.context import Context
from collective.model.names import natural_key
from collective.model.plan import Mode

# Between two lives a server is nothing for a moment; the command must answer all the same.
_SETTLE_SECONDS = 0.3


def run(context: Context, _raw: Mapping[str, Any]) -> Any:
    """Return what this server knows of its collective."""
    server = context.server
    if server.runtime is None:
        server.settle(_SETTLE_SECONDS)
    runtime = server.runtime
    if runtime is None:
        return show.idle(server.plan, server.why_idle())
    return show.document(runtime)


def names(context: Context, _raw: Mapping[str, Any]) -> Any:
    """Return the names of the members as they are known here, without asking anybody."""
    members = context.server.require_runtime().records_view.view.members
    return {"names": sorted(members, key=natural_key)}


def tell_self(context: Context, _raw: Mapping[str, Any]) -> Any:
    """Return who this server is, without asking etcd or anybody: for software beside us."""
    server = context.server
    plan = server.plan
    rests = plan.mode in (Mode.REMOVED, Mode.LOST)
    return {
        "format": show.FORMAT,
        "name": plan.name,
        "mode": plan.mode.value,
        "idle": idle_error(plan, server.trouble).to_wire() if rests else None,
    }
