"""The command line of ``collective``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collective import __version__
from collective.cli.main import _COMMANDS
from collective.cli.parser import BadLine, make_parser, parse_line


def parse(*words: str) -> dict[str, object]:
    return vars(make_parser().parse_args(list(words)))


INVITE = {
    "command": "invite",
    "server": "mgt2",
    "nonvoting": False,
    "ttl": None,
    "action": "make",
    "dry_run": False,
    "json": False,
}
JOIN = {
    "command": "join",
    "server": "mgt1",
    "token": None,
    "action": "join",
    "force": False,
    "json": False,
}
DELETE = {
    "command": "delete",
    "server": None,
    "force": False,
    "dry_run": False,
    "json": False,
}
READDRESS: dict[str, object] = {
    "command": "readdress",
    "address": None,
    "members": [],
    "json": False,
}


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("gencert", {"command": "gencert", "json": False}),
        ("gencert --json", {"command": "gencert", "json": True}),
        ("invite mgt2", INVITE),
        ("invite -n mgt2 --ttl 30m", {**INVITE, "nonvoting": True, "ttl": "30m"}),
        ("invite --nonvoting mgt2", {**INVITE, "nonvoting": True}),
        ("invite mgt2 --dry-run --json", {**INVITE, "dry_run": True, "json": True}),
        ("invite --list", {**INVITE, "server": None, "action": "list"}),
        ("invite --revoke mgt2", {**INVITE, "action": "revoke"}),
        ("invite mgt2 --replace", {**INVITE, "action": "replace"}),
        ("join mgt1", JOIN),
        ("join mgt1 -i -", {**JOIN, "token": "-"}),
        ("join mgt1 -i @t", {**JOIN, "token": "@t"}),
        ("join -i bWd0Mk mgt1", {**JOIN, "token": "bWd0Mk"}),
        ("join --check mgt1", {**JOIN, "action": "check"}),
        ("join mgt1 --dry-run --json", {**JOIN, "action": "dry-run", "json": True}),
        ("join --abort", {**JOIN, "server": None, "action": "abort"}),
        ("show", {"command": "show", "names": False, "json": False}),
        ("show --json", {"command": "show", "names": False, "json": True}),
        ("show --names --json", {"command": "show", "names": True, "json": True}),
        ("delete", DELETE),
        ("delete mgt3 --force", {**DELETE, "server": "mgt3", "force": True}),
        ("delete --dry-run --json", {**DELETE, "dry_run": True, "json": True}),
        ("readdress", READDRESS),
        (
            "readdress --address ::1",
            {**READDRESS, "address": "::1"},
        ),
        (
            "readdress --member a=10.0.0.1 --member b=fd00::1",
            {**READDRESS, "members": ["a=10.0.0.1", "b=fd00::1"]},
        ),
    ],
)
def test_line_of_the_manual_is_parsed(line: str, parsed: dict[str, object]) -> None:
    """Every form in the manual gives exactly the values that the command works with."""
    assert parse(*line.split()) == parsed


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nothing",
        "inv mgt2",
        "invite --list --revoke",
        "invite mgt2 mgt3",
        "invite mgt2 --nonvot",
        "join mgt1 --check --abort",
        "join mgt1 -i",
        "show mgt1",
        "show --js",
        "delete mgt2 mgt3",
        "delete mgt3 --no-rekey",
        "rotate-ca",
    ],
)
def test_bad_line_exits_with_2_and_prints_on_stderr(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad line prints nothing on standard output, and half an option is a bad one."""
    for reader in (parse_line, make_parser().parse_args):
        with pytest.raises(SystemExit) as exit_:
            reader(line.split())
        out, err = capsys.readouterr()
        assert (exit_.value.code, out) == (2, "")
        assert "collective: error: " in err


@pytest.mark.parametrize(
    ("line", "usage", "error", "hint"),
    [
        ("", "", "no command was given", "'collective --help' tells more"),
        ("inv mgt2", "", "there is no command 'inv'", "did you mean invite?"),
        ("Show", "", "there is no command 'Show'", "did you mean show?"),
        ("help", "", "there is no command 'help'", "did you mean --help?"),
        ("zzz", "", "there is no command 'zzz'", "the commands are gencert, invite, join, "),
        ("--jsn show", "", "there is no option '--jsn'", "'collective --help' tells more"),
        ("--vers", "", "there is no option '--vers'", "did you mean --version?"),
        ("invite m --nonvot", " invite", "invite has no option '--nonvot'", "--nonvoting?"),
        ("join m --chekc", " join", "join has no option '--chekc'", "did you mean --check or "),
        ("show --zzz", " show", "show has no option '--zzz'", "'collective show --help' tells"),
        ("delete mgt2 mgt3", " delete", "delete does not take 'mgt3'", "delete --help' tells"),
        ("join mgt1 -i", " join", "argument -i: expected one argument", "join --help' tells"),
        ("promote", " promote", "the following arguments are required", "promote --help' tells"),
    ],
)
def test_bad_line_is_told_with_the_usage_of_the_command_that_was_meant(
    line: str, usage: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with what was meant, where that is near."""
    with pytest.raises(BadLine) as caught:
        parse_line(line.split())
    err = capsys.readouterr().err
    assert err.startswith(f"usage: collective{usage} ")
    *_, first, second = err.splitlines()
    assert first.startswith(f"collective: error: {error}")
    assert second.startswith("collective: hint: ")
    assert hint in second
    assert caught.value.message.startswith(error)
    assert ("list the invitations" in err) is False
    assert ("show quorum, leader and members" in err) == (not line)


@pytest.mark.parametrize(("given", "longest"), [("40", 40), ("200", 200), ("0", 80), ("x", 80)])
def test_help_is_as_wide_as_the_terminal(
    given: str, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COLUMNS goes before it, as everywhere."""
    monkeypatch.setenv("COLUMNS", given)
    widest = max(map(len, make_parser().format_help().splitlines()))
    assert longest * 2 // 3 < widest < longest


def test_every_command_takes_json() -> None:
    """Whatever is looked at by a script."""
    lines = {"promote": "promote m", "demote": "demote m"}
    parser = make_parser()
    for command in _COMMANDS:
        assert parser.parse_args([*lines.get(command, command).split(), "--json"]).json


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the command and the version of the package."""
    with pytest.raises(SystemExit) as exit_:
        parse("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"collective {__version__}\n"


@pytest.mark.parametrize("module", ["collective.cli.parser", "collective.daemon.parser"])
def test_parser_imports_argparse_and_nothing_else(module: str) -> None:
    """A parser loads nothing that a bare argparse does not, so it cannot slow the start."""
    code = (
        f"import argparse, sys, __future__; before = set(sys.modules); import {module}; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = module.rpartition(".")[0]
    assert done.stdout.split() == ["collective", package, module]


def test_parser_is_built_without_loading_more() -> None:
    """argparse loads shutil, and with it three compressors, to ask how wide the terminal is."""
    code = "import sys; from collective.cli.parser import make_parser; make_parser(); "
    done = subprocess.run(
        [sys.executable, "-S", "-c", code + "print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"shutil", "typing", "dataclasses"} & set(done.stdout.split())
