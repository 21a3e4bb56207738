"""The folder of the sockets is removed under a running daemon (systemd issue 5394)."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import collective
from collective.errors import AccessError, CollectiveError, DaemonError
from tests.harness import Cluster, Server, wait_until
from tests.harness.trouble import one_etcd
from tests.integration.test_nonvoting import join_nonvoting
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 30.0
Connect = Callable[[Server], collective.Collective]


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: each makes its socket when it starts, and then only."""
    return one_etcd()


def wait_until_served(server: Server, handle: collective.Collective) -> None:
    """Wait until command, a client of etcd, a write and a call find a server's sockets."""

    def works() -> bool:
        with suppress(CollectiveError, OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(server.layout.etcd_socket)
            handle.store.put("x", b"1")
            return handle.ask(server.name, "echo", b"a", seconds=1.0) == b"a"
        return False

    there = (server.layout.control_socket, server.layout.etcd_socket, server.layout.calls_door)
    wait_until(lambda: all(map(os.path.exists, there)), SECONDS, "the sockets are made again")
    wait_until(works, SECONDS, "all of them lead somewhere")
    assert server.run("show").code == 0


@pytest.mark.parametrize("votes", [True, False])
def test_removed_folder_or_socket_is_made_again(
    cluster: Cluster, connect: Connect, votes: bool
) -> None:
    """Commands, etcd's clients and calls find theirs where it was, without a restart by hand."""
    (mgt1,) = cluster.add_running(1)
    server = mgt1 if votes else join_nonvoting(cluster, mgt1)
    handle = connect(server)
    handle.serve("echo", lambda call: call.receive())
    wait_until_served(server, handle)
    pid = server.pid
    for what in ("run", "control_socket", "etcd_run", "etcd_socket", "calls"):
        gone = Path(getattr(server.layout, what))
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()
        wait_until_served(server, handle)
    assert server.pid == pid
    assert oct(Path(server.layout.run).stat().st_mode) == "0o40755"
    for private in (server.layout.calls, server.layout.etcd_run):
        assert oct(Path(private).stat().st_mode) == "0o40700"


def test_folder_that_cannot_be_made_again_ends_the_daemon(cluster: Cluster) -> None:
    """As under systemd, where it is not the daemon's to make: a restart makes it, and is told."""
    (server,) = cluster.add_running(1)
    run = Path(server.layout.run)
    while not run.is_file():
        shutil.rmtree(run, ignore_errors=True)
        with suppress(OSError):
            run.touch(exist_ok=False)
    assert server.wait_for_end() == AccessError.exit_code
    assert (
        f"error: the folder of its sockets was removed under collectived: cannot make folder {run}"
    )
    assert "systemctl restart collectived" in server.log_text
    assert server.run("show").code == DaemonError.exit_code
    run.unlink()
    server.start()
    server.wait_for_quorum()
