"""One real etcd, run and asked the way the daemon does it, once for each version there is."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from collective.daemon.member import credentials
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.errors import EtcdError
from collective.etcd.arguments import Files, Timing, etcd_arguments
from collective.etcd.binary import Etcd
from collective.etcd.client import etcd3gw_client
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.etcd.process import EtcdProcess
from collective.etcd.record_store import RecordStore
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
    store: RecordStore
    removed: threading.Event

    @property
    def arguments(self) -> list[str]:
        """What etcd is started with."""
        pki = Path(self.layout.pki)
        files = Files(
            self.layout.etcd_data,
            str(pki / "server.pem"),
            str(pki / "trusted.pem"),
            str(pki / "crl.der"),
        )
        return etcd_arguments(self.plan, files, Timing(50, 500), [self.plan.address])

    @property
    def pid(self) -> int:
        """The process id of etcd, which runs."""
        pid = self.process.pid
        assert pid is not None
        return pid

    @property
    def credentials(self) -> Credentials:
        """Its folder of keys."""
        return Credentials(Path(self.layout.pki))

    def trust(self, *members: Member) -> None:
        """Have etcd, from its next start on, let in these members and itself."""
        found = [member.credentials.identity for member in (self, *members)]
        EtcdTrust(self.credentials).write({c.fingerprint: c for c in found})

    def start(self) -> None:
        """Start etcd and wait until it answers."""
        self.process.start(self.arguments)
        self.wait()

    def wait(self, other_than: int | None = None) -> None:
        """Wait until it answers, with another process id than this one."""
        wait_until(
            lambda: self.process.pid not in (None, other_than), START_SECONDS, "a process of etcd"
        )
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        """Wait until whatever etcd runs here answers."""

        def answers() -> bool:
            try:
                with within(1.0):
                    self.gateway.range("x")
            except EtcdError:
                return False
            return True

        wait_until(answers, START_SECONDS, f"an answer of etcd ({self.process.failure})")


@contextmanager
def new_member(binary: Etcd, folder: Path, name: str, address: str) -> Iterator[Member]:
    """Make a member that trusts itself alone, whose etcd was not started yet."""
    layout = Layout.from_environment({"COLLECTIVE_ROOT": str(folder)})
    Path(layout.data).mkdir()
    pki = Path(layout.pki)
    credentials.prepare_fresh(pki, name, certified_addresses([address]))
    credentials.install(pki)
    ports = claim_ports([address])
    plan = Plan(
        mode=Mode.MEMBER,
        name=name,
        address=address,
        door_port=ports.door,
        peer_port=ports.peer,
        cluster_token=secrets.token_hex(16),
        initial_cluster=f"{name}={peer_url(address, ports.peer)}",
        existing=False,
    )
    removed = threading.Event()
    process = EtcdProcess(
        binary, Path(layout.etcd_run), Path(layout.etcd_lock), lambda *_: removed.set()
    )
    gateway = Gateway(Path(layout.etcd_socket), etcd3gw_client)
    try:
        made = Member(layout, plan, binary, process, gateway, RecordStore(gateway), removed)
        made.trust()
        yield made
    finally:
        gateway.close()
        process.close(2.0)
        ports.release()


def enrolled(joiner: Member, member: Member) -> Member:
    """Return the joiner as a learner of the cluster of another; each trusts both."""
    pid, name = member.pid, joiner.plan.name
    joiner.trust(member)
    member.process.stop(10.0)
    member.trust(joiner)
    member.process.start(member.arguments)
    member.wait(other_than=pid)
    url = peer_url(joiner.plan.address, joiner.plan.peer_port)
    member.gateway.add_learner(url)
    plan = replace(
        joiner.plan,
        existing=True,
        cluster_token=member.plan.cluster_token,
        initial_cluster=f"{member.plan.initial_cluster},{name}={url}",
    )
    return replace(joiner, plan=plan)


@pytest.fixture
def idle(etcd: etcd_versions.Etcd) -> Iterator[Member]:
    """A member whose etcd was not started yet."""
    binary = Etcd(etcd.etcd, etcd.version)
    with temporary_folder() as folder, new_member(binary, folder, "mgt1", ADDRESS) as made:
        yield made


@pytest.fixture
def stranger(etcd: etcd_versions.Etcd) -> Iterator[Member]:
    """Another such member, which has nothing to do with the first."""
    binary = Etcd(etcd.etcd, etcd.version)
    with temporary_folder() as folder, new_member(binary, folder, "mgt2", "127.0.0.3") as made:
        yield made


@pytest.fixture
def member(idle: Member) -> Member:
    """A member whose etcd runs and answers."""
    idle.start()
    return idle
