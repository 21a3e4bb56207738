"""The wheel for Confluent's interpreter: it is whole, and needs no other package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.confluent.conftest import Kind, kinds
from tests.harness import Cluster, wait_until
from tests.harness.interpreters import VERSIONS, interpreter
from tests.harness.server import CHECKOUT
from tools import wheels

SECONDS = 120.0
REAL = [kind for kind in kinds() if kind.real]


def done(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as ``make adapter`` makes it; what makes wheels comes from a package index."""
    try:
        return wheels.make(CHECKOUT, tmp_path_factory.mktemp("wheel"))
    except subprocess.CalledProcessError:
        pytest.skip("the wheel cannot be made: see above what pip says")


@pytest.fixture(scope="module", params=VERSIONS)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """An interpreter without any package, and the folder that the wheel is installed into."""
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"there is no Python {request.param} on this machine")
    folder = tmp_path_factory.mktemp("installed")
    python, target = folder / "venv/bin/python", folder / "collective"
    pip = [str(python), "-m", "pip"]
    if done(found, "-m", "venv", str(folder / "venv")).returncode != 0:
        # A distribution's own Python may come without what makes a pip.
        made = done(found, "-m", "venv", "--without-pip", str(folder / "venv"))
        assert made.returncode == 0, made.stderr
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    pip += ["install", "--quiet", "--no-deps", "--no-index", f"--target={target}"]
    made = done(*pip, str(wheel))
    assert made.returncode == 0, made.stderr
    return str(python), target


def test_adapter_runs_from_its_wheel_alone(installed: tuple[str, Path]) -> None:
    """All of it can be imported; and where no Confluent is, that is said in a sentence."""
    python, target = installed
    modules = sorted(path.stem for path in (target / "confluent_collective").glob("*.py"))
    assert "runtime" in modules
    imports = "; ".join(
        f"import confluent_collective.{name}" for name in modules if name[0] != "_"
    )
    script = f"{imports}; import collective; collective.connect, collective.Put"
    tried = done(python, "-W", "error", "-c", script, PYTHONPATH=str(target))
    assert (tried.returncode, tried.stderr) == (0, "")
    tried = done(python, "-m", "confluent_collective", "check", PYTHONPATH=str(target))
    assert tried.stderr.startswith("confluent-collective: error: there is no Confluent in this")
    assert len(tried.stderr.splitlines()) == 2


@pytest.mark.parametrize("kind", REAL, ids=lambda kind: kind.name)
def test_adapter_from_its_wheel_knows_a_real_confluent(
    installed: tuple[str, Path], kind: Kind
) -> None:
    """Whatever Python it runs on: it reads the sources."""
    python, target = installed
    path = f"{target}:{kind.library}"
    tried = done(python, "-m", "confluent_collective", "check", PYTHONPATH=path)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert tried.stdout.endswith(" was tried\n")


@pytest.mark.integration
def test_adapter_from_its_wheel_reaches_the_daemon(
    installed: tuple[str, Path], cluster: Cluster
) -> None:
    """With what of the API is in the wheel: it stores, watches and reads."""
    python, target = installed
    (server,) = cluster.add_running(1)
    script = (
        "import collective\n"
        "with collective.connect(seconds=30) as handle:\n"
        "    handle.store.put('tried', b'1', seconds=30)\n"
        "    print(handle.name, handle.store.watch('tried', initial=True).next_batch(30)[0].key)\n"
    )
    wait_until(server.ask_show, 30.0, "the daemon answers")
    tried = done(python, "-c", script, PYTHONPATH=str(target), COLLECTIVE_ROOT=str(server.root))
    assert (tried.stdout, tried.stderr) == ("mgt1 tried\n", "")


def test_make_adapter_makes_a_wheel(wheel: Path) -> None:
    """It is for any Python 3, and has no part that is compiled."""
    assert wheel.name.startswith("confluent_collective-")
    assert wheel.name.endswith("-py3-none-any.whl")
