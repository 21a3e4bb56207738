"""The commands: read the arguments, ask the daemon, print what it says.

It decides nothing: rules, refusals and forecasts come from the daemon.

Invariants:
  * Standard output has the result alone, so that ``$(collective invite mgt2)`` is the token.
  * The exit status is that of the error's class, see ``collective.errors``.
  * A token is never printed but by ``invite``, and is read without an echo.
"""

from __future__ import annotations

import os
import sys

from collective.cli import output
from collective.cli.parser import make_parser
from collective.client import ask, stream
from collective.errors import AccessError, CollectiveError, InputError, QuorumError, RemovedError
from collective.model.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

_SHOW_SECONDS = 10.0
_CHANGE_SECONDS = 60.0
_JOIN_SECONDS = 600.0
_INTERRUPTED = 130
_LONGEST_TOKEN = 4096


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        socket = Layout.from_environment(os.environ).control_socket
        return _COMMANDS[options.command](options, socket)
    except CollectiveError as error:
        output.complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        output.note("interrupted; what was begun goes on in collectived")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _gencert(options: Namespace, socket: str) -> int:
    ask(socket, "POST", "/v1/gencert", None, _CHANGE_SECONDS)
    output.say("Certificate generated successfully")
    return 0


def _invite(options: Namespace, socket: str) -> int:
    body: dict[str, Any] = {"server": options.server, "nonvoting": options.nonvoting}
    if options.ttl is not None:
        from collective.model.duration import parse_duration

        body["ttl"] = parse_duration(options.ttl)
    result = ask(socket, "POST", "/v1/invite", body, _CHANGE_SECONDS)
    output.say(result["token"])
    return 0


def _join(options: Namespace, socket: str) -> int:
    body = {"server": options.server, "token": _token(options.token)}
    progress = output.Progress()
    try:
        for line in stream(socket, "POST", "/v1/join", body, _JOIN_SECONDS):
            if "step" in line:
                progress.step(line["step"], line.get("text", ""))
    finally:
        progress.end()
    output.say("Success")
    return 0


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


def _show(options: Namespace, socket: str) -> int:
    document = ask(socket, "GET", "/v1/show", None, _SHOW_SECONDS)
    if options.json:
        import json

        output.say(json.dumps(document, indent=2))
    else:
        for line in output.show_lines(document):
            output.say(line)
        _remarks(document)
    if document["quorum"]:
        return 0
    return RemovedError.exit_code if document.get("removed") else QuorumError.exit_code


def _remarks(document: dict[str, Any]) -> None:
    """Say on standard error what an administrator should know and a script need not."""
    for error in document["errors"]:
        output.note(f"warning: {error}")
    if document.get("removed"):
        name = document["name"]
        aside = document.get("former_data")
        where = f"; its former data is in {aside}" if aside else ""
        output.note(f"error: {document['removed']}{where}")
        output.note(
            f"hint: to come back: 'collective invite {name}' on a member and 'collective join' "
            "here; for a new collective of one: 'collective gencert' here"
        )
    elif len(document["members"]) == 1 and document["quorum"]:
        output.note("this server is a collective of one; 'collective invite SERVER' adds another")


def _delete(options: Namespace, socket: str) -> int:
    body = {"server": options.server, "force": options.force}
    result = ask(socket, "POST", "/v1/delete", body, _CHANGE_SECONDS)
    name = result["name"]
    if result["left"]:
        output.say(f"{name} left its collective")
        output.note(f"its former data is in {result['former_data']}")
        return 0
    output.say(f"{name} is deleted")
    if result["confirmed"]:
        output.note(f"{name} is locked out of: {', '.join(result['confirmed'])}")
    if result["unconfirmed"]:
        output.note(
            f"warning: not confirmed by {', '.join(result['unconfirmed'])}: offline members learn "
            "it when they return"
        )
    output.note(f"{result['tolerance']}")
    return 0


_COMMANDS = {
    "gencert": _gencert,
    "invite": _invite,
    "join": _join,
    "show": _show,
    "delete": _delete,
}

if __name__ == "__main__":
    sys.exit(main())
