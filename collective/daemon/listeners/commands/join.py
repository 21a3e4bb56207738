"""``collective join``, with ``--check``, ``--dry-run`` and ``--abort``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.listeners.commands.context import Context


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Join the collective of another server, or go on with a join."""
    server, token = str(raw.get("server", "")), str(raw.get("token", ""))
    told = context.coordinator.join(server, token, context.emit)
    return {
        "name": context.server.settings.name,
        "forecast": None if told is None else told.to_document(done=True),
        "set_aside": list(context.server.plan.aside),
    }


def check(context: Context, raw: Mapping[str, Any]) -> Any:
    """Find out all that would hinder a join, and change nothing."""
    token = raw.get("token")
    server = str(raw.get("server", ""))
    checks, told = context.coordinator.check(server, None if token is None else str(token))
    error = checks.error
    return {
        "name": context.server.settings.name,
        "ok": error is None,
        "checks": [finding.to_wire() for finding in checks.findings],
        "forecast": None if told is None else told.to_document(),
        "error": None if error is None else error.to_wire(),
    }


def abort(context: Context, raw: Mapping[str, Any]) -> Any:
    """Give up the join that is under way or half done here."""
    given = context.coordinator.give_up(bool(raw.get("force")))
    return {
        "name": context.server.settings.name,
        "stage": given.stage,
        "told": given.told,
        "former_data": given.former_data,
        "notes": list(given.notes),
    }
