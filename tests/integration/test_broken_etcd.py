"""What keeps a server's own etcd from starting, or from answering, is told by ``show`` there.

See ``test_trouble_daemon`` for an etcd that ends.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import QuorumError
from tests.harness import Cluster, Server, wait_until
from tests.harness.processes import processes_in
from tests.harness.trouble import settle

pytestmark = pytest.mark.integration

SECONDS = 20.0


@pytest.fixture
def running(cluster: Cluster) -> Server:
    """A collective of one."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    return mgt1


def assert_told(server: Server, reason: str) -> None:
    """See that the server says what is wrong with its etcd, and names no server to start."""
    wait_until(lambda: reason in server.run("show").err, SECONDS, f"show says {reason!r}")
    shown = server.run("show")
    assert shown.code == QuorumError.exit_code
    assert "hint: it is etcd on this server that does not work" in shown.err
    assert "start the servers" not in shown.err
    assert reason in server.show_json()["etcd_failure"]


#: It runs etcd, and ends with code 0 however that ends, as etcd does when it is told 403.
_ENDS_WELL = """#!/bin/sh
setpriv --pdeathsig KILL -- {etcd} "$@"
exit 0
"""


@pytest.mark.parametrize("count", [1, 3])
def test_etcd_that_ends_with_0_and_was_not_removed_is_a_failure_and_is_started_again(
    make_cluster: Callable[..., Cluster], count: int
) -> None:
    """After 10 s its server took itself for deleted, and moved all that it had aside."""
    cluster = make_cluster(count)
    servers = list(cluster.servers.values())
    ended = servers[-1]
    ended.stop()
    program = cluster.root / "ends-well"
    program.write_text(_ENDS_WELL.format(etcd=cluster.etcd))
    program.chmod(0o755)
    ended.configure(etcd=str(program))
    ended.start()
    cluster.wait_until_all_active(ended, servers)
    os.kill(max(processes_in(Path(ended.layout.etcd_run), below=False)), signal.SIGKILL)
    assert_told(ended, "etcd ended with code 0")
    cluster.wait_until_all_active(ended, servers, 2 * SECONDS)
    assert not ended.is_removed
    assert ended.show_json()["etcd_failure"] is None


@pytest.mark.parametrize("name", ["crl.der", "trusted.pem"])
def test_etcd_whose_files_cannot_be_written_is_told_and_starts_when_they_can(
    running: Server, name: str
) -> None:
    """The daemon once waited for an etcd that nobody was to start any more."""
    running.stop()
    blocked = Path(running.layout.pki, name)
    blocked.unlink()
    blocked.mkdir()
    running.start()
    assert_told(running, f"etcd is not started: cannot write {blocked}")
    blocked.rmdir()
    assert running.wait_for_quorum()["etcd_failure"] is None


def test_etcd_that_hangs_is_told_apart_from_servers_that_are_off(running: Server) -> None:
    """It runs, has not ended, and answers nobody; the one server listed as offline is this one."""
    pid = running.etcd_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert_told(running, "etcd on this server does not answer")
    finally:
        os.kill(pid, signal.SIGCONT)
    running.wait_for_quorum()
