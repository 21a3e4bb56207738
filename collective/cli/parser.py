"""The command line of ``collective``: its commands, their options and their help.

It does not check values and does not act: ``collective.cli.main`` does, so that a bad value gets
the same ``error:`` and ``hint:`` lines as any other trouble.

Invariants:
  * Imports argparse and the version alone: it is loaded at most starts of the command, and when
    the package is built, where none of its needs are installed.
  * No option ever changes its meaning; a name is never completed, so a new option cannot break a
    script that wrote half of an old one.
  * The manual page collective(1) and the completions of the shells are made from it.
"""

from __future__ import annotations

import argparse
import os
import sys

from collective import __version__

# Type checkers take it as true. Importing it from typing costs more than all the rest here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import NoReturn

    Commands = argparse._SubParsersAction["Parser"]

PROG = "collective"
_COLUMNS = 80
DESCRIPTION = (
    "Link several Confluent servers into one collective, and look after it. Every command talks "
    "to collectived on this server, which does the work."
)


class BadLine(SystemExit):
    """A line that means nothing: it was told on standard error, and ends the command with 2.

    Attributes:
        message: what is wrong with it.
        hint: what was meant, maybe, or None.
    """

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(2)
        self.message = message
        self.hint = hint


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others, below the usage of what was meant."""

    def error(self, message: str) -> NoReturn:
        """Refuse a line."""
        self.refuse(message)

    def refuse(self, message: str, hint: str | None = None, whole: bool = False) -> NoReturn:
        """Print the usage, or the whole help, then an error and a hint, and end the command.

        Raises:
            BadLine: always.
        """
        hint = hint or f"'{self.prog} --help' tells more"
        if whole:
            self.print_help(sys.stderr)
        else:
            self.print_usage(sys.stderr)
        self._print_message(f"{PROG}: error: {message}\n{PROG}: hint: {hint}\n", sys.stderr)
        raise BadLine(message, hint)


def make_parser() -> Parser:
    """Return the parser of ``collective``.

    What it parses has ``command``, and with it:

        gencert   json (bool)
        invite    server (or None), nonvoting (bool), ttl (text or None), action (make, list,
                  revoke or replace), dry_run (bool), json (bool)
        join      server (or None), token (text, ``-``, ``@FILE`` or None), action (join, check,
                  dry-run or abort), force (bool), json (bool)
        show      names (bool), json (bool)
        delete    server (or None: this one), force (bool), dry_run (bool), json (bool)
        promote   server, dry_run (bool), json (bool)
        demote    server, dry_run (bool), json (bool)
        readdress address (or None), members (list of NAME=ADDR), json (bool)
    """
    return _make()[0]


def parse_line(words: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Raises:
        SystemExit: it asks for help or the version, which were printed.
        BadLine: it means nothing, which was told.
    """
    parser, commands = _make()
    _check_command(parser, list(commands.choices), words)
    found, rest = parser.parse_known_args(words)
    if rest:
        meant = commands.choices[found.command]
        if rest[0].startswith("-"):
            hint = _near(rest[0], meant._option_string_actions)
            meant.refuse(f"{found.command} has no option {rest[0][:80]!r}", hint)
        meant.refuse(f"{found.command} does not take {rest[0][:80]!r}")
    return found


def _check_command(parser: Parser, commands: list[str], words: list[str]) -> None:
    """Refuse a line without a command, or with none of ours: argparse would not say what is meant.

    Raises:
        BadLine: it is refused.
    """
    if not words:
        parser.refuse("no command was given", whole=True)
    options = parser._option_string_actions
    if words[0].startswith("-") and words[0] not in (*options, "--"):
        parser.refuse(f"there is no option {words[0][:80]!r}", _near(words[0], options))
    word = next((word for word in words if not word.startswith("-")), None)
    if word is not None and word not in commands:
        hint = _near(word, [*commands, *options]) or f"the commands are {', '.join(commands)}"
        parser.refuse(f"there is no command {word[:80]!r}", hint)


