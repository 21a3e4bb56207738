"""Write the log so that the journal knows how weighty each line is: see sd-daemon(3), prefixes.

It does not talk to the journal: what the service manager reads from standard error is enough.

Invariants:
  * Where standard error does not lead to the journal, no prefix is written.
  * Each line of a record has the prefix, so none can claim to be another's, or another weight.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from collective import stdio

_FORMAT = "%(levelname)s %(name)s: %(message)s"
#: The priorities of syslog(3) for the levels of Python.
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_NOISY = ("urllib3", "requests", "asyncio")


class PriorityFormatter(logging.Formatter):
    """Begins each line with the priority of its record, such as ``<4>``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return with_priority(record.levelno, super().format(record))


def with_priority(level: int, text: str) -> str:
    """Return a text with the priority of a level before each line."""
    priority = next((number for least, number in _PRIORITIES if level >= least), _DEBUG)
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def is_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Tell whether what is written to a file goes to the journal.

    Args:
        environ: whose JOURNAL_STREAM names device and inode of it, see systemd.exec(5). A child
            whose output was redirected inherits the variable, so the two are compared.
        fd: of the file.
    """
    try:
        facts = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def set_up_log(level: str, environ: Mapping[str, str]) -> None:
    """Write the log to standard error, from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    journal = is_journal(environ, 2)
    handler.setFormatter(PriorityFormatter(_FORMAT) if journal else logging.Formatter(_FORMAT))
    logging.basicConfig(handlers=[handler], level=level.upper())
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def tell_failure(lines: list[str], environ: Mapping[str, str]) -> None:
    """Print why the daemon does not start, as an error where that goes to the journal."""
    text = "\n".join(lines)
    stdio.tell(f"{with_priority(logging.ERROR, text) if is_journal(environ, 2) else text}\n")
