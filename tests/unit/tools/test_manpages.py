"""The manual pages, and what makes them."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collective import errors
from collective.cli.parser import make_parser
from collective.daemon.parser import make_parser as make_daemon_parser
from collective.daemon.settings import settings_help
from tools import manpages

COMMAND = manpages.ROOT / "man/collective.1"
DAEMON = manpages.ROOT / "man/collectived.8"
SECTIONS = ["DESCRIPTION", "EXAMPLES", "FILES", "EXIT STATUS", "SECURITY", "RECOVERY"]


def section(page: Path, heading: str) -> str:
    """Return a section as plain text, without fonts and escapes."""
    text = page.read_text(encoding="utf-8").partition(f".SH {heading}\n")[2].partition("\n.SH ")[0]
    return re.sub(r"\\f.|\\[,/]", "", text).replace("\\-", "-")


def subclasses(cls: type[errors.CollectiveError]) -> Iterator[type[errors.CollectiveError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from subclasses(child)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(action.choices)


def test_committed_pages_are_what_the_parsers_say() -> None:
    """A change of a parser, a text or a setting shows in the committed pages."""
    assert manpages.differences() == ""


@pytest.mark.parametrize("page", [COMMAND, DAEMON], ids=lambda page: page.name)
def test_page_has_every_promised_section_once(page: Path) -> None:
    """The sections that readers look for are there."""
    headings = re.findall(r"^\.SH (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(set(headings))
    assert set(SECTIONS) <= set(headings)


def test_every_exit_code_is_in_the_page_of_the_command() -> None:
    """EXIT STATUS lists the code of each error class, success, Ctrl-C, and no other number."""
    listed = re.findall(r"^\.B (\d+)$", section(COMMAND, "EXIT STATUS"), re.MULTILINE)
    known = {cls.exit_code for cls in subclasses(errors.CollectiveError)} | {0, 130}
    assert [int(code) for code in listed] == sorted(known)


def test_exit_codes_of_the_daemon_are_known_ones() -> None:
    """The page of the daemon lists no code that the errors do not have."""
    listed = re.findall(r"^\.B (\d+)$", section(DAEMON, "EXIT STATUS"), re.MULTILINE)
    known = {cls.exit_code for cls in subclasses(errors.CollectiveError)} | {0}
    assert {int(code) for code in listed} <= known


def test_every_setting_is_in_the_page_of_the_daemon() -> None:
    """SETTINGS lists every setting with its default, in the order of the table."""
    listed = re.findall(r"^(\S+) \(default: (.+)\)$", section(DAEMON, "SETTINGS"), re.MULTILINE)
    assert listed == [(name, default) for name, default, _ in settings_help()]


def test_every_command_and_option_is_in_the_synopsis() -> None:
    """The synopsis is written by hand, so it could miss one."""
    synopsis = section(COMMAND, "SYNOPSIS")
    for name, parser in subparsers().items():
        lines = [row for row in synopsis.splitlines() if row.startswith(f"collective {name}")]
        line = " ".join(lines)
        for action in parser._actions:
            if action.dest != "help":
                words = {*action.option_strings, action.metavar or action.dest.upper()}
                assert words & set(re.findall(r"[\w-]+", line)), (name, action)


def test_every_command_has_a_summary_and_a_description() -> None:
    """Both ``collective --help`` and ``collective COMMAND --help`` say what a command does."""
    (action,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    summaries = {choice.dest: choice.help for choice in action._choices_actions}
    for name, parser in subparsers().items():
        assert summaries[name]
        assert parser.description


@pytest.mark.parametrize("parser", [make_daemon_parser(), *subparsers().values()])
def test_usage_fits_on_one_line(parser: argparse.ArgumentParser) -> None:
    """Versions of Python break long lines of usage differently, and the page must not differ."""
    assert len(" ".join(parser.format_usage().split())) < 76


def test_terminal_and_day_do_not_change_the_pages() -> None:
    """A narrow terminal, colours, another language and another day give the same pages."""
    environment = {
        **os.environ,
        "COLUMNS": "31",
        "FORCE_COLOR": "1",
        "LANGUAGE": "de",
        "SOURCE_DATE_EPOCH": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tools.manpages", "--check"],
        cwd=manpages.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stale_page_fails_the_check_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--check`` prints the difference and writes nothing; a run without it writes the page."""
    rendered = manpages.render()
    monkeypatch.setattr(manpages, "ROOT", tmp_path)
    pages = {tmp_path / path.name: text for path, text in rendered.items()}
    monkeypatch.setattr(manpages, "render", lambda: pages)
    stale = tmp_path / COMMAND.name
    stale.write_text("old\n", encoding="utf-8")
    for path in pages.keys() - {stale}:
        path.write_text(pages[path], encoding="utf-8")

    assert manpages.main(["--check"]) == 1
    assert stale.read_text(encoding="utf-8") == "old\n"
    assert "-old" in capsys.readouterr().out

    assert manpages.main([]) == 0
    assert capsys.readouterr().out == "wrote collective.1\n"
    assert manpages.main(["--check"]) == 0
