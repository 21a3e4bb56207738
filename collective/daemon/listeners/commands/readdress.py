"""``collective readdress``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.errors import InputError
from collective.model.names import parse_reachable_address, parse_server_name


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Change the address of this server, or be told where other members may be."""
    name, keeper = context.server.plan.name, context.keeper
    if keeper is None:
        raise InputError("the address of a server is changed on the server itself")
    places = raw.get("members")
    if places:
        found, missing = keeper.look_for(_places(places))
        return {"name": name, "found": list(found), "missing": list(missing)}
    asked = raw.get("address")
    address = None if asked is None else parse_reachable_address(str(asked))
    former, address = keeper.readdress(address, context.emit)
    return {"name": name, "address": address, "former": former}


def _places(raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise InputError("the members must be given as NAME=ADDRESS")
    return {
        parse_server_name(str(name)): parse_reachable_address(str(address))
        for name, address in raw.items()
    }
