"""Steps: each is in one place of the code, is cut by the matrix, and is nothing outside tests."""

from __future__ import annotations

import ast
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import collective
from collective import failpoints
from collective.failpoints import Step, reached
from tests.faults.drivers import DRIVERS

PACKAGE = Path(collective.__file__).parent


def named() -> Iterator[str]:
    """Yield the name of a step for every mention of it in the package outside its own module."""
    for path in PACKAGE.rglob("*.py"):
        if path == Path(failpoints.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == Step.__name__:
                yield node.attr


def test_every_step_is_named_in_exactly_one_place() -> None:
    """A step that is nowhere is never cut, and one that is twice does not say where it was."""
    assert Counter(named()) == Counter(step.name for step in Step)


def test_every_operation_has_a_driver_and_no_other_has() -> None:
    """So a step that is added is cut, or this fails."""
    assert {step.operation for step in Step} == set(DRIVERS)


def test_step_is_named_by_operation_side_and_step() -> None:
    """The table and the drivers go by these parts."""
    assert all(len(step.value.split(".")) == 3 for step in Step)


def test_step_without_a_test_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server outside of a test opens no socket at its steps."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    for step in Step:
        reached(step)


@pytest.mark.parametrize("variables", [{failpoints.VARIABLE: "/x"}, {"COLLECTIVE_ROOT": "/x"}, {}])
def test_socket_is_used_in_a_tests_environment_only(variables: dict[str, str]) -> None:
    """One variable alone, which an operator might have, switches nothing on."""
    assert failpoints._place(variables) is None  # type: ignore[arg-type]
