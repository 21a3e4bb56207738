"""Hosts, a controller and a bundle of the package, for all tests of this folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.image import CACHE, ROOT, ImageError, image
from tools.bundle import make

NAMES = ("mgt1", "mgt2", "mgt3", "mgt4", "mgt5")
#: Debian 12 has Python 3.11.
PYTHON = ("3.11",)


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
def bundle(work: Path) -> Path:
    """This tree, as hosts without a way out get it."""
    return make(ROOT, work / "bundle", PYTHON, os.uname().machine, ())


@pytest.fixture(scope="session")
def collections(work: Path) -> Path:
    """The collection, built and installed as a user does it."""
    path = work / "collections"
    _galaxy("build", "--output-path", str(work), str(ROOT / "deploy"))
    (built,) = work.glob("confluent-collective-*.tar.gz")
    _galaxy("install", "--no-deps", "-p", str(path), str(built))
    return path


def _galaxy(*arguments: str) -> None:
    program = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([str(program), "collection", *arguments], check=True, timeout=120)


@pytest.fixture(scope="session")
def hosts(work: Path) -> Iterator[Hosts]:
    """Five hosts, all on."""
    try:
        image()
    except ImageError as error:
        pytest.skip(str(error))
    folder = work / "hosts"
    folder.mkdir()
    with Hosts(NAMES, folder) as made:
        yield made


@pytest.fixture(scope="session")
def controller(hosts: Hosts, collections: Path) -> Controller:
    """Ansible, with the first three hosts in the inventory."""
    log = CACHE / "plays.log"
    log.write_text("")
    made = Controller(hosts, collections, Path(sys.executable).parent, log)
    made.inventory = {name: {} for name in NAMES[:3]}
    return made
