"""Marks say what a test needs: whoever chooses tests by them gets what the words say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
FILES = sorted(
    path.relative_to(TESTS).as_posix()
    for folder in ("attacks", "contract", "faults", "integration")
    for path in (TESTS / folder).glob("test_*.py")
)
#: Whatever starts a daemon does so through one of these.
STARTS = re.compile(
    r"[Cc]luster\b|\bstage\b|\barena\b|\bspawn\(|\bsubprocess\b|attacks\.stand|CollectiveServer\("
)


@pytest.mark.parametrize("name", FILES)
def test_marks_of_a_file_say_whether_it_starts_daemons(name: str) -> None:
    """``-m "not integration and not faults"`` starts none, and no file is without a mark."""
    text = (TESTS / name).read_text()
    found = re.search(r"^pytestmark = (.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, "it has no mark"
    marks = set(re.findall(r"mark\.(\w+)", found.group(0)))
    starts = bool(STARTS.search(text))
    assert bool(marks & {"integration", "faults"}) is (starts and "contract" not in marks)
