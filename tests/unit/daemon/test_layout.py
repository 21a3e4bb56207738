"""Tests of collective.model.layout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import collective
from collective.errors import InputError
from collective.model.layout import SOCKET_PATH_LIMIT, Layout

PATHS = [
    "settings_file",
    "data",
    "etcd_data",
    "pki",
    "state",
    "backups",
    "aside",
    "run",
    "control_socket",
    "etcd_run",
    "etcd_socket",
    "daemon_lock",
    "etcd_lock",
]


def root_of(length: int) -> str:
    """Return a root of so many bytes."""
    return "/" + "r" * (length - 1)


def test_no_root_gives_the_folders_of_the_system() -> None:
    """An installed server has its files where the manual says."""
    layout = Layout.from_environment({})
    assert {name: getattr(layout, name) for name in PATHS} == {
        "settings_file": "/etc/confluent/collective.conf",
        "data": "/var/lib/confluent-collective",
        "etcd_data": "/var/lib/confluent-collective/etcd",
        "pki": "/var/lib/confluent-collective/pki",
        "state": "/var/lib/confluent-collective/state",
        "backups": "/var/lib/confluent-collective/backups",
        "aside": "/var/lib/confluent-collective/set-aside",
        "run": "/run/confluent-collective",
        "control_socket": "/run/confluent-collective/control.sock",
        "etcd_run": "/run/confluent-collective/etcd",
        "etcd_socket": "/run/confluent-collective/etcd/etcd:1",
        "daemon_lock": "/var/lib/confluent-collective/daemon.lock",
        "etcd_lock": "/var/lib/confluent-collective/etcd.lock",
    }


@pytest.mark.parametrize("root", ["/r", "/r/", "/r with space/ä"])
def test_root_set_puts_everything_under_it(root: str) -> None:
    """Two daemons with two roots share no path."""
    layout = Layout.from_environment({"COLLECTIVE_ROOT": root})
    base = root.rstrip("/")
    assert all(getattr(layout, name).startswith(f"{base}/") for name in PATHS)
    assert layout.settings_file == f"{base}/etc/collective.conf"
    assert layout.data == f"{base}/var"
    assert layout.control_socket == f"{base}/run/control.sock"
    assert layout.etcd_socket == f"{base}/run/etcd/etcd:1"


@pytest.mark.parametrize("root", ["", "relative", "./r", "~/r"])
def test_root_that_is_not_absolute_is_refused(root: str) -> None:
    """A root that depends on the working folder, or an empty one, is a mistake."""
    with pytest.raises(InputError, match="COLLECTIVE_ROOT must be an absolute path, found "):
        Layout.from_environment({"COLLECTIVE_ROOT": root})


@pytest.mark.parametrize("root", ["/", "//", "///", "/.", "/a/.."])
def test_root_of_the_file_system_is_refused(root: str) -> None:
    """The daemon would take /var and /run for its own folders."""
    with pytest.raises(InputError, match="must be a folder of its own"):
        Layout.from_environment({"COLLECTIVE_ROOT": root})


def test_longest_root_that_fits_is_taken() -> None:
    """A socket path of exactly 107 bytes is good."""
    layout = Layout.from_environment({"COLLECTIVE_ROOT": root_of(90)})
    assert len(layout.control_socket) == SOCKET_PATH_LIMIT


@pytest.mark.parametrize("root", [root_of(91), "/" + "ä" * 45])
def test_root_one_byte_too_long_is_refused_with_the_numbers(root: str) -> None:
    """The limit counts bytes, not letters."""
    with pytest.raises(InputError) as caught:
        Layout.from_environment({"COLLECTIVE_ROOT": root})
    assert caught.value.message == (
        "COLLECTIVE_ROOT is 1 bytes too long: the path of a socket can have at most 107 bytes, "
        f"{root}/run/control.sock has 108"
    )


def test_layouts_of_one_root_are_equal_and_stay_as_they_are() -> None:
    """A layout is a value."""
    one, same, other = (
        Layout.from_environment({"COLLECTIVE_ROOT": r}) for r in ("/a", "/a", "/b")
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert repr(one) == "Layout('/a/etc/collective.conf', '/a/var', '/a/run')"
    with pytest.raises(AttributeError):
        one.pki = "/elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("module", ["layout", "duration"])
def test_module_for_the_command_line_imports_nothing_else(module: str) -> None:
    """The command starts fast: no module of the standard library is loaded for this one."""
    code = (
        f"import sys, os; sys.path.insert(0, {os.fspath(Path(collective.__path__[0]).parent)!r})\n"
        f"before = set(sys.modules); import collective.model.{module}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    python = [sys.executable, "-I", "-S", "-c", code]
    answer = subprocess.run(python, check=True, capture_output=True, text=True)
    loaded = answer.stdout.split()
    ours = {"collective", "collective.errors", "collective.model", f"collective.model.{module}"}
    assert set(loaded) == ours | {"__future__"}
