"""The commands: read the arguments, ask the daemon, print what it says.

It decides nothing and knows no format: rules, refusals and sentences come from the daemon.

Invariants:
  * Standard output has the result alone, so that ``$(collective invite mgt2)`` is the token.
  * The exit status is that of the error's class, see ``collective.errors``.
  * A token is read without an echo, and is sent in a body, never in a route.
"""

from __future__ import annotations

import os
import sys

from collective.cli import output, quick
from collective.cli.deadlines import SILENCE_SECONDS, seconds_of
from collective.client import body_of, stream
from collective.errors import AccessError, CollectiveError, DaemonError, InputError
from collective.model.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTERRUPTED = 130
_LONGEST_TOKEN = 4096


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    status = _run(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        # Nothing is left to be done: taking the interpreter apart would cost 2 to 3 ms of 30.
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(given: list[str]) -> int:
    options: Any = quick.parse(given)
    if options is None:
        from collective.cli.parser import make_parser

        options = make_parser().parse_args(given)
    try:
        socket = Layout.from_environment(os.environ).control_socket
        status = _COMMANDS[options.command](options, socket)
        sys.stdout.flush()
        return status
    except CollectiveError as error:
        if getattr(options, "json", False) and options.command != "show":
            output.say_json({"error": error.to_wire()})
        output.complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        output.note("interrupted; what was begun goes on in collectived")
        return _INTERRUPTED
    except BrokenPipeError:
        return 1


def _ask(options: Any, socket: str, method: str, route: str, body: bytes = b"") -> int:
    """Make a request, print what comes back, and return the exit status that the daemon gives."""
    progress, seconds = output.Progress(), seconds_of(options)
    try:
        for kind, text in stream(socket, method, route, body, seconds, SILENCE_SECONDS):
            if kind == "s":
                progress.step(text)
                continue
            progress.end()
            if kind == "o":
                output.say(text)
            elif kind == "n":
                output.note(text)
            elif kind == "x" and text.isdigit():
                return int(text)
    finally:
        progress.end()
    raise DaemonError(
        "collectived broke off without an answer", "see its log: journalctl -u collectived"
    )


def _post(options: Any, socket: str, route: str, **fields: Any) -> int:
    """Make a request with these fields, and those of the common options that were given."""
    for name in ("dry_run", "json", "force"):
        if getattr(options, name, False):
            fields[name] = True
    return _ask(options, socket, "POST", route, body_of(fields))


def _gencert(options: Any, socket: str) -> int:
    return _post(options, socket, "/v1/gencert")


def _invite(options: Any, socket: str) -> int:
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


def _join(options: Any, socket: str) -> int:
    if options.action == "abort":
        if options.server is not None or options.token is not None:
            raise InputError("--abort takes neither a server nor a token")
        return _post(options, socket, "/v1/join/abort")
    if options.server is None:
        raise InputError("no server was named", "say which member to ask: collective join SERVER")
    # A check does without a token, so it does not ask for one.
    without = options.action == "check" and options.token is None
    token = None if without else _token(options.token)
    route = "/v1/join" if options.action == "join" else f"/v1/join/{options.action}"
    return _post(options, socket, route, server=options.server, token=token)


def _token(given: str | None) -> str:
    """Return the token from where the user put it.

    Raises:
        InputError: there is none there.
        AccessError: the file cannot be read.
    """
    if given is None and sys.stdin.isatty():
        import getpass

        token = getpass.getpass("Invitation token: ", sys.stderr)
    elif given is None or given == "-":
        token = sys.stdin.readline(_LONGEST_TOKEN)
    elif given.startswith("@"):
        token = _token_file(given[1:])
    else:
        output.note("warning: other users can see a token on the command line; -i - reads it")
        token = given
    if not token.strip():
        raise InputError("no token was given", "'collective invite' on a member prints one")
    return token.strip()


def _token_file(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline(_LONGEST_TOKEN)
    except PermissionError:
        raise AccessError(f"cannot read the token from {path}: permission denied") from None
    except OSError as error:
        raise InputError(f"cannot read the token from {path}: {error.strerror}") from None


def _show(options: Any, socket: str) -> int:
    return _ask(options, socket, "GET", "/v1/show?json=1" if options.json else "/v1/show")


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
