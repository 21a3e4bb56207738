"""Rows of the table, printed and kept as markdown.

It judges only by what a row says of itself.

Invariants:
  * No name of a host, no path and no date is in it.
  * A run of some rows replaces these and keeps the others, if the machine is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.sample import Sample

_RESULTS = Path(__file__).resolve().parent / "results"
_HEAD = ("row", "what", "ours", "other side", "compared", "bar", "verdict", "busy before")
_KEY = re.compile(r"[|*] (\d+)")


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        key: such as ``3b``.
        what: is measured.
        ours: the figures; None where there are none.
        bar: what they are held against.
        kept: whether they keep it; None where it cannot be said.
        other: the other side's figures, measured in the same run, with their name.
        compared: how the two compare.
        notes: sentences below the table.
        busy: share of processor time in use right before a round, 0 to 1: the median;
            None where nobody looked.
    """

    key: str
    what: str
    ours: Sample | None
    bar: str
    kept: bool | None
    other: str = ""
    compared: str = ""
    notes: tuple[str, ...] = ()
    busy: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the line, in the order of the columns."""
        verdict = {True: "pass", False: "miss", None: "-"}[self.kept]
        ours = "-" if self.ours is None else str(self.ours)
        busy = "-" if self.busy is None else f"{self.busy:.0%}"
        other, compared = self.other or "-", self.compared or "-"
        return self.key, self.what, ours, other, compared, self.bar, verdict, busy

    def at(self, busy: float | None) -> Row:
        """Return the row with how busy the machine was."""
        return replace(self, busy=busy)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a markdown table that is also good to read as it is."""
    lines = [_HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    texts = [_line(line, widths) for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def notes(rows: Iterable[Row]) -> list[str]:
    """Return the notes of the rows, each with its row's number."""
    return [f"{row.key}: {note}" for row in rows for note in row.notes]


def write(version: str, machine: str, rows: Sequence[Row]) -> None:
    """Write the rows to ``bench/results/VERSION.md``, over the same rows of an earlier run."""
    path = _RESULTS / f"{version}.md"
    old = path.read_text().splitlines() if path.exists() else []
    kept = _others(old, rows) if machine in old else []
    lines = [line for line in kept if line.startswith("|")]
    lines += [_line(row.cells, None) for row in rows]
    said = [line for line in kept if line.startswith("*")]
    said += [f"* {note}" for note in notes(rows)]
    head = [_line(_HEAD, None), "|" + "---|" * len(_HEAD)]
    text = [f"# etcd {version}", "", machine, "", *head, *_ordered(lines), "", *_ordered(said)]
    _RESULTS.mkdir(exist_ok=True)
    path.write_text("\n".join(text).rstrip() + "\n")


def _others(old: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """Return the lines of rows, and of notes, whose numbers are not those of these rows."""
    numbers = {row.key.rstrip("abcdef") for row in rows}
    return [line for line in old if (m := _KEY.match(line)) and m[1] not in numbers]


def _ordered(lines: Iterable[str]) -> list[str]:
    """Return lines of rows, or of notes, in the order of their numbers: 10 is after 9."""
    return sorted(lines, key=lambda line: (int(m[1]) if (m := _KEY.match(line)) else 0, line))


def _line(cells: Sequence[str], widths: Sequence[int] | None) -> str:
    padded = [cell.ljust(widths[i]) if widths else cell for i, cell in enumerate(cells)]
    return f"| {' | '.join(padded)} |"
