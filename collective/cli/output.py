"""The two streams of the command: results on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys

from collective import stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from collective.errors import CollectiveError

PROG = "collective"
_COLUMNS = 80


def say_json(document: dict[str, Any]) -> None:
    """Print a result as one JSON object.

    Raises:
        OutputError: it cannot be printed.
    """
    import json

    stdio.write(json.dumps({"format": 1, **document}, indent=2) + "\n")


def note(text: str) -> None:
    """Print a line for people."""
    stdio.tell(f"{PROG}: {text}\n")


def complain(error: CollectiveError) -> None:
    """Print an error, and what to do about it."""
    note(f"error: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")


def _width() -> int:
    try:
        return os.get_terminal_size(2).columns or _COLUMNS
    except OSError:
        return _COLUMNS


class Progress:
    """The steps of a long command: one live line on a terminal, plain lines otherwise."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def step(self, text: str) -> None:
        """Show a step that is done."""
        if self._live:
            # A line that wraps could not be cleared again.
            stdio.tell(f"\r\x1b[K{f'{PROG}: {text}'[: _width() - 1]}")
            self._open = True
        else:
            note(text)

    def end(self) -> None:
        """Clear the live line."""
        if self._open:
            stdio.tell("\r\x1b[K")
            self._open = False
