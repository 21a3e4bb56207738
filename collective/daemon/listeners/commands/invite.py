"""``collective invite``, with ``--list``, ``--revoke`` and ``--replace``."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

from collective.daemon.clock import rfc3339
from collective.daemon.joining import invitations
from collective.daemon.joining.invitations import Invited
from collective.daemon.lifecycle import lives
from collective.daemon.listeners.commands.context import Context
from collective.daemon.nonvoting import voters
from collective.errors import InputError
from collective.model.names import natural_key, parse_new_name, parse_server_name
from collective.model.records import Invitation, Role
from collective.protocol.control import InviteRequest, ListRequest

_SHORTEST_TTL, _LONGEST_TTL = 10, 30 * 86400


def run(context: Context, request: InviteRequest) -> Any:
    """Make an invitation and return its token."""
    name, seconds = _asked(context, request)
    runtime = context.server.require_runtime()
    if request.dry_run:
        foretold = invitations.foretell(runtime, name, _role(request))
        return {"name": name, "dry_run": True, "forecast": foretold.to_document()}
    if not runtime.votes:
        asked = changed(request, ttl=seconds).to_wire()
        return voters.run(runtime, "invite", asked, context.emit, ())
    issuer = context.by(runtime.name)
    invited = invitations.invite(runtime, name, seconds, _role(request), issuer)
    doubted = lives.doubted_address(context.server.settings, context.server.plan)
    return {**_document(invited), "warnings": [doubted] if doubted else []}


def replace(context: Context, request: InviteRequest) -> Any:
    """Delete a member that was lost, and invite the server that was installed in its place."""
    name, seconds = _asked(context, request)
    runtime = context.server.require_runtime()
    if request.dry_run:
        foretold = invitations.foretell_replacement(runtime, name, _role(request))
        return {"name": name, "dry_run": True, "forecast": foretold.to_document()}
    if not runtime.votes:
        asked = changed(request, ttl=seconds).to_wire()
        return voters.run(runtime, "replace", asked, context.emit, (name,))
    issuer = context.by(runtime.name)
    deleted, invited = invitations.replace(
        runtime, name, seconds, _role(request), context.emit, issuer
    )
    return {**_document(invited), "replaced": deleted.to_document()}


def revoke(context: Context, request: InviteRequest) -> Any:
    """End a pending invitation."""
    name = parse_server_name(request.server)
    runtime = context.server.require_runtime()
    if not runtime.votes and not request.dry_run:
        return voters.run(runtime, "revoke", request.to_wire(), context.emit, ())
    ended = invitations.revoke(runtime, name, request.dry_run)
    return {**_listed(ended, 0.0), "dry_run": request.dry_run}


def pending(context: Context, request: ListRequest) -> Any:
    """List the invitations that are pending."""
    found = invitations.pending(context.server.require_runtime())
    ordered = sorted(found, key=lambda pair: natural_key(pair[0].name))
    return {"invitations": [_listed(invitation, left) for invitation, left in ordered]}


def _asked(context: Context, request: InviteRequest) -> tuple[str, int]:
    """Return whom to invite, and for how many seconds.

    Raises:
        InputError: no name, or no time that is allowed.
    """
    name = parse_new_name(request.server)
    ttl = context.server.settings.invitation_ttl if request.ttl is None else request.ttl
    seconds = int(min(ttl, _LONGEST_TTL + 1))
    if not _SHORTEST_TTL <= seconds <= _LONGEST_TTL:
        raise InputError(f"the ttl must be from 10s to 30d, found {seconds}s")
    return name, seconds


def _role(request: InviteRequest) -> Role:
    return Role.NONVOTING if request.nonvoting else Role.VOTER


def _document(invited: Invited) -> dict[str, Any]:
    return {
        **_listed(invited.invitation, invited.invitation.expires - invited.invitation.issued),
        "token": invited.token.to_text(),
        "forecast": invited.forecast.to_document(),
    }


def _listed(invitation: Invitation, left: float) -> dict[str, Any]:
    return {
        "name": invitation.name,
        "role": invitation.role.value,
        "issuer": invitation.issuer,
        "expires": invitation.expires,
        "expires_at": rfc3339(invitation.expires),
        "expires_in": round(max(0.0, left)),
        "claimed": invitation.claimed_by is not None,
    }
