"""Where ``join`` gets its token: a terminal, standard input, a file, or the command line.

It does not know what is in a token: the daemon reads it.
"""

from __future__ import annotations

import sys

from collective import stdio
from collective.cli import output
from collective.errors import AccessError, InputError, InvitationError

_LONGEST = 4096
_HINT = "'collective invite' on a member prints one"


def read_token(given: str | None) -> str:
    """Return the token from where the user put it.

    Args:
        given: what came with ``-i``, or None.

    Raises:
        InputError: there is none there.
        InvitationError: what is there is no token.
        AccessError: the file cannot be read.
    """
    if given is None and sys.stdin.isatty():
        text = _typed()
    elif given is None or given == "-":
        text = _line_of_input()
    elif given.startswith("@"):
        text = _line_of_file(given[1:])
    else:
        output.note("warning: other users can see a token on the command line; -i - reads it")
        text = given
    token = text.strip()
    if not token:
        raise InputError("no token was given", _HINT)
    if not (token.isascii() and token.isprintable()):
        raise InvitationError("the token is garbled: it is not plain text", _HINT)
    return token


def _typed() -> str:
    """Ask for it on the terminal itself, so that a full standard error hides no question."""
    import getpass

    try:
        return getpass.getpass("Invitation token: ")
    except EOFError:  # Ctrl-D
        stdio.tell("\n")
        return ""
    except OSError as error:
        raise InputError(f"cannot read the token from the terminal: {error.strerror}") from None


def _line_of_input() -> str:
    try:
        return sys.stdin.readline(_LONGEST)
    except UnicodeDecodeError:
        raise InvitationError("the token is garbled: it is not plain text", _HINT) from None
    except OSError as error:
        message = f"cannot read the token from standard input: {error.strerror}"
        raise InputError(message, _HINT) from None


def _line_of_file(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline(_LONGEST)
    except PermissionError:
        raise AccessError(f"cannot read the token from {path}: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the token from {path[:200]}: {reason}") from None
