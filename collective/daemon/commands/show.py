"""``collective show``: see ``collective.daemon.show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon import show
from collective.daemon.commands.context import Context
from collective.daemon.idle import idle_error


def run(context: Context, _raw: Mapping[str, Any]) -> Any:
    """Return what this server knows of its collective."""
    server = context.server
    node = server.node
    if node is None:
        return show.idle(server.plan, idle_error(server.plan, server.trouble))
    return show.document(node)
