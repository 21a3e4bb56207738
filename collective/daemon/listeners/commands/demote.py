"""``collective demote``."""

from __future__ import annotations

from typing import Any

from collective.daemon.listeners.commands.context import Context
from collective.daemon.member.quorum import answering_now, needs_quorum, strength_with
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import demotion
from collective.daemon.nonvoting import voters
from collective.model.names import parse_server_name
from collective.policy import forecast
from collective.policy.membership import Observed, check_demote
from collective.protocol.control import VoteRequest


def run(context: Context, request: VoteRequest) -> Any:
    """Take the vote of a server; another one than that server carries it out."""
    runtime = context.server.require_runtime()
    name = parse_server_name(request.server)
    if request.dry_run:
        told = forecast.demoted(_checked(runtime, name).strength(), name, answers=True)
        return {"name": name, "dry_run": True, "forecast": told.to_document()}
    if not runtime.votes or name == runtime.name:
        # Here first: where it is the last voter, there is no other one to refuse it.
        if name in runtime.records_view.view.voters:
            _checked(runtime, name)
        return voters.run(runtime, "demote", request.to_wire(), context.emit, (name,))
    before = strength_with(runtime, answering_now(runtime))
    votes = name in runtime.records_view.view.voters
    done = demotion.demote(runtime, name, context.by(runtime.name), context.emit)
    # One that does not vote already changes nothing.
    made = forecast.demoted(before, name, answers=True).to_document(done=True) if votes else None
    pending = done.to_document()["pending"]
    return {"name": name, "dry_run": False, "forecast": made, "pending": pending}


def _checked(runtime: MemberRuntime, name: str) -> Observed:
    with needs_quorum(runtime, f"demote {name}"):
        observed = runtime.observe()
    check_demote(observed, name)
    return observed
