"""The completions, as a person meets them: typed with tabs at a real shell, where there is one."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from collective.cli.main import _COMMANDS
from tools.completion import PATHS, render

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60.0

#: In the place of the command: tells the names of the members, and writes down what it was given.
COLLECTIVE = """#!/bin/sh
test "$*" = "show --names" && exec echo mgt7
echo "$*" >>"$TYPED.new" && mv "$TYPED.new" "$TYPED"
"""
START: Mapping[str, Sequence[str]] = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
LOAD = {
    "bash": "source {}",
    "zsh": "autoload -U compinit; compinit -u -D; source {}; compdef _shtab_collective collective",
}


def environment_of(folder: Path) -> dict[str, str]:
    """Put a false command into a folder, and return the variables of a shell that finds it."""
    command = folder / "bin" / "collective"
    command.parent.mkdir()
    command.write_text(COLLECTIVE)
    command.chmod(0o755)
    path = f"{folder}/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(folder), "TERM": "vt100", "TYPED": str(folder / "typed")}


def typed(shell: str, line: str, folder: Path) -> str:
    """Type a line, which has tabs, at a shell, and return what the command was given."""
    environment = environment_of(folder)
    told = Path(environment["TYPED"])
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(START[shell][0], [*START[shell]], environment)
    try:
        loaded = LOAD[shell].format(ROOT / PATHS[shell])
        os.write(terminal, f"{loaded}; echo rea''dy\r".encode())
        _read_until(terminal, lambda seen: b"ready\r" in seen)
        os.write(terminal, f"{line}\r".encode())
        _read_until(terminal, lambda _: told.exists())
        return told.read_text().strip()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def _read_until(terminal: int, done: Callable[[bytes], bool]) -> None:
    seen, deadline = b"", time.monotonic() + SECONDS
    while not done(seen):
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 65536)


@pytest.mark.parametrize("shell", START)
@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("collective dem\tmg\t--js\t", "demote mgt7 --json"),
        ("collective readd\t--mem\tmg\t", "readdress --member mgt7"),
    ],
)
def test_commands_options_and_names_of_members_are_completed(
    shell: str, line: str, given: str, tmp_path: Path
) -> None:
    """Typed with tabs, at the shell itself."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert typed(shell, line, tmp_path).rstrip("=") == given


def test_fish_completes_commands_options_and_names_of_members(tmp_path: Path) -> None:
    """It says itself what it would offer for a line."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    lines = {
        "dem": "demote",
        "demote mg": "mgt7",
        "invite --repl": "--replace",
        "invite --replace mg": "mgt7",
        "readdress --member mg": "mgt7=",
    }
    asked = "".join(f"complete -C 'collective {line}';" for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {ROOT / PATHS['fish']}; {asked}"],
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert (offered, done.stderr) == (list(lines.values()), "")


def test_every_command_is_in_every_completion() -> None:
    """Whatever shell there is here."""
    for text in render().values():
        assert all(command in text for command in _COMMANDS)
        assert "collective show --names" in text
