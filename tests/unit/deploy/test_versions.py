"""The collection, and what it installs, have the version of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collective import __version__

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("galaxy.yml", r"^version: (\S+)$"),
        ("roles/collective/defaults/main.yml", r'^collective_version: "(\S+)"$'),
        (
            "roles/collective/meta/argument_specs.yml",
            r'collective_version:\n.*\n.*\n\s+default: "(\S+)"$',
        ),
    ],
)
def test_version_is_that_of_the_package(file: str, pattern: str) -> None:
    """Else a new collection would install an old package."""
    found = re.search(pattern, (DEPLOY / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] == __version__
