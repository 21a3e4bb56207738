"""``collective delete``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from collective.daemon import removal
from collective.daemon.commands.context import Context
from collective.daemon.node import Node
from collective.daemon.server import CollectiveServer, idle_error
from collective.errors import EtcdError, QuorumError
from collective.model.names import parse_server_name
from collective.policy.membership import tolerance_sentence

_NOTICE_SECONDS = 2.0


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Put a member out of the collective, or leave it."""
    server = context.server
    node = server.require_node()
    asked = raw.get("server")
    name = node.name if asked is None else parse_server_name(str(asked))
    if name == node.name:
        by = _leave(server, node)
        server.leave_life(node, f"it left; {by} removed it")
        return {"name": name, "left": True, "former_data": server.plan.former_data}
    deleted = removal.delete(node, name, bool(raw.get("force")), node.name)
    return {
        "name": name,
        "left": False,
        "after": asdict(deleted.after),
        "tolerance": tolerance_sentence(deleted.after),
        "confirmed": list(deleted.confirmed),
        "unconfirmed": list(deleted.unconfirmed),
    }


def _leave(server: CollectiveServer, node: Node) -> str:
    """Ask to be removed; whoever asked before, and was cut off, may be removed already."""
    try:
        return removal.leave(node)
    except (QuorumError, EtcdError) as error:
        if not server.ends_soon(node, _NOTICE_SECONDS):
            raise
        server.settle()
        raise idle_error(server.plan) from error
