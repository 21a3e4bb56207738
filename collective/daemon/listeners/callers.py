"""Who typed a command, and what, as facts for the log.

Invariants:
  * What is kept out of the ``repr`` of a request, such as a token, is kept out here.
  * Whatever was typed, it stays in one line, and cannot pass for another fact.
"""

from __future__ import annotations

import pwd
import re
from dataclasses import fields

from collective.protocol.control import Request as ControlRequest
from collective.protocol.web import Request

_PLAIN = re.compile(r"[A-Za-z0-9._:@/+-]+")
_MOST_LETTERS = 100


def typed(request: Request, asked: ControlRequest) -> str:
    """Return command, options and caller.

    Args:
        request: as it came over the control socket, which knows the user of the other end.
        asked: the same, read.
    """
    command = request.path.removeprefix("/v1/").replace("/", "-")
    options = {each.name: getattr(asked, each.name) for each in fields(asked) if each.repr}
    given = {name: value for name, value in options.items() if name != "json" and value}
    facts = [f"{name}={_word(value)}" for name, value in given.items()]
    return " ".join([f"command={command}", *facts, request.peer.address, _login(request)])


def _word(value: object) -> str:
    text = str(value)[:_MOST_LETTERS]
    return text if _PLAIN.fullmatch(text) else ascii(text)


def _login(request: Request) -> str:
    """Return the login name of the user at the other end of a unix socket."""
    uid = request.peer.address.removeprefix("uid=")
    try:
        return f"login={_word(pwd.getpwuid(int(uid)).pw_name)}"
    except (KeyError, ValueError, OverflowError):
        return "login=?"
