"""How it is started: with a Confluent that was tried, or not at all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from collective.errors import RefusedError
from tests.confluent.conftest import Kind
from tests.harness.server import CHECKOUT

pytestmark = pytest.mark.integration


def run(kind: Kind, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(kind.library), str(CHECKOUT)])
    return subprocess.run(
        [kind.python, "-m", "confluent_collective", *words],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_tried_release_is_named(kind: Kind) -> None:
    """By what its functions are."""
    if not kind.real:
        pytest.skip("the stand-in is no release of Confluent")
    done = run(kind, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Confluent ")
    assert done.stdout.endswith(" was tried\n")


@pytest.mark.parametrize("allowed", [{}, {"COLLECTIVE_CONFLUENT_UNTRIED": "yes"}])
def test_release_that_was_not_tried_is_not_started(
    kind: Kind, tmp_path: Path, allowed: dict[str, str]
) -> None:
    """One sentence and a hint; nothing of Confluent has run, its own collective least of all."""
    if kind.real:
        pytest.skip("it was tried")
    script = tmp_path / "confluent"
    script.write_text("print('started')\n")
    done = run(kind, "run", str(script), "-f", **allowed)
    assert done.returncode == RefusedError.exit_code
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("confluent-collective: error: this release of Confluent was not")
    assert [line[:28] for line in lines[1:]] == ["confluent-collective: hint: "]


def test_import_refuses_what_is_no_configuration(kind: Kind, tmp_path: Path) -> None:
    """And says what to name."""
    if not kind.real:
        pytest.skip("the stand-in is no release of Confluent")
    done = run(kind, "import", str(tmp_path))
    assert done.returncode == RefusedError.exit_code
    assert f"{tmp_path} holds neither" in done.stderr
