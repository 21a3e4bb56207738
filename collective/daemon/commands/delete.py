"""``collective delete``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from collective.daemon import removal
from collective.daemon.commands.context import Context
from collective.model.names import parse_server_name
from collective.policy.membership import tolerance_sentence


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Put a member out of the collective, or leave it."""
    server = context.server
    node = server.require_node()
    asked = raw.get("server")
    name = node.name if asked is None else parse_server_name(str(asked))
    if name == node.name:
        by = removal.leave(node)
        server.leave_life(node, f"it left; {by} removed it")
        return {"name": name, "left": True, "former_data": server.plan.former_data}
    deleted = removal.delete(
        node, name, bool(raw.get("force")), node.name, raw.get("rekey") is not False
    )
    return {
        "name": name,
        "left": False,
        "after": asdict(deleted.after),
        "tolerance": tolerance_sentence(deleted.after),
        "confirmed": list(deleted.confirmed),
        "unconfirmed": list(deleted.unconfirmed),
        "rekey": deleted.rekey,
        "invitations_end": list(deleted.ends),
    }
