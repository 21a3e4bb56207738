"""The demo and the sandbox, as a newcomer runs them, and that both leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import wait_until
from tests.harness.processes import processes_in
from tests.harness.server import CHECKOUT

pytestmark = pytest.mark.integration

SECONDS = 60.0


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder for temporary files with a short path, to see what is left in it."""
    folder = Path(f"/tmp/clt-{os.getpid()}")
    folder.mkdir()
    yield folder
    left = sorted(path.name for path in folder.iterdir())
    running = processes_in(folder)
    folder.rmdir()
    assert (left, running) == ([], [])


def start(base: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(base), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(base: Path, module: str, *arguments: str) -> str:
    """Run to the end, and return standard output."""
    process = start(base, module, *arguments)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    return out


def test_demo_runs_through(base: Path) -> None:
    """Each of its steps does what it should, and it says so at the end."""
    out = run(base, "sandbox.demo")
    assert out.endswith("\nThe demo ran through.\n")
    assert "[mgt1]# collective invite mgt2\n" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_interrupted_cleans_up(base: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle: no server and no file is left."""
    demo = start(base, "sandbox.demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "collective invite mgt2" in line:
            break
    assert processes_in(base)
    demo.send_signal(number)
    demo.communicate(timeout=SECONDS)
    assert demo.returncode == 130


def test_demo_that_is_killed_leaves_no_process(base: Path) -> None:
    """kill -9 leaves a folder at most, and the next run removes that too."""
    demo = start(base, "sandbox.demo")
    assert demo.stdout is not None
    for line in demo.stdout:
        if "collective invite mgt2" in line:
            break
    demo.kill()
    demo.communicate(timeout=SECONDS)
    wait_until(lambda: not processes_in(base), SECONDS, "end of all daemons and etcds")
    assert list(base.iterdir())
    run(base, "sandbox.demo")


def test_sandbox_runs_until_it_is_stopped(base: Path) -> None:
    """It outlives the command that started it, answers by name, and goes away whole."""
    place = base / "sandbox"
    assert "Three servers run" in run(base, "sandbox.sandbox", "--place", str(place))
    assert "already running" in run(base, "sandbox.sandbox", "--place", str(place))
    command = [str(place / "mgt2"), "collective", "show"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    # Whichever: for each join the leader hands over before its etcd is restarted.
    assert shown.stdout.startswith("Quorum: True\nLeader: mgt")
    subprocess.run([place / "stop"], check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)
    assert "No sandbox" in run(base, "sandbox.sandbox", "stop", "--place", str(place))
