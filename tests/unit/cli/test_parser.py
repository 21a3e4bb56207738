"""The command line of ``collective``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collective import __version__
from collective.cli.parser import make_parser


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
        ("show", {"command": "show", "json": False}),
        ("show --json", {"command": "show", "json": True}),
        ("delete", DELETE),
        ("delete mgt3 --force", {**DELETE, "server": "mgt3", "force": True}),
        ("delete --dry-run --json", {**DELETE, "dry_run": True, "json": True}),
        ("readdress", {"command": "readdress", "address": None, "members": []}),
        (
            "readdress --address ::1",
            {"command": "readdress", "address": "::1", "members": []},
        ),
        (
            "readdress --member a=10.0.0.1 --member b=fd00::1",
            {"command": "readdress", "address": None, "members": ["a=10.0.0.1", "b=fd00::1"]},
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
    with pytest.raises(SystemExit) as exit_:
        parse(*line.split())
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert "error:" in err


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
