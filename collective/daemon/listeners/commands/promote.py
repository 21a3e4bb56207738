"""``collective promote``."""

from __future__ import annotations

from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.daemon.member.quorum import needs_quorum, strength_known
from collective.daemon.membership import promotion
from collective.daemon.nonvoting import voters
from collective.model.names import parse_server_name
from collective.policy import forecast
from collective.policy.membership import check_promote, pause_sentence
from collective.protocol.control import VoteRequest


def run(context: Context, request: VoteRequest) -> Any:
    """Make a server that does not vote a voter."""
    runtime = context.server.require_runtime()
    name = parse_server_name(request.server)
    dry_run = request.dry_run
    if dry_run and name not in runtime.records_view.view.voters:
        with needs_quorum(runtime, f"promote {name}"):
            observed = runtime.observe()
        check_promote(observed, name)
        told = forecast.with_voter(observed.strength(), name).to_document()
        return {"name": name, "role": "voter", "dry_run": True, "forecast": told}
    if not runtime.votes and not dry_run:
        return voters.run(runtime, "promote", request.to_wire(), context.emit, (name,))
    before, votes = strength_known(runtime), name in runtime.records_view.view.voters
    if not dry_run and not votes and (before.voters < 3 or before.spare == 0):
        context.emit("pause", pause_sentence(before.answering))
    if not dry_run:
        limit = context.server.settings.learner_timeout
        promotion.promote(runtime, name, limit, context.emit)
    # One that votes already changes nothing.
    made = None if votes else forecast.with_voter(before, name).to_document(done=True)
    return {"name": name, "role": "voter", "dry_run": dry_run, "forecast": made}
