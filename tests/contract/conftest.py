"""One real etcd, run and asked the way the daemon does it, once for each version there is."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from collective.daemon import credentials
from collective.errors import EtcdError
from collective.etcd.arguments import Files, Timing, etcd_arguments
from collective.etcd.binary import Etcd
from collective.etcd.gateway import Gateway, within
from collective.etcd.process import EtcdProcess
from collective.etcd.store import Store
from collective.model.layout import Layout
from collective.model.names import certified_addresses, peer_url
from collective.model.plan import Mode, Plan
from tests.harness import temporary_folder, wait_until
from tests.harness.ports import claim_ports
from tools import etcd_versions

ADDRESS = "127.0.0.2"
START_SECONDS = 20.0


@dataclass(frozen=True)
class Member:
    """A one-member etcd and all that belongs to it.

    Attributes:
        layout: its folders.
        plan: which member it is.
        binary: what it runs.
        process: its supervision.
        gateway, store: connected to it.
        removed: set when it ended with code 0 by itself.
    """

    layout: Layout
    plan: Plan
    binary: Etcd
    process: EtcdProcess
    gateway: Gateway
    store: Store
    removed: threading.Event

    @property
    def arguments(self) -> list[str]:
        """What etcd is started with."""
        pki = Path(self.layout.pki)
        files = Files(
            self.layout.etcd_data,
            str(pki / "leaf.pem"),
            str(pki / "ca.pem"),
            str(pki / "crl.der"),
        )
        return etcd_arguments(self.plan, files, Timing(50, 500), [self.plan.address])

    @property
    def pid(self) -> int:
        """The process id of etcd, which runs."""
        pid = self.process.pid
        assert pid is not None
        return pid

    def start(self) -> None:
        """Start etcd and wait until it answers."""
        self.process.start(self.arguments)
        self.wait()

    def wait(self, other_than: int | None = None) -> None:
        """Wait until it answers, with another process id than this one."""

        def answers() -> bool:
            if self.process.pid in (None, other_than):
                return False
            try:
                with within(1.0):
                    self.gateway.range("x")
            except EtcdError:
                return False
            return True

        wait_until(answers, START_SECONDS, f"an answer of etcd ({self.process.failure})")


@pytest.fixture
def idle(etcd: etcd_versions.Etcd) -> Iterator[Member]:
    """A member whose etcd was not started yet."""
    with temporary_folder() as folder:
        layout = Layout.from_environment({"COLLECTIVE_ROOT": str(folder)})
        Path(layout.data).mkdir()
        pki = Path(layout.pki)
        now = datetime.now(timezone.utc)
        credentials.prepare_fresh(pki, "mgt1", certified_addresses([ADDRESS]), now)
        credentials.install(pki)
        ports = claim_ports([ADDRESS])
        plan = Plan(
            mode=Mode.MEMBER,
            name="mgt1",
            address=ADDRESS,
            door_port=ports.door,
            peer_port=ports.peer,
            cluster_token=secrets.token_hex(16),
            initial_cluster=f"mgt1={peer_url(ADDRESS, ports.peer)}",
            existing=False,
        )
        binary = Etcd(etcd.etcd, etcd.version)
        removed = threading.Event()
        process = EtcdProcess(
            binary, Path(layout.etcd_run), Path(layout.etcd_lock), lambda *_: removed.set()
        )
        gateway = Gateway(Path(layout.etcd_socket))
        member = Member(layout, plan, binary, process, gateway, Store(gateway), removed)
        try:
            yield member
        finally:
            gateway.close()
            process.close(2.0)
            ports.release()


@pytest.fixture
def member(idle: Member) -> Member:
    """A member whose etcd runs and answers."""
    idle.start()
    return replace(idle)
