"""A change of address is cut by kill -9 after each step, on either side, and finished (P5)."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from collective.failpoints import VARIABLE, Step
from tests.harness import Cluster, Server, wait_until
from tests.harness.trouble import one_etcd
from tools.etcd_versions import Etcd

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
STEPS = [step for step in Step if step.operation == "readdress"]
SETTLE_SECONDS = 60.0
HERE, THERE = "127.0.0.3", "127.0.0.19"


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: what is cut is ours."""
    return one_etcd()


class Killer(threading.Thread):
    """Kills whoever reaches a step first, with -9, and lets all else pass."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="killer", daemon=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.wanted: Step | None = None
        self.killed: int | None = None

    def run(self) -> None:
        """Serve until closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        pid, _, step = connection.recv(200).decode().strip().partition(" ")
        if self.wanted is not None and step == self.wanted.value:
            self.wanted, self.killed = None, int(pid)
            os.kill(int(pid), signal.SIGKILL)
            return
        connection.sendall(b"go\n")

    def close(self) -> None:
        """End it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def killer_of(cluster: Cluster) -> Iterator[Killer]:
    """Put a killer in between, from the next start of each server on."""
    path = cluster.root / "failpoints"
    killer = Killer(path)
    killer.start()
    for server in cluster.servers.values():
        server.environment[VARIABLE] = str(path)
        server.restart()
    try:
        yield killer
    finally:
        killer.close()


def places(server: Server) -> dict[str, tuple[str, str]]:
    """Return address and state of each member as one server shows it."""
    document = server.ask_show()
    members = document["members"] if document else []
    return {m["name"]: (m["address"], m["state"]) for m in members}


def wait_until_placed(seen_by: Server, wanted: dict[str, str], what: str) -> None:
    """Wait until a server shows each member as active at its address."""
    active = {name: (address, "active") for name, address in wanted.items()}
    wait_until(lambda: places(seen_by) == active, SETTLE_SECONDS, f"{seen_by.name}: {what}")


def test_change_that_was_cut_is_finished(make_cluster: MakeCluster) -> None:
    """After each step: start whoever was killed, run the same command again, and all is well."""
    cluster = make_cluster(3)
    mgt3 = cluster["mgt3"]
    with killer_of(cluster) as killer:
        for number, step in enumerate(STEPS):
            address = THERE if number % 2 == 0 else HERE
            _cut_once(cluster, mgt3, killer, step, address)


def _cut_once(cluster: Cluster, mgt3: Server, killer: Killer, step: Step, address: str) -> None:
    servers = list(cluster.servers.values())
    for server in servers:
        cluster.wait_until_all_active(server, servers, SETTLE_SECONDS)
    killer.wanted, killer.killed = step, None
    mgt3.configure(address=address)
    mgt3.run("readdress")
    wait_until(lambda: killer.killed is not None, SETTLE_SECONDS, f"somebody reaches {step.value}")
    wait_until(lambda: not all(s.is_running for s in servers), SETTLE_SECONDS, "its end")
    victim = next(s for s in servers if not s.is_running)
    assert (victim is mgt3) == (step.side == "mover")
    victim.end()
    victim.start()
    again = mgt3.run("readdress")
    assert again.code == 0, (step, again.err)
    wanted = {"mgt1": "127.0.0.1", "mgt2": "127.0.0.2", "mgt3": address}
    for server in servers:
        wait_until_placed(server, wanted, f"all active after a cut at {step.value}")
    listed = mgt3.etcdctl("member", "list").out
    assert listed.count("started") == 3
    assert f"https://{address}:{mgt3.peer_port}" in listed
