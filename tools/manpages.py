"""Makes the manual pages from the parsers, the texts beside them and the table of settings.

The completions of the shells (``tools.completion``) are made and checked along with them.

``python -m tools.manpages`` writes the pages; ``--check`` writes nothing, prints a diff for each
page that is stale, and fails. The build of the package uses the same code (see setup.py).

Invariants:
  * The text depends on the files of this repository alone: not on the day, the width or colours
    of the terminal, or the version of Python.
  * Needs nothing but argparse-manpage, shtab and the standard library, since it runs when the
    package is built. Of the package it loads the parsers, the deadlines and the settings alone.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

from argparse_manpage.manpage import Manpage
from build_manpages.build_manpages import parse_manpages_spec

import collective
from collective.cli.deadlines import SECONDS
from collective.daemon.settings import settings_help
from tools import completion

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "confluent-collective"

# Day of the last change that matters to readers; changed by hand, so that pages are reproducible.
DATE = "2026-11-29"


def render() -> dict[Path, str]:
    """Return the text of each page, by its path."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    specs = parse_manpages_spec(config["build_manpages"]["manpages"])
    with _steady_argparse():
        pages = {ROOT / path: _page(spec) for path, spec in specs.items()}
        completions = {ROOT / path: text for path, text in completion.render().items()}
        return {**pages, **completions}


def write() -> list[Path]:
    """Write the pages that are stale, and return their paths."""
    stale = {path: text for path, text in render().items() if _committed(path) != text}
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return list(stale)


def differences() -> str:
    """Return what differs between the committed pages and those made now; empty if nothing."""
    diff: list[str] = []
    for path, text in render().items():
        name = str(path.relative_to(ROOT))
        diff += difflib.unified_diff(
            _committed(path).splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"{name} (committed)",
            f"{name} (made now)",
        )
    return "".join(diff)


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.manpages")
    parser.add_argument("--check", action="store_true", help="fail if a committed page is stale")
    if parser.parse_args(arguments).check:
        diff = differences()
        if diff:
            print(diff)
            print("manual pages are stale: run 'make man' and commit them", file=sys.stderr)
        return 1 if diff else 0
    for path in write():
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def _committed(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def _steady_argparse() -> Iterator[None]:
    """Set what argparse and its pages take from the environment."""
    before = dict(os.environ)
    os.environ.update(COLUMNS="80", NO_COLOR="1", LANGUAGE="C")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _page(spec: dict[str, str]) -> str:
    make = getattr(importlib.import_module(spec["import_from"]), spec["objname"])
    parser: argparse.ArgumentParser = make()
    # The page begins its description with that of the parser; argparse-manpage would end with it.
    opening, parser.description = parser.description or "", None
    data = {
        **spec,
        "include": str(ROOT / spec["include"]),
        "project_name": PROJECT,
        "version": collective.__version__,
        "date": DATE,
    }
    page = Manpage(parser, format=spec["format"], _data=data)
    page.add_section("description", "<", f"{_roff(opening)}\n.PP\n")
    if page.get_extra_section("settings"):
        page.add_section("settings", ">", "\n" + _settings())
    if page.get_extra_section("deadlines"):
        page.add_section("deadlines", ">", "\n" + _deadlines())
    return str(page)


def _settings() -> str:
    """Return the table of settings, made from the one that the daemon reads them with."""
    lines: list[str] = []
    for name, default, explanation in settings_help():
        lines += [".TP", rf"\fB{_roff(name)}\fR (default: {_roff(default)})", _roff(explanation)]
    return "\n".join(lines)


def _deadlines() -> str:
    """Return the table of deadlines, made from the one by which the command gives up."""
    longest: dict[float, list[str]] = {}
    for line, seconds in SECONDS.items():
        longest.setdefault(seconds, []).append(rf"\fB{_roff(line)}\fR")
    lines: list[str] = []
    for seconds in sorted(longest):
        lines += [".TP", f"{seconds:.0f} seconds", ", ".join(longest[seconds])]
    return "\n".join(lines)


def _roff(text: str) -> str:
    """Return plain text with the characters that roff reads otherwise."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")


if __name__ == "__main__":
    sys.exit(main())
