"""Commands of others that a tool runs one after the other, such as apt-get, with a deadline."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

UNPACK_SECONDS = 60.0


class StepError(Exception):
    """A command failed; the text says which, and why, as a part of a sentence."""


def run(
    command: Sequence[str],
    seconds: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command, and return what it printed.

    Args:
        command: program and arguments.
        seconds: its deadline.
        folder: that it runs in.
        environment: of the command, if not ours.

    Raises:
        StepError: it failed, or took longer.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(f"{command[0]} failed: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        words = shlex.join(command)
        raise StepError(f"{words} ended with {done.returncode}: {' / '.join(said[-3:])}")
    return done.stdout


def unpack(folder: Path, tree: Path) -> None:
    """Unpack all packages of Debian in a folder into a tree; nothing is installed.

    Raises:
        StepError: one cannot be unpacked.
    """
    for package in sorted(folder.glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(tree)], UNPACK_SECONDS)
