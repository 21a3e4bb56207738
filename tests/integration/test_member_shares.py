"""One member, whatever it sends, leaves the others served, and the daemon's memory bounded.

mgt2 is the hostile one: it has a good certificate and sends what its role allows; ``outsider`` is
one without a vote, which alone may use the relay. "The others" are asked as mgt1, by its
certificate. What a door promises in each case: ``test_door_shares.py``.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from collective.etcd.requests import encode
from collective.model.view import PREFIX
from collective.protocol import messages
from tests.fuzz.crowd import allow_sockets
from tests.fuzz.hostile_server import join_without_vote
from tests.fuzz.target import Target
from tests.harness import Cluster, Server
from tests.harness.doors import http_over
from tests.harness.trouble import settle
from tools.etcd_versions import etcds_in_use

# The door does not know which etcd is behind it.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize(
        "etcd", etcds_in_use()[-1:], indirect=True, ids=lambda e: e.version_text
    ),
]

MakeCluster = Callable[..., Cluster]

FUTURE = 10**15
#: An answer to others, against the median without the hostile one: far from what waits a turn.
QUICK = 40.0
#: Of the daemon, at its highest: bodies, what JSON makes of them, threads and connections.
GROWTH = 150 << 20
BODY = 3 << 20


class Hostile:
    """A daemon in a collective of two, the other member of which means harm."""

    def __init__(self, cluster: Cluster) -> None:
        self.server = cluster["mgt1"]
        self.itself = Target(self.server, cluster["mgt2"], ())
        self._other = Target(self.server, self.server, ())
        self.sockets = ExitStack()
        self.baseline = statistics.median(self._other.ask_as_member() for _ in range(20))

    def slowest_of_others(self, times: int = 10) -> float:
        """Return how long the others waited at most, in baselines."""
        return max(self.waits_of_others(times))

    def waits_of_others(self, times: int = 10) -> list[float]:
        """Return how long the others waited, in baselines, in the order of that."""
        waits = sorted(self._other.ask_as_member() / self.baseline for _ in range(times))
        print(f"slowest answer to others: {waits[-1]:.1f} x {self.baseline * 1000:.1f} ms")
        return waits

    def send(self, path: str, body: bytes) -> http.client.HTTPConnection:
        """Send a request on a connection of its own."""
        connection = http_over(self.sockets.enter_context(self.itself.connect(member=True)))
        connection.request("POST", path, body)
        return connection

    def forget_peak(self) -> int:
        """Let the highest memory count anew; return what there is now."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")
        return self.itself.memory()

    def peak(self) -> int:
        """Return the daemon's highest resident memory since then: proc(5), VmHWM."""
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@pytest.fixture
def hostile(make_cluster: MakeCluster) -> Hostile:
    cluster = make_cluster(2)
    settle(cluster["mgt2"])
    return Hostile(cluster)


@pytest.fixture
def outsider(make_cluster: MakeCluster) -> Hostile:
    cluster = make_cluster(1)
    (mgt2,) = cluster.add_running(1)
    join_without_vote(mgt2, cluster["mgt1"])
    return Hostile(cluster)


def sync(revision: int) -> bytes:
    return json.dumps({"format": messages.FORMAT, "revision": revision}).encode()


def newest(server: Server) -> int:
    """Raise the store's revision beyond what the records have; return it."""
    written = json.loads(server.etcdctl("put", "others", "x", "-w", "json").out)
    revision: int = written["header"]["revision"]
    return revision


def test_sync_with_a_revision_that_does_not_exist_is_refused_at_once(hostile: Hostile) -> None:
    """It names what was asked for and what there is; nobody waits for it."""
    with hostile.sockets:
        sent = [hostile.send(messages.SYNC, sync(FUTURE)) for _ in range(64)]
        assert hostile.slowest_of_others() < QUICK
        answers = [(r.status, r.read().decode()) for r in (c.getresponse() for c in sent)]
    assert {status for status, _ in answers} == {400}
    assert all(f"{FUTURE}, the newest is" in text for _, text in answers)


