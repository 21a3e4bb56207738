"""What the packages have in common with the role, and the scripts in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import packages

ROOT = Path(__file__).resolve().parents[3]


def test_links_are_those_of_the_role_in_usr() -> None:
    """The program and the pages; a distribution's package puts nothing in /usr/local."""
    assert packages.links()["bin/collectived"] == "usr/sbin/collectived"
    fish = "share/fish/vendor_completions.d/collective.fish"
    assert packages.links()[fish] == f"usr/{fish}"
    places = packages.links().values()
    assert not [path for path in places if "local" in path or not path.startswith("usr/")]


def test_every_file_that_is_packed_is_there() -> None:
    """A renamed one would be found only where packages are made."""
    for source in packages.FILES:
        assert (packages.DEPLOY / source).is_file()
    spec = (packages.DEPLOY / "packages/collective.spec").read_text()
    assert all(f"@{name}@" in spec for name in packages.SCRIPTS)


@pytest.mark.parametrize("script", ["before-remove.sh", "after-remove.sh"])
@pytest.mark.parametrize("argument", ["upgrade", "1", "purge", "failed-upgrade"])
def test_upgrade_stops_and_removes_nothing(script: str, argument: str) -> None:
    """As dpkg and rpm tell it: both call the scripts of the old release for it."""
    command = ["sh", str(packages.DEPLOY / "packages" / script), argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
