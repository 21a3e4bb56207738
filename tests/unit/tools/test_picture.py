"""The picture of the house in docs/architecture.md is that of the imports."""

from __future__ import annotations

import re
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text()

Arrows = set[tuple[str, str]]


def drawn() -> Arrows:
    """Return the arrows of the first picture."""
    picture = PAGE.partition("```mermaid\nflowchart TD\n")[2].partition("```")[0]
    return set(re.findall(r"^ +(\w+) --> (\w+)$", picture, re.MULTILINE))


def imports() -> Arrows:
    """Return which package imports which other one; the version, in the root, is nobody's."""
    graph = grimp.build_graph("collective", exclude_type_checking_imports=True, cache_dir=None)
    packages = sorted(graph.find_children("collective"))
    for package in packages:
        if graph.find_children(package):
            graph.squash_module(package)
    found = {(a, b) for a in packages for b in graph.find_modules_directly_imported_by(a)}
    short = {(a.partition(".")[2], b.partition(".")[2]) for a, b in found}
    return {(a, b) for a, b in short if b and a != b}


def reachable(arrows: Arrows, start: str) -> set[str]:
    """Return what is at the end of a way of arrows."""
    there = {b for a, b in arrows if a == start}
    return there.union(*(reachable(arrows, b) for b in there))


def test_arrows_are_the_imports_that_no_longer_way_shows() -> None:
    """Whoever adds or removes one draws it, or rubs it out."""
    all_of_them = imports()
    shown_otherwise = {
        (a, b)
        for a, b in all_of_them
        if any(b in reachable(all_of_them, c) for x, c in all_of_them if x == a)
    }
    assert drawn() == all_of_them - shown_otherwise
