"""Run a command on a thread of its own, and hand on what it says, line by line."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from collective.daemon.listeners.commands.context import Emit
from collective.errors import CollectiveError

log = logging.getLogger(__name__)

Line = dict[str, Any]

_POLL_SECONDS = 0.5


def lines_of(command: Callable[[Emit], Any]) -> Iterator[Line | None]:
    """Run a command on a thread of its own, so that it goes on when nobody listens any more.

    Yields:
        Its steps, and then its result or its error; None when there was none for a moment.
    """
    lines: queue.Queue[Line] = queue.Queue()

    def work() -> None:
        try:
            result = command(lambda s, t: lines.put({"step": s, "text": t}))
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