def _near(word: str, known: Collection[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(word[:80].lower(), known)
    return f"did you mean {' or '.join(found)}?" if found else None


def _make() -> tuple[Parser, Commands]:
    parser = Parser(
        prog=PROG, description=DESCRIPTION, formatter_class=_formatter, allow_abbrev=False
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {__version__}",
        help="print the version and exit",
    )
    commands = parser.add_subparsers(
        title="commands", prog=PROG, dest="command", metavar="COMMAND", required=True
    )
    for add in (
        _gencert,
        _invite,
        _join,
        _show,
        _delete,
        _promote,
        _demote,
        _readdress,
    ):
        add(commands)
    return parser, commands


def _formatter(prog: str) -> argparse.HelpFormatter:
    # With a width of its own it does not load shutil, which would take half of the parser's time.
    return argparse.HelpFormatter(prog, width=max(columns() - 2, 20))


def columns() -> int:
    """Return how wide the terminal is, as ``shutil.get_terminal_size`` does."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def _command(
    commands: Commands, name: str, summary: str, description: str, usage: str | None = None
) -> Parser:
    return commands.add_parser(
        name,
        usage=usage,
        help=summary,
        description=description,
        formatter_class=_formatter,
        allow_abbrev=False,
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="change nothing: say whether it would be done, and what it would do to the quorum",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result, or the error, as one JSON object",
    )


def _gencert(commands: Commands) -> None:
    parser = _command(
        commands,
        "gencert",
        "make a new certificate for this server",
        "Make a new key and certificate for this server, as after a theft of the key. The members "
        "record it, every voter takes it up with a restart of its etcd in its turn, this server "
        "shows it, and the former one opens no door any more. No certificate ends by itself. On "
        "a server that rests after it was deleted it makes a collective of one, with new data.",
    )
    _add_json(parser)


def _invite(commands: Commands) -> None:
    parser = _command(
        commands,
        "invite",
        "print a token that lets one server in",
        "Print a token that lets one server join this collective, once, under the name given "
        "here, before it expires. Give it to join on that server. A second invitation of the "
        "same name replaces the first.",
        "%(prog)s [OPTION]... [SERVER]",
    )
    parser.add_argument("server", metavar="SERVER", nargs="?", help="name of the server to let in")
    parser.add_argument(
        "-n",
        "--nonvoting",
        action="store_true",
        help="let it in as a server that never votes and never leads",
    )
    parser.add_argument(
        "--ttl",
        metavar="DURATION",
        help="how long the token is good for, such as 90s, 30m or 2h (default: the setting "
        "invitation_ttl, 1h)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--list",
        dest="action",
        action="store_const",
        const="list",
        help="list the invitations that are pending, and make none",
    )
    action.add_argument(
        "--revoke",
        dest="action",
        action="store_const",
        const="revoke",
        help="end the pending invitation for SERVER",
    )
    action.add_argument(
        "--replace",
        dest="action",
        action="store_const",
        const="replace",
        help="SERVER is a member that was lost and is installed anew under its name: delete the "
        "lost one, then print a token for the new one",
    )
    parser.set_defaults(action="make")
    _add_dry_run(parser)
    _add_json(parser)


def _join(commands: Commands) -> None:
    parser = _command(
        commands,
        "join",
        "take this server into another server's collective",
        "Take this server into the collective that SERVER is a member of. Any member will do, "
        "also one other than that which made the token. Without -i the token is asked for on a "
        "terminal, unseen, and read from standard input otherwise. If a join was cut off, the "
        "same command again finishes it.",
        "%(prog)s [OPTION]... [SERVER]",
    )
    parser.add_argument(
        "server",
        metavar="SERVER",
        nargs="?",
        help="name or address of a member to ask, with :PORT if that is not 13002",
    )
    parser.add_argument(
        "-i",
        dest="token",
        metavar="TOKEN",
        help="the token that invite printed; - reads one line of standard input, @FILE reads "
        "FILE. A token given as it is can be seen by every user of this server while the "
        "command runs",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--check",
        dest="action",
        action="store_const",
        const="check",
        help="change nothing: list all that a join needs, and what of it is wrong; without -i "
        "what needs a token is left out",
    )
    action.add_argument(
        "--dry-run",
        dest="action",
        action="store_const",
        const="dry-run",
        help="change nothing: say whether the join would begin, and what it would do to the "
        "quorum",
    )
    action.add_argument(
        "--abort",
        dest="action",
        action="store_const",
        const="abort",
        help="give up the join that is under way or half done on this server",
    )
    parser.set_defaults(action="join")
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --abort: also if no member answers and this server may be a voter already, for "
        "a collective that is lost",
    )
    _add_json(parser)


def _show(commands: Commands) -> None:
    parser = _command(
        commands,
        "show",
        "show quorum, leader and members",
        "Show whether there is a quorum, who leads, and which members are active or offline. The "
        "quorum is proven anew each time; without one the exit status is not 0.",
    )
    parser.add_argument(
        "--names",
        action="store_true",
        help="print the names of the members alone, one a line, as they are known here: nobody is "
        "asked, and no quorum is proven",
    )
    parser.add_argument(
        "--json", action="store_true", help="print all that is known, as one JSON object"
    )


def _delete(commands: Commands) -> None:
    parser = _command(
        commands,
        "delete",
        "put a server out of the collective",
        "Put SERVER out of the collective and lock it out. Without SERVER, this server leaves "
        "its collective. A change that would cost the quorum is refused. Nobody can vouch "
        "for anybody else, so whatever the server has kept opens no door any more when this "
        "returns; who remains is listed, with the SHA-256 of their certificates.",
        "%(prog)s [OPTION]... [SERVER]",
    )
    parser.add_argument(
        "server", metavar="SERVER", nargs="?", help="name of the member (default: this server)"
    )
    parser.add_argument(
        "--force", action="store_true", help="also if that server is running and answers"
    )
    _add_dry_run(parser)
    _add_json(parser)


def _promote(commands: Commands) -> None:
    parser = _command(
        commands,
        "promote",
        "make a voter of a server that does not vote",
        "Make SERVER, which was invited with -n or demoted, a server that votes. It catches up "
        "first and counts in the quorum only then. If it does not get ready it stays what it "
        "was. A promotion that was cut off goes on by itself; the same command again waits for "
        "it.",
    )
    parser.add_argument("server", metavar="SERVER", help="name of the member")
    _add_dry_run(parser)
    _add_json(parser)


def _demote(commands: Commands) -> None:
    parser = _command(
        commands,
        "demote",
        "take the vote of a server, which stays a member",
        "Make SERVER, which votes, a server that does not: it stays a member, but counts in no "
        "quorum and never leads. Its copy of the store is moved aside. A change that would cost "
        "the quorum is refused, and so is one of a server that does not answer.",
    )
    parser.add_argument("server", metavar="SERVER", help="name of the member")
    _add_dry_run(parser)
    _add_json(parser)


def _readdress(commands: Commands) -> None:
    parser = _command(
        commands,
        "readdress",
        "change the address of this server",
        "Tell the collective that this server has another address, and make a certificate for it. "
        "Another member must reach the server there. If it was cut off, the same command again "
        "finishes it. A server that starts with another address does this by itself where that "
        "is safe.",
        "%(prog)s [OPTION]...",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="the IP address by which the others reach this server (default: that of the settings "
        "file, or the one that this server sends from)",
    )
    parser.add_argument(
        "--member",
        dest="members",
        action="append",
        default=[],
        metavar="NAME=ADDR",
        help="instead, say where another member may be found: after all servers got new addresses "
        "while they were off, where their names do not lead there; may be given several times",
    )
    _add_json(parser)
