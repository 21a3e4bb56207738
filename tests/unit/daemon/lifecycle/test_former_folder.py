"""A server whose data is where releases up to 0.2 had it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from collective import client
from collective.daemon.lifecycle.former_folder import check_moved
from collective.errors import RefusedError
from collective.model.layout import Layout
from tests.harness.server import CHECKOUT

UNIT = CHECKOUT / "deploy" / "collectived.service"


def layouts(root: Path) -> tuple[Layout, Layout]:
    """Return the layout of now, and the former one, of a machine below a folder."""
    now = Layout.from_environment({})
    former = now.former
    assert former is not None
    there, before = (
        Layout(f"{root}{each.settings_file}", f"{root}{each.data}", f"{root}{each.run}")
        for each in (now, former)
    )
    return there, before


def move(root: Path) -> int:
    """Run what the unit runs before the daemon, on that machine."""
    (command,) = re.findall(r"^ExecStartPre=\+/bin/sh -c '(.*)'$", UNIT.read_text(), re.M)
    text = command.replace("$$", "$").replace("/var/lib", f"{root}/var/lib")
    return subprocess.run(["sh", "-c", text], check=False).returncode


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with a server of 0.2, on which systemd has made the folder of now."""
    there, before = layouts(tmp_path)
    for name in ("etcd", "pki", "state", "set-aside"):
        Path(before.data, name).mkdir(parents=True)
    Path(before.state, "server.json").write_text("{}")
    Path(before.daemon_lock).touch()
    Path(there.data).mkdir(parents=True)
    return tmp_path


def test_server_does_not_begin_anew_beside_its_own_data(machine: Path) -> None:
    """It would be a collective of one under the name of a member."""
    there, before = layouts(machine)
    with pytest.raises(RefusedError, match=before.data) as caught:
        check_moved(there, before)
    assert f"mv {before.data}/* {there.data}/" in str(caught.value.hint)


def test_unit_moves_the_data_once(machine: Path) -> None:
    """All of it; the next start finds nothing to do, and the daemon begins."""
    there, before = layouts(machine)
    assert move(machine) == move(machine) == 0
    assert Path(there.state, "server.json").read_text() == "{}"
    assert not Path(before.data).exists()
    check_moved(there, before)


def test_move_that_was_cut_is_gone_on_with(machine: Path) -> None:
    """The state is moved last, and says that all else is there."""
    there, before = layouts(machine)
    shutil.move(before.etcd_data, there.data)
    assert move(machine) == 0
    assert sorted(p.name for p in Path(there.data).iterdir()) == [
        "daemon.lock",
        "etcd",
        "pki",
        "set-aside",
        "state",
    ]


def test_data_that_is_here_is_never_replaced(machine: Path) -> None:
    """Somebody has put the former folder back, or left it."""
    there, before = layouts(machine)
    Path(there.state).mkdir()
    assert move(machine) == 0
    assert list(Path(there.state).iterdir()) == []
    check_moved(there, before)


def test_nothing_there_is_nothing_to_move(tmp_path: Path) -> None:
    """A new server, and one that runs under a root."""
    there, before = layouts(tmp_path)
    Path(there.data).mkdir(parents=True)
    assert move(tmp_path) == 0
    check_moved(there, before)
    assert Layout.from_environment({"COLLECTIVE_ROOT": str(tmp_path)}).former is None


def test_command_finds_a_daemon_that_was_not_restarted_yet(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade looks whether all is well before it restarts the daemon of before."""
    there, before = layouts(machine)
    monkeypatch.setattr(Layout, "former", before)
    assert client.socket_of(there) == there.control_socket
    Path(before.run).mkdir(parents=True)
    Path(before.control_socket).touch()
    assert client.socket_of(there) == before.control_socket
    Path(there.run).mkdir(parents=True)
    Path(there.control_socket).touch()
    assert client.socket_of(there) == there.control_socket
