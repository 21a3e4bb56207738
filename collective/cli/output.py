"""What the command prints: results on standard output, everything else on standard error.

It does not ask anybody anything; documents come in as the daemon sent them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from collective.errors import CollectiveError

PROG = "collective"


def say(text: str) -> None:
    """Print a line of the result."""
    print(text)


def note(text: str) -> None:
    """Print a line for people."""
    print(f"{PROG}: {text}", file=sys.stderr)


def complain(error: CollectiveError) -> None:
    """Print an error, and what to do about it."""
    note(f"error: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")


class Progress:
    """The steps of a long command: one live line on a terminal, plain lines otherwise."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def step(self, name: str, text: str) -> None:
        """Show a step that is done."""
        line = f"{PROG}: {name}: {text}" if text else f"{PROG}: {name}"
        if self._live:
            sys.stderr.write(f"\r\x1b[K{line[:200]}")
            self._open = True
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the live line."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False


def show_lines(document: dict[str, Any]) -> list[str]:
    """Return the lines of ``show``: first those of the manual, then what it does not have."""
    members = document["members"]
    leader = document["leader"]
    lines = [f"Quorum: {document['quorum']}", f"Leader: {leader or 'unknown'}"]
    active = [m for m in members if m["state"] == "active" and m["name"] != leader]
    lines += ["Active collective members:", *_indented(active)]
    joining = [m for m in members if m["state"] == "learner"]
    if joining:
        lines += ["Joining collective members:", *_indented(joining)]
    offline = [m for m in members if m["state"] in ("offline", "degraded")]
    if offline:
        lines += ["Offline collective members:", *_indented(offline)]
    if document["quorum"]:
        lines.append(f"{document['tolerance']}.")
    elif members:
        lines.append(
            f"{document['answering']} of {document['voters']} voters answer, "
            f"{document['needed']} are needed."
        )
    return lines


def _indented(members: Iterable[dict[str, Any]]) -> list[str]:
    return [f"  {m['name']}" for m in members]
