"""The command line of ``collective``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from collective import __version__
from collective.cli.parser import make_parser


def parse(*words: str) -> dict[str, object]:
    return vars(make_parser().parse_args(list(words)))


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("gencert", {"command": "gencert"}),
        (
            "invite mgt2",
            {"command": "invite", "server": "mgt2", "nonvoting": False, "ttl": None},
        ),
        (
            "invite -n mgt2 --ttl 30m",
            {"command": "invite", "server": "mgt2", "nonvoting": True, "ttl": "30m"},
        ),
        (
            "invite --nonvoting mgt2",
            {"command": "invite", "server": "mgt2", "nonvoting": True, "ttl": None},
        ),
        ("join mgt1", {"command": "join", "server": "mgt1", "token": None}),
        ("join mgt1 -i -", {"command": "join", "server": "mgt1", "token": "-"}),
        ("join mgt1 -i @t", {"command": "join", "server": "mgt1", "token": "@t"}),
        ("join -i bWd0Mk mgt1", {"command": "join", "server": "mgt1", "token": "bWd0Mk"}),
        ("show", {"command": "show", "json": False}),
        ("show --json", {"command": "show", "json": True}),
        ("delete", {"command": "delete", "server": None, "force": False, "rekey": True}),
        ("rotate-ca", {"command": "rotate-ca"}),
        (
            "delete mgt3 --force --no-rekey",
            {"command": "delete", "server": "mgt3", "force": True, "rekey": False},
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
        "invite",
        "invite mgt2 mgt3",
        "invite mgt2 --nonvot",
        "join",
        "join mgt1 -i",
        "show mgt1",
        "show --js",
        "delete mgt2 mgt3",
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
