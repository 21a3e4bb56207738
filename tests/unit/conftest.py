"""Folders of unit tests are in memory where that can be: most of their time was a disk's."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.harness import temporary_folder

_MEMORY = Path("/dev/shm")
_LONGEST_NAME = 30


@pytest.fixture(scope="session")
def folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all tests of this process."""
    if os.access(_MEMORY, os.W_OK):
        with temporary_folder(_MEMORY) as folder:
            yield folder
    else:
        yield tmp_path_factory.mktemp("unit")


@pytest.fixture
def tmp_path(folder_of_run: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of this test's own, as pytest's."""
    name = re.sub(r"\W", "_", request.node.name)[:_LONGEST_NAME]
    made = Path(mkdtemp(prefix=f"{name}-", dir=folder_of_run))
    yield made
    shutil.rmtree(made, ignore_errors=True)
