"""``collective delete``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners.commands.context import Context
from collective.daemon.member.quorum import answering_now, strength_with
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import removal
from collective.daemon.membership.confirming import Deleted
from collective.daemon.nonvoting import voters
from collective.errors import EtcdError, PendingError, QuorumError
from collective.model.names import parse_server_name
from collective.policy import forecast
from collective.policy.forecast import Forecast
from collective.policy.membership import tolerance_sentence
from collective.protocol.control import DeleteRequest

_NOTICE_SECONDS = 2.0


def run(context: Context, request: DeleteRequest) -> Any:
    """Put a member out of the collective, or leave it."""
    server = context.server
    runtime = server.require_runtime()
    name = runtime.name if request.server is None else parse_server_name(request.server)
    if request.dry_run:
        told = removal.foretell(runtime, name, request.force)
        return _document(name, name == runtime.name, told.to_document(), dry_run=True)
    told = _known(runtime, name)
    if name == runtime.name:
        by = _leave(server, runtime)
        server.leave_life(runtime, f"it left; {by} removed it")
        document = _document(name, True, told.to_document(done=True))
        return {**document, "former_data": server.plan.former_data}
    if not runtime.votes:
        return voters.run(runtime, "delete", request.to_wire(), context.emit, (name,))
    deleted = removal.delete(runtime, name, request.force, context.by(runtime.name))
    return _deleted(deleted, told)


def _known(runtime: MemberRuntime, name: str) -> Forecast:
    """Foretell it for what is told; the decision asks anew, and for more."""
    answering = answering_now(runtime)
    before = strength_with(runtime, answering)
    if name not in runtime.records_view.view.voters:
        return forecast.without_nonvoting(before, name)
    return forecast.without_voter(before, name, name in answering | {runtime.name})


def _document(
    name: str, left: bool, told: Mapping[str, Any], dry_run: bool = False
) -> dict[str, Any]:
    return {"name": name, "left": left, "dry_run": dry_run, "forecast": told}


def _deleted(deleted: Deleted, told: Forecast) -> dict[str, Any]:
    # What was observed afterwards is the truth; without an answer the forecast has to do.
    after = deleted.after if deleted.after.voters else told.after
    made = Forecast(told.before, after, told.what)
    return {
        **_document(deleted.name, False, made.to_document(done=True)),
        "after": asdict(after),
        "tolerance": tolerance_sentence(after),
        **deleted.to_document(),
    }


def _leave(server: CollectiveServer, runtime: MemberRuntime) -> str:
    """Ask to be removed; whoever asked before, and was cut off, may be removed already."""
    try:
        return removal.leave(runtime)
    except (QuorumError, PendingError, EtcdError) as error:
        if not server.ends_soon(runtime, _NOTICE_SECONDS):
            raise
        server.settle()
        raise server.why_idle() from error
