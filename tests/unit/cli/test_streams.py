"""Every command with every standard stream closed, full, or at a pipe whose other end is gone.

A child is forked for each, with the streams as Python would have found them at its start.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

import pytest

from collective.cli import main as module
from collective.cli.main import main
from collective.errors import DaemonError, InputError, InvitationError, OutputError

_PROJECT = Path(module.__file__).parents[2]
_STREAMS = ("stdin", "stdout", "stderr")
_CRASHED = 99
_CHILD_SECONDS = 120


class State(Enum):
    """What a stream may be."""

    CLOSED = "closed"
    FULL = "full"
    BROKEN = "broken pipe"


LINES = (
    "gencert",
    "gencert --json",
    "invite mgt2",
    "invite mgt2 --json",
    "invite mgt2 --dry-run",
    "invite --list",
    "invite --revoke mgt2",
    "invite --replace mgt2 --ttl 1h",
    "join mgt1",
    "join mgt1 -i -",
    "join mgt1 --check",
    "join mgt1 --check -i -",
    "join mgt1 --dry-run -i -",
    "join --abort",
    "show",
    "show --json",
    "show --names",
    "delete",
    "delete mgt2 --force",
    "promote mgt2",
    "demote mgt2",
    "readdress",
    "readdress --member mgt2=10.0.0.2",
)
READS_A_TOKEN = (
    "join mgt1",
    "join mgt1 -i -",
    "join mgt1 --check -i -",
    "join mgt1 --dry-run -i -",
)
PRINTS_A_TOKEN = ("invite mgt2", "invite mgt2 --json", "invite --replace mgt2 --ttl 1h")


@dataclass(frozen=True)
class Done:
    """How a command ended: its status, and what it asked, printed and told."""

    status: int
    asked: tuple[str, ...]
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, State], Done]:
    """Runs a line in a child with one stream in a state, before a daemon that does all."""
    monkeypatch.setenv("COLLECTIVE_ROOT", str(tmp_path))
    files = {name: tmp_path / name for name in ("asked", *_STREAMS)}

    def run(line: str, stream: str, state: State) -> Done:
        for path in files.values():
            path.write_text("the-token\n" if path.name == "stdin" else "")
        child = os.fork()
        if child == 0:
            _be_the_command(line.split(), stream, state, files)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        asked, out, err = (files[name].read_text() for name in ("asked", "stdout", "stderr"))
        return Done(status, tuple(asked.splitlines()), out, err)

    return run


def _be_the_command(
    line: list[str], stream: str, state: State, files: dict[str, Path]
) -> NoReturn:
    status = _CRASHED
    signal.alarm(_CHILD_SECONDS)
    try:
        asked = files["asked"].open("a", buffering=1)

        def answer(_socket: str, _method: str, route: str, *_: object) -> list[tuple[str, str]]:
            asked.write(f"{route}\n")
            return [("s", "dial: mgt1"), ("n", "a remark"), ("o", "the result"), ("x", "0")]

        module.__dict__.update(stream=answer, ask=answer)
        for number, name in enumerate(_STREAMS):
            _put(number, name, state if name == stream else None, files[name])
        status = main(line)
    except BaseException:
        with files["asked"].open("a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(status)


def _put(number: int, name: str, state: State | None, path: Path) -> None:
    """Put a stream where Python would have found it, and as it would have opened it."""
    mode = "r" if name == "stdin" else "w"
    if state is State.CLOSED:
        os.close(number)
        setattr(sys, name, None)
        return
    if state is State.BROKEN:
        reader, writer = os.pipe()
        os.close(writer if name == "stdin" else reader)
        opened = reader if name == "stdin" else writer
    else:
        where = "/dev/full" if state is State.FULL else str(path)
        opened = os.open(where, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
    os.dup2(opened, number)
    os.close(opened)
    setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def test_every_command_is_in_the_table() -> None:
    """So that none is forgotten."""
    assert {line.split()[0] for line in LINES} == set(module._COMMANDS)


@pytest.mark.parametrize("line", LINES)
def test_closed_or_full_standard_output_is_found_before_anything_is_asked(
    run: Callable[[str, str, State], Done], line: str
) -> None:
    """Whoever could not be told the result has not changed anything (submit50 121)."""
    for state in (State.CLOSED, State.FULL):
        done = run(line, "stdout", state)
        assert (done.status, done.asked) == (OutputError.exit_code, ())
        assert done.err.startswith("collective: error: cannot write to standard output: ")
        assert "nothing was done" in done.err


@pytest.mark.parametrize("line", LINES)
def test_result_that_nobody_reads_any_more_is_told_and_a_token_is_taken_back(
    run: Callable[[str, str, State], Done], line: str
) -> None:
    """A pipe is found to be broken by writing alone, when all is done."""
    done = run(line, "stdout", State.BROKEN)
    assert done.status == OutputError.exit_code
    first, *others = done.asked
    assert others == (["/v1/invite/revoke"] if line in PRINTS_A_TOKEN else [])
    assert "error: cannot write to standard output: Broken pipe" in done.err
    said = "the invitation for mgt2 was taken back" if others else "what was asked for was done"
    assert said in done.err
    assert first.startswith(f"/v1/{line.split()[0]}")


@pytest.mark.parametrize("line", LINES)
def test_standard_error_that_takes_nothing_changes_neither_result_nor_status(
    run: Callable[[str, str, State], Done], line: str
) -> None:
    """What is told there is for people."""
    for state in State:
        done = run(line, "stderr", state)
        assert (done.status, done.out, len(done.asked)) == (0, "the result\n", 1), state


@pytest.mark.parametrize("line", LINES)
def test_standard_input_without_a_token_is_an_error_of_commands_that_read_one(
    run: Callable[[str, str, State], Done], line: str
) -> None:
    """Closed or at its end there is no token; what gives zeros for ever gives a garbled one."""
    expected = {
        State.CLOSED: (InputError, "no token was given"),
        State.BROKEN: (InputError, "no token was given"),
        State.FULL: (InvitationError, "the token is garbled"),
    }
    for state, (error, said) in expected.items():
        done = run(line, "stdin", state)
        if line not in READS_A_TOKEN:
            assert (done.status, done.out) == (0, "the result\n"), state
            continue
        assert (done.status, done.asked) == (error.exit_code, ()), state
        assert f"collective: error: {said}" in done.err


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [
        ("\x04", InputError.exit_code, b"error: no token was given"),
        ("\r", InputError.exit_code, b"error: no token was given"),
        ("\x03", 130, b"interrupted before anything was asked"),
        ("t\r", 0, b"the result"),
    ],
)
def test_key_at_the_question_for_the_token_ends_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, status: int, said: bytes
) -> None:
    """Ctrl-D, Ctrl-C and an empty line, at a terminal, where the token itself is not shown."""
    monkeypatch.setenv("COLLECTIVE_ROOT", str(tmp_path))
    child, terminal = pty.fork()
    if child == 0:
        code = _CRASHED
        signal.alarm(_CHILD_SECONDS)
        # A shell has it ignored by what it starts in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            answer = [("o", "the result"), ("x", "0")]
            module.__dict__.update(stream=lambda *_: answer)
            for number, name in enumerate(_STREAMS):
                setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
            code = main(["join", "mgt1"])
        finally:
            os._exit(code)
    seen = b""
    while not seen.endswith(b"token: "):
        seen += os.read(terminal, 1024)
    os.write(terminal, key.encode())
    with suppress(OSError):  # that is how a terminal ends
        while True:
            # Python misses a signal that comes right before it begins to read.
            if key == "\x03" and not select.select([terminal], [], [], 1.0)[0]:
                os.write(terminal, key.encode())
                continue
            if not (part := os.read(terminal, 1024)):
                break
            seen += part
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    assert said in seen
    assert b"Traceback" not in seen
    assert b"t\r\n" not in seen.partition(b"token: ")[2].partition(b"the result")[0]


@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        ("printf '\\377\\376' | {} join mgt1", InvitationError.exit_code, "is garbled"),
        ("{} join mgt1 -i - <&- >&- 2>&-", OutputError.exit_code, ""),
        ("{} show >&-", OutputError.exit_code, "Bad file descriptor"),
        ("{} show 2>&- <&-", DaemonError.exit_code, ""),
        ("{} show --json 2>/dev/full", DaemonError.exit_code, ""),
        ("{} invite mgt2 --json --ttl soon", InputError.exit_code, "expected a duration"),
        ("{} --help >/dev/full", OutputError.exit_code, "No space left"),
        ("{} invite --help >&-", OutputError.exit_code, "Bad file descriptor"),
        ("{} --version >/dev/full", OutputError.exit_code, "No space left"),
        ("{} nonsense 2>&-", InputError.exit_code, ""),
        ("{}d --version >/dev/full", OutputError.exit_code, "No space left"),
        ("{}d --check >&-", OutputError.exit_code, "Bad file descriptor"),
    ],
)
def test_real_process_ends_with_its_documented_status_and_without_a_traceback(
    tmp_path: Path, typed: str, status: int, words: str
) -> None:
    """As a shell starts it, at a server without a daemon."""
    program = f"{sys.executable} -m collective."
    line = typed.replace("{}d", f"{program}daemon.main").replace("{}", f"{program}cli.main")
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        env={"COLLECTIVE_ROOT": str(tmp_path), "PYTHONPATH": str(_PROJECT), "PATH": "/bin"},
    )
    assert done.returncode == status
    assert words in done.stderr
    assert not {"Traceback", "Exception ignored"} & set(done.stderr.split(":"))
    if "--json" in typed and "2>" not in typed:
        assert '"code": "input"' in done.stdout
