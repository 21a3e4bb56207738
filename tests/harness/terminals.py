"""A terminal for a program that wants one, such as a console."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable

from collective.model.closing import Closing
from tests.harness.waiting import HarnessError


class Terminal(Closing):
    """The end of a terminal that a person has; the program that has the other one ends with it."""

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        """Start a program.

        Args:
            start: is given the end that the program has.
        """
        self._end, other = pty.openpty()
        try:
            self._process = start(other)
        finally:
            os.close(other)
        self._shown = b""

    def close(self) -> None:
        """End the program, and the terminal."""
        if self._end < 0:
            return
        self._process.kill()
        self._process.wait()
        os.close(self._end)
        self._end = -1

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._end, text.encode())

    def wait_for(self, text: str, seconds: float) -> None:
        """Wait until something is shown.

        Raises:
            HarnessError: it was not; the text has what was.
        """
        deadline = time.monotonic() + seconds
        while text.encode() not in self._shown:
            left = deadline - time.monotonic()
            if left < 0 or not self._read(left):
                raise HarnessError(f"{text!r} was not shown in {seconds:g} s: {self._shown!r}")

    def _read(self, seconds: float) -> bool:
        """Take what is shown; return whether the program may still show something."""
        if not select.select([self._end], [], [], min(seconds, 1.0))[0]:
            return self._process.poll() is None
        try:
            self._shown += os.read(self._end, 4096)
        except OSError:  # that is how a terminal ends
            return False
        return True
