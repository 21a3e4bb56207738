"""``collective readdress``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.errors import InputError
from collective.model.names import parse_server_name


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
    address = None if asked is None else _address(asked)
    former, address = keeper.readdress(address, context.emit)
    return {"name": name, "address": address, "former": former}


def _places(raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise InputError("the members must be given as NAME=ADDRESS")
    return {parse_server_name(str(name)): _address(address) for name, address in raw.items()}


def _address(text: Any) -> str:
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError:
        raise InputError(f"{str(text)[:80]!r} is not an IP address") from None
