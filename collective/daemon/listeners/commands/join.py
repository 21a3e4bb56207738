"""``collective join``, with ``--check``, ``--dry-run`` and ``--abort``."""

from __future__ import annotations

from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.protocol.control import AbortRequest, JoinRequest


def run(context: Context, request: JoinRequest) -> Any:
    """Join the collective of another server, or go on with a join."""
    told = context.coordinator.join(request.server, request.token or "", context.emit)
    return {
        "name": context.server.settings.name,
        "forecast": None if told is None else told.to_document(done=True),
        "set_aside": list(context.server.plan.aside),
    }


def check(context: Context, request: JoinRequest) -> Any:
    """Find out all that would hinder a join, and change nothing."""
    checks, told = context.coordinator.check(request.server, request.token)
    error = checks.error
    return {
        "name": context.server.settings.name,
        "ok": error is None,
        "checks": [finding.to_wire() for finding in checks.findings],
        "forecast": None if told is None else told.to_document(),
        "error": None if error is None else error.to_wire(),
    }


def abort(context: Context, request: AbortRequest) -> Any:
    """Give up the join that is under way or half done here."""
    given = context.coordinator.give_up(request.force)
    return {
        "name": context.server.settings.name,
        "stage": given.stage,
        "told": given.told,
        "former_data": given.former_data,
        "notes": list(given.notes),
    }
