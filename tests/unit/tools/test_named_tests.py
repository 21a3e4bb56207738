"""docs/promises.md and docs/threats.md name tests that are there, and leave nobody out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMED = re.compile(r"`((?:unit|contract|integration|faults|attacks)/[\w/]+\.py)`")
PROMISES = (ROOT / "docs" / "promises.md").read_text()
THREATS = (ROOT / "docs" / "threats.md").read_text()


@pytest.mark.parametrize("name", sorted(set(NAMED.findall(PROMISES + THREATS))))
def test_named_test_exists(name: str) -> None:
    """Or somebody has renamed or removed it."""
    assert (ROOT / "tests" / name).is_file()


def test_every_promise_is_kept_somewhere_and_tried() -> None:
    """P1 to P12, in order."""
    rows = re.findall(r"^\| (\*\*P\d+\*\*|limit|kept in|tried by) \|", PROMISES, re.MULTILINE)
    wanted = [(f"**P{number}**", "kept in", "tried by") for number in range(1, 13)]
    assert [row for row in rows if row != "limit"] == [word for row in wanted for word in row]


def test_everybody_in_the_threats_is_tried() -> None:
    """Each has what it holds, can and cannot do, and its tests."""
    rows = re.findall(r"^\| (Holds|Can|Cannot|Tests) \|", THREATS, re.MULTILINE)
    who = re.findall(r"^## (?!What is not)", THREATS, re.MULTILINE)
    assert rows == ["Holds", "Can", "Cannot", "Tests"] * len(who)
