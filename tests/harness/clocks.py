"""Servers for which it is another time of day: ``clock_shift.c``, compiled where that can be.

::

    shifter = clock_shifter(folder)
    server.prefix = shifter.to(2099)      # from its next start on; its etcd, too

It changes no clock of this machine.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock_shift.c")
_SECONDS = 60.0


class NoClockError(Exception):
    """A process cannot be given another time here; the text says why."""


@dataclass(frozen=True)
class ClockShifter:
    """A program that runs another one with another time of day."""

    program: Path

    def to(self, year: int) -> tuple[str, ...]:
        """Return the command before a command for which a year has just begun.

        A minute ago: nothing is valid from the very second on in which it is looked at.
        """
        begun = datetime(year, 1, 1, 0, 1, tzinfo=timezone.utc).timestamp()
        return (str(self.program), str(round(begun - datetime.now(timezone.utc).timestamp())))


def clock_shifter(folder: Path) -> ClockShifter:
    """Compile the program into a folder, and see that it works here.

    Raises:
        NoClockError: it does not.
    """
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() != "x86_64":
        raise NoClockError("it takes a C compiler, and x86_64")
    program = folder / "clock_shift"
    _run([compiler, "-O1", "-Wall", "-Werror", "-o", str(program), str(_SOURCE)])
    shifter = ClockShifter(program)
    if (told := _run([*shifter.to(2012), "date", "-u", "+%Y"])) != "2012\n":
        raise NoClockError(f"it gives {told!r}")
    return shifter


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise NoClockError(f"{command[0]}: {error.stderr[-300:]}") from error
    return done.stdout
