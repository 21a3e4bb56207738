"""``collective readdress``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.errors import InputError
from collective.model.names import parse_reachable_address, parse_server_name
from collective.protocol.control import ReaddressRequest


def run(context: Context, request: ReaddressRequest) -> Any:
    """Change the address of this server, or be told where other members may be."""
    name, keeper = context.server.plan.name, context.keeper
    if keeper is None:
        raise InputError("the address of a server is changed on the server itself")
    if request.members:
        places = _places(request.members)
        looked = keeper.look_for(places)
        return {
            "name": name,
            "found": list(looked.found),
            "missing": list(looked.missing),
            "places": [
                {"name": member, "address": address, "error": looked.objections[member]}
                for member, address in places.items()
            ],
        }
    asked = request.address
    address = None if asked is None else parse_reachable_address(asked)
    former, address = keeper.readdress(address, context.emit)
    return {"name": name, "address": address, "former": former}


def _places(given: Mapping[str, str]) -> dict[str, str]:
    return {
        parse_server_name(name): parse_reachable_address(address)
        for name, address in given.items()
    }
