"""``collective invite``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon import invitations
from collective.daemon.commands.context import Context
from collective.errors import InputError, RefusedError
from collective.model.names import parse_server_name

_SHORTEST_TTL, _LONGEST_TTL = 10, 30 * 86400


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Make an invitation and return its token."""
    server = context.server
    name = parse_server_name(str(raw.get("server", "")))
    if raw.get("nonvoting"):
        raise RefusedError(
            f"cannot invite {name} as a server that does not vote: not supported yet",
            "leave out -n to invite it as a voter",
        )
    ttl = raw.get("ttl", server.settings.invitation_ttl)
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or ttl != ttl:
        raise InputError("the ttl must be a number of seconds")
    seconds = int(min(ttl, _LONGEST_TTL + 1))
    if not _SHORTEST_TTL <= seconds <= _LONGEST_TTL:
        raise InputError(f"the ttl must be from 10s to 30d, found {seconds}s")
    token = invitations.invite(server.require_node(), name, seconds)
    return {"token": token.to_text()}
