"""``collective join``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.commands.context import Context
from collective.model.token import Token


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Join the collective of another server, or go on with a join."""
    token = Token.parse(str(raw.get("token", "")))
    context.enlister.join(str(raw.get("server", "")), token, context.emit)
    return {}
