"""Hosts, a controller and bundles of the package, for all tests of this folder.

They are one story, in the order of the files and of the tests in them: each goes on from the hosts
that the last has left.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.image import CACHE, ROOT, image, offered
from tools.bundle import make
from tools.steps import StepError, run

NAMES = ("mgt1", "mgt2", "mgt3", "mgt4", "mgt5")
THREE = NAMES[:3]
#: The version that hosts are upgraded to.
NEWER = "0.2.1"
#: Debian 12 has Python 3.11.
PYTHON = ("3.11",)
_SECONDS = 120.0


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A folder for all of it; what a run that was killed has left in it is removed first."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another run uses {CACHE}")
        folder = CACHE / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def collections(work: Path) -> Path:
    """The folder that the collection is installed in, built as a user builds it."""
    path = work / "collections"
    galaxy = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection"]
    run([*galaxy, "build", "--output-path", str(work), str(ROOT / "deploy")], _SECONDS)
    (built,) = work.glob("confluent-collective-*.tar.gz")
    run([*galaxy, "install", "--no-deps", "-p", str(path), str(built)], _SECONDS)
    return path


@pytest.fixture(scope="session")
def hosts(work: Path) -> Iterator[Hosts]:
    """Five hosts, all on."""
    try:
        image()
    except StepError as error:
        pytest.fail(str(error))
    folder = work / "hosts"
    folder.mkdir()
    with Hosts(NAMES, folder) as made:
        yield made


@pytest.fixture(scope="session")
def bundle(work: Path, hosts: Hosts) -> Path:
    """This tree and etcd, as hosts without a way out get them."""
    return make(ROOT, work / "bundle", PYTHON, os.uname().machine, [offered("etcd-server")])


@pytest.fixture(scope="session")
def newer_bundle(work: Path) -> Path:
    """This tree under another version."""
    tree = work / "newer"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "tests", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=left_out)
    source = tree / "collective/__init__.py"
    text, count = re.subn(r'(?<=__version__ = ")[^"]+', NEWER, source.read_text())
    assert count == 1
    source.write_text(text)
    return make(tree, work / "newer-bundle", PYTHON, os.uname().machine, ())


@pytest.fixture(scope="session")
def controller(hosts: Hosts, collections: Path, bundle: Path) -> Controller:
    """Ansible, with the first three hosts in the inventory; no host has a way out."""
    log = CACHE / "plays.log"
    log.write_text("")
    made = Controller(hosts, collections, Path(sys.executable).parent, log)
    made.inventory = {name: {} for name in THREE}
    made.variables = {"collective_source": "bundle", "collective_bundle": str(bundle)}
    return made


@pytest.fixture(scope="session", autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tells where the log is, at the end."""
    yield
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and (CACHE / "plays.log").exists():
        reporter.write_line(f"\nall plays: {os.path.relpath(CACHE / 'plays.log', ROOT)}")
