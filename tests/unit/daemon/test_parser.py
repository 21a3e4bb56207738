"""The command line of ``collectived``."""

from __future__ import annotations

import pytest

from collective import __version__
from collective.daemon.parser import make_parser


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("", {"config": None, "check": False}),
        ("-c /tmp/a --check", {"config": "/tmp/a", "check": True}),
        ("--config /tmp/a", {"config": "/tmp/a", "check": False}),
    ],
)
def test_line_of_the_manual_is_parsed(line: str, parsed: dict[str, object]) -> None:
    """Every form in the manual gives exactly the values that the daemon works with."""
    assert vars(make_parser().parse_args(line.split())) == parsed


@pytest.mark.parametrize("line", ["--conf /tmp/a", "-c", "start"])
def test_bad_line_exits_with_2(line: str) -> None:
    """Half an option, a missing value and a word that means nothing are refused."""
    with pytest.raises(SystemExit) as exit_:
        make_parser().parse_args(line.split())
    assert exit_.value.code == 2


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the daemon and the version of the package."""
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--version"])
    assert capsys.readouterr().out == f"collectived {__version__}\n"
