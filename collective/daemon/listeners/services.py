"""What a member may ask of one that votes: who it is, and to carry a command out.

Invariants:
  * Each is answered on a view that was read linearizably: a member that was deleted is refused,
    however old the view here is.
  * Who gave a command, its certificate says, never the command.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners.commands import delete, demote, invite, promote
from collective.daemon.listeners.commands.context import Command, Context, request_of
from collective.daemon.listeners.commands.running import lines_of
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import InputError, RefusedError
from collective.model.names import parse_server_name
from collective.model.records import Change, MemberRecord, to_json
from collective.policy.roles import check_command
from collective.protocol.messages import Myself, SentCommand
from collective.protocol.web import Response

log = logging.getLogger(__name__)

#: Those that only a voter can carry out.
_COMMANDS: Mapping[str, Command] = {
    "invite": invite.run,
    "revoke": invite.revoke,
    "replace": invite.replace,
    "delete": delete.run,
    "promote": promote.run,
    "demote": demote.run,
}
_ABOUT_A_MEMBER = frozenset(("delete", "promote", "demote", "replace"))


def tell_self(member: MemberRecord, change: Change | None) -> Myself:
    """Tell a member its own record, and the change that is under way with it."""
    kind = change.kind.value if change is not None and change.name == member.name else ""
    return Myself(to_json(member), kind)


def command(
    server: CollectiveServer,
    coordinator: JoinCoordinator,
    runtime: MemberRuntime,
    member: MemberRecord,
    sent: SentCommand,
) -> Response:
    """Carry a command out for a member; its steps and its result come line by line.

    Raises:
        InputError: it is none that is carried out for others.
        RefusedError: it is about this server, or not for a member that does not vote.
        QuorumError: it cannot be known whether it is still a member.
    """
    name, arguments = sent.command, sent.arguments
    run = _COMMANDS.get(name)
    check_command(member, name, server.settings.nonvoting_commands, runtime.name)
    if run is None:
        raise InputError("this is no command that a voter carries out for others")
    request = request_of(run).from_wire(arguments)
    if name in _ABOUT_A_MEMBER and _server_of(request) == runtime.name:
        raise RefusedError(f"{runtime.name} does not do that to itself", "ask another member")
    log.info("a command for a member name=%s command=%s", member.name, name)
    sent_by = member.name
    lines = lines_of(
        lambda emit: run(Context(server, coordinator, emit, sent_by=sent_by), request)
    )
    return Response(200, _with_beats(lines), "application/x-ndjson")


def _server_of(request: Any) -> str:
    """Return whom a command is about; none would mean the server that carries it out."""
    return parse_server_name(request.server or "")


def _with_beats(lines: Iterable[Mapping[str, Any] | None]) -> Iterator[bytes]:
    """Write a line each, an empty one where there is none: so who listens knows that we live."""
    for line in lines:
        yield b"\n" if line is None else json.dumps(line).encode() + b"\n"


def require_voter(server: CollectiveServer, runtime: MemberRuntime) -> None:
    """Refuse what only a voter can do.

    Raises:
        RefusedError: this server does not vote; the hint names those that do.
    """
    if server.plan.votes:
        return
    voters = ", ".join(sorted(runtime.records_view.view.voters))
    raise RefusedError(
        f"{runtime.name} does not vote and cannot do that",
        f"ask a server that votes: {voters}" if voters else "ask a server that votes",
    )
