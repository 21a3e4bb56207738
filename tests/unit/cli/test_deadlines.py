"""How long a command may take: each has an entry, and what is typed finds it."""

from __future__ import annotations

import pytest

from collective.cli import quick
from collective.cli.deadlines import SECONDS, SILENCE_SECONDS, line_of
from collective.cli.parser import make_parser
from tests.harness.command_table import LINES, lines_of_parser


def test_every_command_has_a_deadline_and_is_tried() -> None:
    """One that is added to the parser has to be added to both tables."""
    assert SECONDS.keys() == set(lines_of_parser()) == LINES.keys()


@pytest.mark.parametrize("line", LINES)
def test_command_that_is_typed_has_the_deadline_of_its_line(line: str) -> None:
    """However it is read; a hanging daemon is found out before, but by who presses Tab."""
    words = list(LINES[line])
    assert line_of(make_parser().parse_args(words)) == line
    short = quick.parse(words)
    assert short is None or line_of(short) == line
    assert (SECONDS[line] > SILENCE_SECONDS) is (line != "show --names")
