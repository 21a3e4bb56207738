"""``collective demote``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.daemon.member.quorum import needs_quorum, strength_known
from collective.daemon.member.runtime import Node
from collective.daemon.membership import demotion
from collective.daemon.nonvoting import voters
from collective.model.names import parse_server_name
from collective.policy import forecast
from collective.policy.membership import Observed, check_demote


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Take the vote of a server; another one than that server carries it out."""
    node = context.server.require_node()
    name = parse_server_name(str(raw.get("server", "")))
    if raw.get("dry_run"):
        told = forecast.demoted(_checked(node, name).strength(), name, answers=True)
        return {"name": name, "dry_run": True, "forecast": told.to_document()}
    if not node.votes or name == node.name:
        # Here first: where it is the last voter, there is no other one to refuse it.
        if name in node.replica.view.voters:
            _checked(node, name)
        return voters.run(node, "demote", raw, context.emit, (name,))
    before, votes = strength_known(node), name in node.replica.view.voters
    done = demotion.demote(node, name, context.by(node.name), context.emit)
    # One that does not vote already changes nothing.
    made = forecast.demoted(before, name, answers=True).to_document(done=True) if votes else None
    pending = done.to_document()["pending"]
    return {"name": name, "dry_run": False, "forecast": made, "pending": pending}


def _checked(node: Node, name: str) -> Observed:
    with needs_quorum(node, f"demote {name}"):
        observed = node.observe()
    check_demote(observed, name)
    return observed
