"""The two streams of the command: results on standard output, all else on standard error."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from collective.errors import CollectiveError

PROG = "collective"


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def say_json(document: dict[str, Any]) -> None:
    """Print a result as one JSON object."""
    import json

    say(json.dumps({"format": 1, **document}, indent=2))


def note(text: str) -> None:
    """Print a line for people."""
    sys.stderr.write(f"{PROG}: {text}\n")


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

    def step(self, text: str) -> None:
        """Show a step that is done."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{PROG}: {text[:200]}")
            self._open = True
        else:
            note(text)
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the live line."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False
