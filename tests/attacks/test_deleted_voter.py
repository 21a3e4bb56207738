"""Promise P4: a deleted voter that kept its keys, its data and its software gets nowhere.

It tries from the moment at which ``delete`` returns: with the certificate that it has, with all
that its keys can make, in the name of others, at the etcd and at the daemon of every member.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.attacks import raft
from tests.attacks.hostile import (
    MEMBERS,
    Kept,
    Siege,
    ask,
    at_door,
    at_peer_port,
    held_for,
)
from tests.attacks.sponsor import FalseSponsor
from tests.harness import Cluster, Server
from tests.harness.cluster import states
from tests.harness.health import etcd_members, records
from tests.harness.processes import spawn
from tests.harness.trouble import settle

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
ROUNDS = 3
STARTING = 60.0
#: For so long a server that came back first is watched, with nobody there but a deleted one.
ALONE_SECONDS = 4.0


class ExVoter:
    """A voter, mgt4, that is to be deleted, and all that it has kept."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Copy what it has, while it is a member.

        Args:
            cluster: of four voters that run.
            folder: for its keys.
        """
        self.server = cluster["mgt4"]
        self.other = "mgt1"
        settle(self.server)
        mgt1 = cluster["mgt1"]
        self.seen = raft.Cluster.seen_by(mgt1)
        self.entry = raft.put(MEMBERS + "mgt4", records(mgt1)[MEMBERS + "mgt4"])
        self.kept = Kept.of(self.server, folder, as_name=self.other)
        assert at_peer_port(mgt1, self.kept.pem).is_good, "or these tests prove nothing"
        assert at_door(mgt1, self.kept.pem, "GET", "/v1/status").is_good, "nor here"

    def siege(self, *servers: Server, doors: tuple[str, ...] | None = None) -> Siege:
        """Try all that it has, at these servers, to write itself a record and to be served."""
        return Siege(servers, self.kept.all, self.seen, self.entry, doors)

    def passing_for(self, server: Server) -> AbstractContextManager[FalseSponsor]:
        """Stand at the door of another, which is off, and agree with whatever is asked."""
        word = "as another" if server.name == self.other else "kept"
        return FalseSponsor(server, self.kept.all[word], (), ()).standing()

    def append_to(self, server: Server) -> set[int | None]:
        """Send an etcd entries as its leader, after whatever may be its last; return statuses."""
        place = (server.address, server.peer_port)
        statuses = set()
        headers = self.seen.headers("mgt4", server.name)
        for index in range(self.seen.index, self.seen.index + 8):
            data = raft.put("attack", "appended")
            message = self.seen.append("mgt4", server.name, index, data)
            answer = ask(place, self.kept.pem, "POST", raft.PATH, message, headers)
            statuses.add(answer.status)
        return statuses


def assert_out(members: list[Server]) -> None:
    """See that these are the members, as each has it recorded and as its etcd has it."""
    names = {server.name for server in members}
    for server in members:
        stored = {key for key in records(server) if key.startswith(MEMBERS)}
        assert stored == {MEMBERS + name for name in names}, server
        assert list(etcd_members(server).values()) == [False] * len(members)


def write_through(servers: list[Server]) -> None:
    """Write through each etcd: what was proposed to it before is applied then."""
    for server in servers:
        server.etcdctl("put", "written", server.name, timeout=30.0)


def test_deleted_voter_gets_nowhere_from_the_first_moment(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """All others are there."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = cluster.servers.values()
    out = ExVoter(cluster, tmp_path / "kept")
    rest = [mgt1, mgt2, mgt3]
    siege = out.siege(*rest)

    mgt1.run("delete", "--force", "mgt4", check=True)
    with siege:
        mgt4.kill()
        siege.wait_for_rounds(ROUNDS)
        write_through(rest)
        assert_out(rest)

    assert siege.opened == set()
    cluster.wait_until_all_active(mgt1, rest)


