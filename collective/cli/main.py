"""The commands: read the arguments, ask the daemon, print what it says.

It decides nothing and knows no format: rules, refusals and sentences come from the daemon.

Invariants:
  * Standard output has the result alone, so that ``$(collective invite mgt2)`` is the token.
  * The exit status is that of the error's class, see ``collective.errors``.
  * A token is sent in a body, never in a route; an invitation whose token cannot be printed is
    taken back.
"""

from __future__ import annotations

import os
import sys

from collective import stdio
from collective.cli import output, quick
from collective.cli.deadlines import SECONDS, SILENCE_SECONDS, seconds_of
from collective.client import ask, body_of, socket_of, stream
from collective.errors import CollectiveError, DaemonError, InputError, OutputError
from collective.model.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    stdio.repair()
    status = _run(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        # Nothing is left to be done: taking the interpreter apart would cost 2 to 3 ms of 30.
        os._exit(status)
    return status


def _run(given: list[str]) -> int:
    options: Any = None
    try:
        stdio.check_output()
        try:
            options = quick.parse(given) or _parse(given)
        except SystemExit as end:
            return _not_a_command(end, given)
        socket = socket_of(Layout.from_environment(os.environ))
        return _COMMANDS[options.command](options, socket)
    except CollectiveError as error:
        return _failed(error, getattr(options, "json", False))
    except KeyboardInterrupt:
        output.note("interrupted before anything was asked of collectived")
        return _INTERRUPTED


def _parse(given: list[str]) -> Any:
    from collective.cli.parser import parse_line

    return parse_line(given)


def _not_a_command(end: SystemExit, given: list[str]) -> int:
    """Return the status of a line that the parser has answered: with help, or as a bad one."""
    message: str | None = getattr(end, "message", None)
    if message is None:
        return stdio.after_parser(end)
    error = InputError(message, getattr(end, "hint", None))
    if "--json" in given:
        _say_error(error)
    return error.exit_code


def _failed(error: CollectiveError, as_json: bool) -> int:
    if as_json and not isinstance(error, OutputError):
        _say_error(error)
    output.complain(error)
    return error.exit_code


def _say_error(error: CollectiveError) -> None:
    """Print an error as JSON; where that cannot be done the status is that of the error still."""
    try:
        output.say_json({"error": error.to_wire()})
    except OutputError as unwritten:
        output.complain(unwritten)


def _ask(options: Any, socket: str, method: str, route: str, body: bytes = b"") -> int:
    """Make a request, print what comes back, and return the exit status that the daemon gives.

    Raises:
        OutputError: it was done, and its result cannot be printed.
    """
    progress, seconds = output.Progress(), seconds_of(options)
    result: list[str] = []
    try:
        for kind, text in stream(socket, method, route, body, seconds, SILENCE_SECONDS):
            if kind == "s":
                progress.step(text)
                continue
            progress.end()
            if kind == "o":
                result.append(f"{text}\n")
            elif kind == "n":
                output.note(text)
            elif kind == "x" and text.isdigit():
                return _printed("".join(result), int(text))
    except KeyboardInterrupt:
        progress.end()
        output.note("interrupted; what was begun goes on in collectived")
        return _INTERRUPTED
    finally:
        progress.end()
    raise DaemonError(
        "collectived broke off without an answer", "see its log: journalctl -u collectived"
    )


def _printed(result: str, status: int) -> int:
    """Print a result; one that failed keeps its status even if that cannot be done.

    Raises:
        OutputError: it did not fail, and cannot be printed.
    """
    try:
        stdio.write(result)
    except OutputError as error:
        if not status:
            raise OutputError(error.message, "what was asked for was done") from error
        output.complain(error)
    return status


def _post(options: Any, socket: str, route: str, **fields: Any) -> int:
    """Make a request with these fields, and those of the common options that were given."""
    for name in ("dry_run", "json", "force"):
        if getattr(options, name, False):
            fields[name] = True
    return _ask(options, socket, "POST", route, body_of(fields))


def _gencert(options: Any, socket: str) -> int:
    return _post(options, socket, "/v1/gencert")


def _invite(options: Any, socket: str) -> int:
    try:
        status = _ask_to_invite(options, socket)
        if status == _INTERRUPTED and options.action in ("make", "replace"):
            output.note("if an invitation was made, nobody has its token: see 'invite --list'")
        return status
    except OutputError as error:
        if options.dry_run or options.action not in ("make", "replace"):
            raise
        raise _taken_back(options.server, socket, error) from error


def _ask_to_invite(options: Any, socket: str) -> int:
    if isinstance(options, quick.Options):  # a plain name, which needs no quoting in a route
        return _ask(options, socket, "POST", f"/v1/invite?server={options.server}")
    route = "/v1/invite" if options.action == "make" else f"/v1/invite/{options.action}"
    if options.action == "list":
        if options.server is not None:
            raise InputError("--list takes no server: it lists all pending invitations")
        return _post(options, socket, route)
    if options.server is None:
        raise InputError("no server was named", "say whom: collective invite SERVER")
    from collective.model.duration import parse_duration

    fields: dict[str, Any] = {"server": options.server, "nonvoting": options.nonvoting}
    if options.ttl is not None:
        fields["ttl"] = parse_duration(options.ttl)
    return _post(options, socket, route, **fields)


def _taken_back(server: str, socket: str, error: OutputError) -> OutputError:
    """End an invitation whose token nobody has got, and say so."""
    try:
        ask(socket, "POST", "/v1/invite/revoke", {"server": server}, SECONDS["invite --revoke"])
    except CollectiveError as failure:
        return OutputError(
            f"{error.message}, and the invitation for {server} could not be taken back: "
            f"{failure.message}",
            f"end it with 'collective invite --revoke {server}'",
        )
    return OutputError(
        f"{error.message}; the invitation for {server} was taken back",
        "mend that, and run the same command again",
    )


def _join(options: Any, socket: str) -> int:
    if options.action == "abort":
        if options.server is not None or options.token is not None:
            raise InputError("--abort takes neither a server nor a token")
        return _post(options, socket, "/v1/join/abort")
    if options.server is None:
        raise InputError("no server was named", "say which member to ask: collective join SERVER")
    from collective.cli.token import read_token

    # A check does without a token, so it does not ask for one.
    without = options.action == "check" and options.token is None
    token = None if without else read_token(options.token)
    route = "/v1/join" if options.action == "join" else f"/v1/join/{options.action}"
    return _post(options, socket, route, server=options.server, token=token)


def _show(options: Any, socket: str) -> int:
    route = "/v1/show/names" if options.names else "/v1/show"
    return _ask(options, socket, "GET", f"{route}?json=1" if options.json else route)


def _delete(options: Any, socket: str) -> int:
    fields = {"server": options.server, "force": options.force}
    return _post(options, socket, "/v1/delete", **fields)


def _promote(options: Any, socket: str) -> int:
    return _post(options, socket, "/v1/promote", server=options.server)


def _demote(options: Any, socket: str) -> int:
    return _post(options, socket, "/v1/demote", server=options.server)


def _readdress(options: Any, socket: str) -> int:
    fields: dict[str, Any] = {}
    if options.address is not None:
        fields["address"] = options.address
    for given in options.members:
        name, equals, address = given.partition("=")
        if not equals:
            raise InputError(f"{given[:80]!r} is not NAME=ADDRESS")
        fields.setdefault("members", {})[name] = address
    return _post(options, socket, "/v1/readdress", **fields)


_COMMANDS = {
    "gencert": _gencert,
    "invite": _invite,
    "join": _join,
    "show": _show,
    "delete": _delete,
    "promote": _promote,
    "demote": _demote,
    "readdress": _readdress,
}

if __name__ == "__main__":
    sys.exit(main())
