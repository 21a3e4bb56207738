"""The table of cuts: step x fault x result, from the properties of the tests' reports.

It runs nothing; see ``tests/faults/test_matrix.py`` for the cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from collective.failpoints import Step

#: Names of the properties that a cell, and a run without a cut, leave in their reports.
CELL, PLAIN = "cut", "plain"
#: A file for the table, such as one in docs/.
VARIABLE = "COLLECTIVE_MATRIX"
_NOTHING_TO_STRIKE = "-"


@dataclass(frozen=True)
class Told:
    """What one test's report tells.

    Attributes:
        kind: ``CELL`` or ``PLAIN``.
        facts: the property.
        passed: whether the test did.
        seconds: how long it took.
    """

    kind: str
    facts: Mapping[str, Any]
    passed: bool
    seconds: float


def tables(told: Iterable[Told]) -> list[str]:
    """Return the lines of one table for each version of etcd, in Markdown."""
    everything = list(told)
    versions = sorted({t.facts["etcd"] for t in everything if t.kind == CELL})
    lines: list[str] = []
    for version in versions:
        of_version = [t for t in everything if t.facts["etcd"] == version]
        cells = [t for t in of_version if t.kind == CELL]
        lines += [f"### etcd {version}", "", *_table(cells), ""]
        lines += [*_sums(cells, [t for t in of_version if t.kind == PLAIN]), ""]
    return lines


def _table(cells: list[Told]) -> Iterator[str]:
    faults = sorted({t.facts["fault"] for t in cells})
    by_step: dict[str, dict[str, Told]] = {}
    for cell in cells:
        by_step.setdefault(cell.facts["step"], {})[cell.facts["fault"]] = cell
    yield "| after step | " + " | ".join(faults) + " |"
    yield "|---" * (len(faults) + 1) + "|"
    for step in (step.value for step in Step if step.value in by_step):
        row = by_step[step]
        results = [_result(row[fault]) if fault in row else "" for fault in faults]
        yield f"| {step} | " + " | ".join(results) + " |"


def _result(cell: Told) -> str:
    if not cell.passed:
        return "FAILED"
    if not cell.facts["struck"]:
        return _NOTHING_TO_STRIKE
    return f"whole, {cell.facts['seconds']:.1f} s"


def _sums(cells: list[Told], plain: list[Told]) -> Iterator[str]:
    good = [t for t in cells if t.passed and t.facts["struck"]]
    idle = [t for t in cells if t.passed and not t.facts["struck"]]
    if not cells:
        return
    yield (
        f"{len(good)} cuts ended whole, {len(cells) - len(good) - len(idle)} did not; at "
        f"{len(idle)} steps ({_NOTHING_TO_STRIKE}) the server has no etcd. The seconds are those "
        "of the same command run again."
    )
    for run in plain:
        operation = run.facts["operation"]
        again = [t.facts["seconds"] for t in good if t.facts["step"].split(".")[0] == operation]
        if again:
            yield (
                f"{operation}: {run.facts['seconds']:.2f} s without a cut, again after one "
                f"{median(again):.2f} s (median), {max(again):.2f} s (longest)."
            )
    yield f"A cell takes {median(t.seconds for t in cells):.1f} s (median)."