def test_deleted_voter_gets_nowhere_at_a_server_that_was_off_and_returns(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """That one knew it as a member when it fell silent, and hears of the deletion first."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = cluster.servers.values()
    rest = [mgt1, mgt2, mgt3]
    out = ExVoter(cluster, tmp_path / "kept")
    siege = out.siege(*rest)
    mgt2.kill()

    mgt1.run("delete", "--force", "mgt4", check=True)
    with siege:
        mgt4.kill()
        siege.wait_for_rounds(ROUNDS)
        write_through([mgt1, mgt3])
        assert_out_while_one_is_off(mgt1, mgt3)
        mgt2.launch()
        mgt2.wait_for_quorum(STARTING)
        siege.wait_for_rounds(ROUNDS)
        write_through(rest)
        assert_out(rest)

    assert siege.opened == set()
    cluster.wait_until_all_active(mgt1, rest)


def assert_out_while_one_is_off(*members: Server) -> None:
    """See that mgt4 is no member, where one of the members is off."""
    for server in members:
        assert MEMBERS + "mgt4" not in records(server), server
        assert len(etcd_members(server)) == 3


def test_server_that_returns_first_serves_nobody_in_the_company_of_a_deleted_voter(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """Nobody tells it of the deletion: its own data says that the deleted one votes.

    That one runs its old daemon and its old etcd, stands at the doors of those that are off, and
    sends entries as if it led.
    """
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = cluster.servers.values()
    rest = [mgt1, mgt2, mgt3]
    out = ExVoter(cluster, tmp_path / "kept")
    with hostile_copy(mgt4, cluster.root / "k") as start_own_etcd:
        mgt2.kill()
        mgt1.run("delete", "--force", "mgt4", check=True)
        for server in (mgt4, mgt1, mgt3):
            server.kill()
        put_back(mgt4, cluster.root / "k")
        mgt4.launch()
        start_own_etcd()
        siege = out.siege(mgt2, doors=())
        with siege:
            with out.passing_for(mgt1), out.passing_for(mgt3):
                mgt2.launch()
                mgt2.wait_until_ready()
                assert held_for(ALONE_SECONDS, lambda: serves_nobody(out, mgt2)), told(out, mgt2)
                siege.wait_for_rounds(ROUNDS)
            assert siege.opened == set()
            for server in (mgt1, mgt3):
                server.launch()
            for server in rest:
                server.wait_for_quorum(STARTING)
            siege.doors.add("mgt2")
            siege.wait_for_rounds(ROUNDS)
            with out.siege(mgt1, mgt3) as others:
                others.wait_for_rounds(ROUNDS)
            write_through(rest)
            assert_out(rest)
        assert siege.opened | others.opened == set()
        assert not any("attack" in records(server) for server in rest)
    cluster.wait_until_all_active(mgt1, rest)


def serves_nobody(out: ExVoter, server: Server) -> bool:
    """Have the deleted voter send what a leader would; tell whether the server stays silent."""
    taken = out.append_to(server) - {None}
    shown = server.ask_show()
    # At once: an etcd without a quorum, or none at all, answers neither.
    options = ("--command-timeout=300ms", "--dial-timeout=300ms")
    written = server.etcdctl("put", "alone", "1", *options, check=False)
    read = server.etcdctl("get", "attack", "--consistency=s", *options, check=False)
    quorum = bool(shown and shown["quorum"])
    return not (taken or quorum or written.code == 0 or "appended" in read.out)


def told(out: ExVoter, server: Server) -> str:
    """Return what a server shows, and what it takes, for the report of a failure."""
    read = server.etcdctl("get", "attack", "--consistency=s", "--command-timeout=1s", check=False)
    shown, taken = states(server), out.append_to(server)
    return f"{server.name} serves: it shows {shown}, answers {taken} to raft, and has {read.out!r}"


@contextmanager
def hostile_copy(server: Server, folder: Path) -> Iterator[Callable[[], None]]:
    """Copy all that a running voter has; yield what starts an etcd on it, as it runs now."""
    pid = server.etcd_pid
    assert pid is not None
    command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
    server.pause()
    shutil.copytree(server.layout.data, folder, ignore=shutil.ignore_patterns("*.lock"))
    server.resume()
    own = folder.with_name(folder.name + "etcd")
    shutil.copytree(folder, own)
    arguments = [word.replace(server.layout.data, str(own)) for word in command]
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(spawn(arguments, own, {}, own / "log", False))

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def put_back(server: Server, folder: Path) -> None:
    """Give a server back the folders that it had, as if it had heard of nothing."""
    shutil.rmtree(server.layout.data)
    shutil.copytree(folder, server.layout.data)
