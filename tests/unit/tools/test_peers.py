"""docs/peers.md leaves out no line, and every test that it names exists and bears the number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINES = (*range(1, 20), *range(25, 31), 38, 45)
ROW = re.compile(r"^\| (\d+) \|.*\| (.*) \|$", re.MULTILINE)
ROWS = {int(n): cell for n, cell in ROW.findall((ROOT / "docs" / "peers.md").read_text())}


def numbers_of(test: ast.FunctionDef) -> set[int]:
    """Return the lines that a test says it is for, in its name and in its markers."""
    named = re.match(r"test_peers_(\d+)_", test.name)
    found = {int(named[1])} if named else set()
    for call in test.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.peers":
            found |= {ast.literal_eval(argument) for argument in call.args}
    return found


def test_every_line_has_a_row() -> None:
    """No more, no less."""
    assert sorted(ROWS) == sorted(LINES)


@pytest.mark.parametrize("line", LINES)
def test_tests_of_a_row_exist_and_bear_its_number(line: int) -> None:
    """Or somebody has renamed or removed one."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", ROWS[line])
    assert named
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        tests = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in tests, f"{file} has no {name}"
        assert line in numbers_of(tests[name]), f"{name} lacks @pytest.mark.peers({line})"
