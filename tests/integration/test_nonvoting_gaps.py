"""How long a server that does not vote is without reads, writes and its watch when a voter goes.

The bar is 1 s, as the median of ten on a quiet machine; the bound here only finds what is broken.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from collective.daemon.member.credentials import Credentials
from collective.daemon.nonvoting.remote_etcd import RemoteGateway
from collective.errors import CollectiveError
from collective.etcd.deadline import within
from collective.etcd.requests import PutRequest
from collective.model.keyspace import STORE
from collective.model.records import MemberRecord, Role
from collective.protocol.peer import PeerClient, anybody
from tests.harness import Cluster, Server, wait_until
from tests.harness.short_run import is_full

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
BOUND_SECONDS = 8.0
KEYS = STORE + "test/"
_PAUSE_SECONDS = 0.01
_CALL_SECONDS = 5.0
_SETTLE_SECONDS = 1.0


@dataclass
class Client:
    """What a server that does not vote does, over and over, and when it worked.

    Attributes:
        remote: its calls.
        times: moments (monotonic) of what succeeded, by kind.
    """

    remote: RemoteGateway
    times: dict[str, list[float]] = field(
        default_factory=lambda: {"read": [], "write": [], "watch": []}
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin, with a thread for each kind."""
        for work in (self._read, self._write, self._watch):
            threading.Thread(target=self._repeat, args=(work,), daemon=True).start()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self.stopped.wait(_PAUSE_SECONDS):
            try:
                with within(_CALL_SECONDS):
                    work()
            except CollectiveError:
                continue

    def _read(self) -> None:
        self.remote.range(KEYS)
        self.times["read"].append(time.monotonic())

    def _write(self) -> None:
        self.remote.transact({}, [PutRequest(KEYS + "n", str(time.monotonic()))])
        self.times["write"].append(time.monotonic())

    def _watch(self) -> None:
        revision, _ = self.remote.range(KEYS, serializable=True)
        for result in self.remote.watch(KEYS, revision + 1, 60.0):
            if result.get("events"):
                self.times["watch"].append(time.monotonic())
            if self.stopped.is_set():
                return

    def gap(self, kind: str, since: float, until: float) -> float:
        """Return the longest time without a success, in seconds."""
        inside = [moment for moment in self.times[kind] if since <= moment <= until]
        moments = [since, *inside, until]
        return max(b - a for a, b in pairwise(moments))


@contextmanager
def client_of(server: Server, voters: list[Server]) -> Iterator[Client]:
    """Use etcd as that server does, with its certificate."""
    context = Credentials(Path(server.layout.pki)).client_context
    records = [
        MemberRecord(v.name, "", Role.VOTER, v.address, v.port, v.peer_port, (), 0.0)
        for v in voters
    ]
    remote = RemoteGateway(
        lambda: records, lambda m: PeerClient(m.address, m.door_port, context, anybody)
    )
    client = Client(remote)
    client.start()
    try:
        yield client
    finally:
        client.stopped.set()
        remote.close()


def lose(client: Client, victim: Server, how: str, seconds: float) -> dict[str, float]:
    """Kill or pause the voter that is asked, and return the gaps."""
    client.remote._chosen = victim.name
    for peer in list(client.remote._busy):
        peer.abort()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > _SETTLE_SECONDS, 10.0, "it settles")
    begun = time.monotonic()
    if how == "kill":
        victim.kill()
    else:
        victim.pause()
    wait_until(lambda: time.monotonic() - begun > seconds, 60.0, "the others go on")
    ended = time.monotonic()
    if how == "kill":
        victim.start()
    else:
        victim.resume()
    return {kind: client.gap(kind, begun, ended) for kind in client.times}


def run(cluster: Cluster, how: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Lose one voter after the other, and return the gaps of each round."""
    voters = [cluster[f"mgt{n}"] for n in (1, 2, 3)]
    gaps: dict[str, list[float]] = {"read": [], "write": [], "watch": []}
    with client_of(cluster["mgt4"], voters) as client:
        for number in range(rounds):
            leader = cluster.wait_for_leader()
            followers = [server for server in voters if server is not leader]
            for kind, gap in lose(client, followers[number % 2], how, seconds).items():
                gaps[kind].append(gap)
            cluster.wait_until_all_active(cluster["mgt4"], cluster.servers.values(), 60.0)
    return gaps


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_reads_writes_and_watch_go_on_at_another_voter(
    make_cluster: MakeCluster, how: str
) -> None:
    """The voter that is used is lost, and another one is not slow to be found."""
    cluster = make_cluster(3)
    (mgt4,) = cluster.add_running(1)
    token = cluster["mgt1"].run("invite", "-n", "mgt4", check=True).out
    mgt4.run("join", cluster["mgt2"].door_name, "-i", "-", input=token, check=True)
    gaps = run(cluster, how, 2 if is_full() else 1, 10.0)
    assert {kind: statistics.median(found) < BOUND_SECONDS for kind, found in gaps.items()} == {
        "read": True,
        "write": True,
        "watch": True,
    }, gaps
