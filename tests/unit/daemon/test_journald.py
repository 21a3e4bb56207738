"""Tests of collective.daemon.journald."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from collective.daemon.journald import PriorityFormatter, is_journal, with_priority


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 3),
    ],
)
def test_each_level_has_its_priority(level: int, priority: int) -> None:
    """So that ``journalctl -p warning`` finds warnings and errors, and nothing else."""
    record = logging.LogRecord("collective", level, "", 0, "etcd ended name=%s", ("mgt1",), None)
    assert PriorityFormatter().format(record) == f"<{priority}>etcd ended name=mgt1"


def test_traceback_has_the_priority_on_each_line() -> None:
    """The journal reads line by line; a text with a prefix of its own does not get that one."""
    try:
        raise ValueError("one\n<0>two")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "it failed", (), sys.exc_info())
    lines = PriorityFormatter().format(record).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
    assert "<3><0>two" in lines


def test_other_line_ends_of_unicode_are_line_ends_too() -> None:
    """Whatever a reader takes for one."""
    assert with_priority(logging.WARNING, "a\u2028b\r\nc") == "<4>a\n<4>b\n<4>c"


def test_only_the_very_stream_of_the_journal_is_the_journal(tmp_path: Path) -> None:
    """A daemon whose output was redirected has the variable too, and writes no prefixes."""
    with (tmp_path / "a").open("w") as journal, (tmp_path / "b").open("w") as other:
        facts = os.fstat(journal.fileno())
        environ = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        assert is_journal(environ, journal.fileno())
        assert not is_journal(environ, other.fileno())
        assert not is_journal({}, journal.fileno())
        fd = os.dup(other.fileno())
        os.close(fd)
        assert not is_journal(environ, fd)
