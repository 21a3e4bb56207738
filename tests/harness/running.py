"""A ``collective`` command that runs while the test does something else."""

from __future__ import annotations

from collections.abc import Sequence

from tests.harness import Server

_COMMAND_SECONDS = 120.0


class Running:
    """A command that was started; its ``with`` block leaves no process behind."""

    def __init__(self, server: Server, arguments: Sequence[str], token: str = "") -> None:
        self._child = server.popen(*arguments)
        assert self._child.stdin is not None
        self._child.stdin.write(token)
        self._child.stdin.close()
        self._child.stdin = None

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._child.poll() is not None

    def kill(self) -> None:
        """Kill the process."""
        self._child.kill()

    def end(self) -> str:
        """Wait for it, and return how it ended and what it said on standard error."""
        _, said = self._child.communicate(timeout=_COMMAND_SECONDS)
        return f"ended with {self._child.returncode}\n{said}"
