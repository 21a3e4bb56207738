"""The door for the commands on this server: one route each, over the control socket.

Who may use it is decided by the mode of the socket, so no request is refused here for who asks.

Every answer is a stream. As JSON lines: ``{"step": ..., "text": ...}`` while something happens,
then one ``{"result": ...}`` or ``{"error": ...}``. As text, where the request accepts
``text/plain``: what the command prints, see ``collective.render``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collective import render
from collective.daemon.addresses.keeper import AddressKeeper
from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners.callers import typed
from collective.daemon.listeners.commands import (
    delete,
    demote,
    gencert,
    invite,
    join,
    promote,
    readdress,
    show,
)
from collective.daemon.listeners.commands.context import Command, Context, Emit, request_of
from collective.daemon.listeners.commands.running import Line, lines_of
from collective.errors import InputError, from_wire
from collective.protocol import control
from collective.protocol.messages import FORMAT
from collective.protocol.web import Request, Response, lines_response
from collective.render import Rendered, Renderer

log = logging.getLogger(__name__)

#: They change nothing, whatever is typed with them, and scripts may ask often.
_LOOKS = frozenset(("/v1/invite/list", "/v1/join/check", "/v1/join/dry-run"))


def handler(
    server: CollectiveServer, coordinator: JoinCoordinator, keeper: AddressKeeper
) -> Callable[[Request], Response]:
    """Return the handler of the control socket."""

    def handle(request: Request) -> Response:
        route = _ROUTES.get((request.method, request.path))
        if route is None:
            raise InputError(f"collectived knows no {request.method} {request.path}")
        raw = request.json() if request.body else _in_route(request.query)

        def run(emit: Emit) -> Any:
            asked = request_of(route.run).from_client(raw)
            if request.method != "GET" and request.path not in _LOOKS:
                log.info("a command was typed %s", typed(request, asked))
            return route.run(Context(server, coordinator, emit, keeper), asked)

        lines = lines_of(run)
        if request.accepts_text:
            # What cannot be read is told in this form, too.
            text = _as_text(lines, route, as_json=raw.get("json") is True)
            return Response(200, text, "text/plain; charset=utf-8")
        return lines_response(lines)

    return handle


def _in_route(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the request of a command that is in a hurry, and writes no JSON."""
    return {"format": FORMAT, **query, "json": "json" in query}


def _as_text(lines: Iterator[Line | None], route: _Route, as_json: bool) -> Iterator[bytes]:
    failed = render.error_json if as_json else render.error
    for line in lines:
        if line is None:
            yield b"\n"  # so that whoever waits knows that we live
        elif "step" in line:
            yield _encoded([render.step(line["step"], line["text"])])
        elif "error" in line:
            yield _encoded(failed(from_wire(line["error"])).lines())
        else:
            yield _encoded(route.rendered(line["result"], as_json).lines())


def _encoded(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _no_text(result: Any) -> Rendered:
    """Software asks this, and no command prints it."""
    return Rendered()


@dataclass(frozen=True)
class _Route:
    """A command, and how its result is printed."""

    run: Command
    text: Renderer
    json: Renderer | None = None

    def rendered(self, result: Any, as_json: bool) -> Rendered:
        """Render a result."""
        if as_json and self.json is not None:
            return self.json(result)
        told = self.text(result)
        return render.as_json(told, result) if as_json else told


def _self(context: Context, request: control.Request) -> Any:
    return show.tell_self(context.server)


def _show(context: Context, request: control.Request) -> Any:
    return show.run(context.server, context.coordinator.under_way)


def _names(context: Context, request: control.Request) -> Any:
    return show.names(context.server)


_ROUTES: Mapping[tuple[str, str], _Route] = {
    ("GET", "/v1/self"): _Route(_self, _no_text),
    ("GET", "/v1/show"): _Route(_show, render.show, render.show_json),
    ("GET", "/v1/show/names"): _Route(_names, render.names),
    ("POST", "/v1/invite"): _Route(invite.run, render.invite),
    ("POST", "/v1/invite/replace"): _Route(invite.replace, render.invite),
    ("POST", "/v1/invite/revoke"): _Route(invite.revoke, render.revoke),
    ("POST", "/v1/invite/list"): _Route(invite.pending, render.invitations),
    ("POST", "/v1/join"): _Route(join.run, render.join),
    ("POST", "/v1/join/check"): _Route(join.check, render.join_check),
    ("POST", "/v1/join/dry-run"): _Route(join.check, render.join_dry_run),
    ("POST", "/v1/join/abort"): _Route(join.abort, render.abort),
    ("POST", "/v1/delete"): _Route(delete.run, render.delete),
    ("POST", "/v1/promote"): _Route(promote.run, render.promote),
    ("POST", "/v1/demote"): _Route(demote.run, render.demote),
    ("POST", "/v1/readdress"): _Route(readdress.run, render.readdress),
    ("POST", "/v1/gencert"): _Route(gencert.run, render.gencert),
}
