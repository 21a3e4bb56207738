"""The door for the commands on this server: one route each, over the control socket.

Who may use it is decided by the mode of the socket, so no request is refused here for who asks.

Every answer is a stream. As JSON lines: ``{"step": ..., "text": ...}`` while something happens,
then one ``{"result": ...}`` or ``{"error": ...}``. As text, where the request accepts
``text/plain``: what the command prints, see ``collective.render``.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from collective import render
from collective.daemon import membership, show
from collective.daemon.enlist import Enlister
from collective.daemon.server import CollectiveServer, idle_error
from collective.errors import CollectiveError, InputError, RefusedError, from_wire
from collective.model.names import parse_server_name
from collective.model.plan import Mode
from collective.model.token import Token
from collective.policy.membership import tolerance_sentence
from collective.protocol.messages import FORMAT, check_format
from collective.protocol.web import Request, Response, lines_response

log = logging.getLogger(__name__)

Line = dict[str, Any]
Emit = Callable[[str, str], None]
Command = Callable[[CollectiveServer, Mapping[str, Any], Emit], Any]

_SHORTEST_TTL, _LONGEST_TTL = 10, 30 * 86400
_POLL_SECONDS = 0.5


def handler(server: CollectiveServer, enlister: Enlister) -> Callable[[Request], Response]:
    """Return the handler of the control socket."""
    commands = {**_COMMANDS, ("POST", "/v1/join"): _join(enlister)}

    def handle(request: Request) -> Response:
        command = commands.get((request.method, request.path))
        if command is None:
            raise InputError(f"collectived knows no {request.method} {request.path}")
        raw = request.json() if request.body else {"format": FORMAT, **request.query}
        check_format(raw)
        lines = _run(server, command, raw)
        if request.accepts_text:
            renderer = render.show_json if raw.get("json") else _RENDERERS[request.path]
            return Response(200, _as_text(lines, renderer), "text/plain; charset=utf-8")
        return lines_response(lines)

    return handle


def _run(
    server: CollectiveServer, command: Command, raw: Mapping[str, Any]
) -> Iterator[Line | None]:
    """Run a command on a thread of its own, so that it goes on when nobody listens any more."""
    lines: queue.Queue[Line] = queue.Queue()

    def work() -> None:
        try:
            result = command(server, raw, lambda s, t: lines.put({"step": s, "text": t}))
            lines.put({"result": result})
        except CollectiveError as error:
            lines.put({"error": error.to_wire()})
        except Exception:
            log.exception("a command failed")
            internal = CollectiveError("internal error", "see the log of collectived")
            lines.put({"error": internal.to_wire()})

    threading.Thread(target=work, name="command", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            yield None
            continue
        yield line
        if "step" not in line:
            return


def _as_text(lines: Iterator[Line | None], renderer: render.Renderer) -> Iterator[bytes]:
    for line in lines:
        if line is None:
            yield b""
        elif "step" in line:
            yield _encoded([render.step(line["step"], line["text"])])
        elif "error" in line:
            yield _encoded(render.error(from_wire(line["error"])).lines())
        else:
            yield _encoded(renderer(line["result"]).lines())


def _encoded(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _show(server: CollectiveServer, raw: Mapping[str, Any], emit: Emit) -> Any:
    node = server.node
    if node is None:
        return show.idle(server.plan, idle_error(server.plan))
    return show.document(node)


def _invite(server: CollectiveServer, raw: Mapping[str, Any], emit: Emit) -> Any:
    name = parse_server_name(str(raw.get("server", "")))
    if raw.get("nonvoting"):
        raise RefusedError(
            f"cannot invite {name} as a server that does not vote: not supported yet",
            "leave out -n to invite it as a voter",
        )
    ttl = raw.get("ttl", server.settings.invitation_ttl)
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or ttl != ttl:
        raise InputError("the ttl must be a number of seconds")
    seconds = int(min(ttl, _LONGEST_TTL + 1))
    if not _SHORTEST_TTL <= seconds <= _LONGEST_TTL:
        raise InputError(f"the ttl must be from 10s to 30d, found {seconds}s")
    token = membership.invite(server.require_node(), name, seconds)
    return {"token": token.to_text()}


def _join(enlister: Enlister) -> Command:
    def join(_server: CollectiveServer, raw: Mapping[str, Any], emit: Emit) -> Any:
        token = Token.parse(str(raw.get("token", "")))
        enlister.join(str(raw.get("server", "")), token, emit)
        return {}

    return join


def _delete(server: CollectiveServer, raw: Mapping[str, Any], emit: Emit) -> Any:
    node = server.require_node()
    asked = raw.get("server")
    name = node.name if asked is None else parse_server_name(str(asked))
    if name == node.name:
        by = membership.leave(node)
        server.leave_life(node, f"it left; {by} removed it")
        return {"name": name, "left": True, "former_data": server.plan.former_data}
    deleted = membership.delete(node, name, bool(raw.get("force")), node.name)
    return {
        "name": name,
        "left": False,
        "after": asdict(deleted.after),
        "tolerance": tolerance_sentence(deleted.after),
        "confirmed": list(deleted.confirmed),
        "unconfirmed": list(deleted.unconfirmed),
    }


def _gencert(server: CollectiveServer, raw: Mapping[str, Any], emit: Emit) -> Any:
    if server.plan.mode is Mode.REMOVED:
        server.begin_again()
    elif server.node is None:
        raise idle_error(server.plan)
    else:
        membership.gencert(server.node)
    return {"certificate_ends": server.credentials.leaf.not_after.isoformat()}


_RENDERERS: Mapping[str, render.Renderer] = {
    "/v1/show": render.show,
    "/v1/invite": render.invite,
    "/v1/join": render.join,
    "/v1/delete": render.delete,
    "/v1/gencert": render.gencert,
}

_COMMANDS: Mapping[tuple[str, str], Command] = {
    ("GET", "/v1/show"): _show,
    ("POST", "/v1/invite"): _invite,
    ("POST", "/v1/delete"): _delete,
    ("POST", "/v1/gencert"): _gencert,
}
