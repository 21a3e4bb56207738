"""What the archive of the sources holds: it must pass its own checks where it is unpacked."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = (ROOT / "MANIFEST.in").read_text().split()


def test_every_folder_that_is_checked_is_in_the_archive() -> None:
    """The package itself is in it by itself."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    folders = config["mypy"]["files"].replace(" ", "").split(",")
    packages = {"collective", "confluent_collective"}
    assert {*folders, "deploy", "docs", "man"} - packages <= set(MANIFEST)


def test_every_page_at_the_top_is_in_the_archive() -> None:
    """README.md and the others."""
    assert {page.name for page in ROOT.glob("*.md")} <= set(MANIFEST)