def test_member_whose_calls_all_wait_leaves_the_others_served(hostile: Hostile) -> None:
    """More calls than there are places, each of which waits for something that may come."""
    allow_sockets(1200)
    with hostile.sockets:
        body = sync(newest(hostile.server))
        for _ in range(540):
            hostile.send(messages.SYNC, body)
        assert hostile.slowest_of_others() < QUICK


def test_large_bodies_of_one_member_take_a_bounded_part(outsider: Hostile) -> None:
    """Of lists, each of which takes twenty times its octets, and of text, four times as wide."""
    lists = b'{"format":1,"a":[' + b"[]," * ((BODY - 40) // 3) + b"0]}"
    text = '{"format":1,"a":"' + "x" * (BODY - 40) + '\N{GRINNING FACE}"}'
    for body in (lists, text.encode()):
        with outsider.sockets, ThreadPoolExecutor(48) as pool:
            before = outsider.forget_peak()
            sent = pool.map(lambda _: answered(outsider, body), range(48))  # noqa: B023
            usual = statistics.median(outsider.waits_of_others())
            statuses = Counter(sent)
            grown = outsider.peak() - before
            print(f"48 bodies: {statuses}, {grown / 2**20:.1f} MiB")
            assert grown < GROWTH
            assert statuses[403] == 0, "or the bodies were not looked at"
            # This process has its hands full with 48 bodies: one answer may be taken late.
            assert usual < QUICK * 2


def answered(outsider: Hostile, body: bytes) -> int:
    try:
        response = outsider.send(messages.ETCD + "/kv/range", body).getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return 0


def test_connections_that_have_been_answered_keep_no_bodies(hostile: Hostile) -> None:
    """What a member once sent is not kept for as long as it stays."""
    body = b'{"format":1,"a":"' + b"x" * (BODY - 40) + b'"}'
    with hostile.sockets:
        before = hostile.itself.memory()
        for _ in range(120):
            hostile.send(messages.SYNC, body).getresponse().read()
        grown = hostile.itself.memory() - before
        print(f"120 connections: {grown / 2**20:.1f} MiB")
        assert grown < GROWTH / 2
        assert hostile.slowest_of_others() < QUICK


def test_watches_of_one_member_leave_the_others_served(outsider: Hostile) -> None:
    """More than one member has places for; the rest are refused."""
    allow_sockets(1200)
    watch = {"create_request": {"key": encode(PREFIX)}}
    body = json.dumps({"format": messages.FORMAT, "body": watch}).encode()
    with outsider.sockets:
        before = outsider.forget_peak()
        statuses: Counter[int] = Counter()
        for _ in range(150):
            connection = outsider.send(messages.ETCD + "/watch", body)
            statuses[connection.getresponse().status] += 1
        assert outsider.slowest_of_others() < QUICK
        print(f"watches: {statuses}, {(outsider.peak() - before) / 2**20:.1f} MiB")
        assert 10 < statuses[200] <= 16, "its own daemon has one or two of its places"
        assert statuses[200] + statuses[409] == 150
        assert outsider.peak() - before < GROWTH


def test_member_that_asks_for_many_hand_overs_is_refused_most(hostile: Hostile) -> None:
    """Two at once, then one in five seconds; a refusal is a sentence."""
    peer = {"format": messages.FORMAT}
    before, began = term(hostile.server), time.monotonic()
    statuses: Counter[int] = Counter()
    with hostile.sockets:
        for _ in range(30):
            response = hostile.send(messages.HAND_OVER, json.dumps(peer).encode()).getresponse()
            text = response.read().decode()
            statuses[response.status] += 1
            if response.status != 200:
                assert "handed over just now" in text
    seconds = time.monotonic() - began
    print(f"{statuses} in {seconds:.1f} s, {term(hostile.server) - before} terms")
    assert statuses[409] > 0
    assert 2 <= statuses[200] <= 3 + seconds / 5
    assert term(hostile.server) - before <= statuses[200]


def term(server: Server) -> int:
    (shown,) = json.loads(server.etcdctl("endpoint", "status", "-w", "json").out)
    found: int = shown["Status"]["raftTerm"]
    return found
