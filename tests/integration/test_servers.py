"""Real servers that stop, die, hang and come back: what remains, and what returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import DaemonError, QuorumError, RefusedError
from tests.harness import Cluster, wait_until
from tests.harness.cluster import states

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 10.0


def test_clean_stop_of_leader_hands_leadership_over(make_cluster: MakeCluster) -> None:
    """When the daemon has ended, another server leads already, by one vote and no timeout."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    term = term_of(cluster, "mgt2")
    assert mgt1.stop() == 0
    assert mgt1.etcd_pid is None
    document = mgt2.show_json()
    assert document["quorum"] is True
    assert document["leader"] in ("mgt2", "mgt3")
    assert term_of(cluster, "mgt2") == term + 1
    assert mgt3.show_json()["leader"] == document["leader"]


def test_killed_leader_is_replaced_and_comes_back(make_cluster: MakeCluster) -> None:
    """kill -9 of the leader: the others go on, show it as offline, and take it back."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt1.kill()
    leader = cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    other = "mgt3" if leader is mgt2 else "mgt2"
    assert mgt2.run("show", check=True).lines == [
        "Quorum: True",
        f"Leader: {leader.name}",
        "Active collective members:",
        f"  {other}",
        "Offline collective members:",
        "  mgt1",
        "No more servers may be lost.",
    ]
    mgt1.start()
    cluster.wait_until_all_active(mgt1, cluster.servers.values())
    assert cluster.wait_for_leader() is leader


def test_quorum_lost_is_never_claimed_and_comes_back(make_cluster: MakeCluster) -> None:
    """With two of three dead, show says so and ends with 3; one server back is enough."""
    mgt1, mgt2, mgt3 = make_cluster(3).servers.values()
    mgt1.kill()
    mgt2.kill()
    result = mgt3.run("show")
    assert result.code == QuorumError.exit_code
    assert result.lines[:2] == ["Quorum: False", "Leader: unknown"]
    assert "  mgt1" in result.lines
    assert "  mgt2" in result.lines
    assert mgt3.run("invite", "mgt4").code == QuorumError.exit_code
    mgt1.start()
    mgt3.wait_for_quorum()


@pytest.mark.peers(27)
def test_server_that_returns_alone_hides_no_member(make_cluster: MakeCluster) -> None:
    """The first one up after a power cut lists the others as offline, and claims nothing (P8).

    An etcd that starts without a quorum answers nobody, not even a read that is not linearizable.
    """
    cluster = make_cluster(3)
    for server in cluster.servers.values():
        server.kill()
    mgt2 = cluster["mgt2"]
    mgt2.start()
    result = mgt2.run("show")
    assert result.code == QuorumError.exit_code
    assert result.lines[:2] == ["Quorum: False", "Leader: unknown"]
    listed = [line.strip() for line in result.lines if line.startswith("  ")]
    assert set(listed) == {"mgt1", "mgt2", "mgt3"}


@pytest.mark.peers(25)
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_all_servers_return_in_another_order(make_cluster: MakeCluster, how: str) -> None:
    """A collective that was down comes back by itself, with the same members."""
    cluster = make_cluster(3)
    before = members(cluster, "mgt1")
    for server in cluster.servers.values():
        if how == "stopped":
            server.stop()
        else:
            server.kill()
    for name in ("mgt3", "mgt1", "mgt2"):
        cluster[name].start()
    for server in cluster.servers.values():
        cluster.wait_until_all_active(server, cluster.servers.values())
    assert members(cluster, "mgt2") == before


def test_restarted_member_takes_part_again(make_cluster: MakeCluster) -> None:
    """A restart changes neither leader nor members."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt2.restart()
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])


def test_second_daemon_on_same_folders_is_refused(cluster: Cluster) -> None:
    """The first one goes on as if nothing had happened."""
    (mgt1,) = cluster.add_running(1)
    pid, etcd_pid = mgt1.pid, mgt1.etcd_pid
    result = mgt1.run_daemon()
    assert result.code == RefusedError.exit_code
    assert "collectived: error: " in result.err
    assert (mgt1.pid, mgt1.etcd_pid) == (pid, etcd_pid)
    assert mgt1.run("show").code == 0


def test_killed_etcd_is_started_again(cluster: Cluster) -> None:
    """The daemon survives its etcd, and brings it back with all its data."""
    (mgt1,) = cluster.add_running(1)
    pid = mgt1.pid
    killed = mgt1.kill_etcd()
    mgt1.wait_for_quorum()
    assert mgt1.pid == pid
    assert mgt1.etcd_pid not in (None, killed)


def test_etcd_dies_with_its_daemon(cluster: Cluster) -> None:
    """kill -9 of the daemon leaves no etcd behind, and the next start finds all as it was."""
    (mgt1,) = cluster.add_running(1)
    etcd_pid = mgt1.etcd_pid
    mgt1.kill()
    assert not Path(f"/proc/{etcd_pid}/cwd").exists()
    mgt1.start()
    assert mgt1.wait_for_quorum()["leader"] == "mgt1"


def test_paused_leader_is_replaced_and_taken_back(make_cluster: MakeCluster) -> None:
    """A leader that hangs answers nobody: it is shown as offline until it goes on."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt1.pause()
    leader = cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    wait_until(lambda: states(mgt2).get("mgt1") == "offline", SECONDS, "mgt1 is seen as offline")
    mgt1.resume()
    cluster.wait_until_all_active(mgt1, cluster.servers.values())
    assert mgt1.show_json()["leader"] == leader.name


def test_commands_without_daemon_say_so(cluster: Cluster) -> None:
    """Never started and stopped are told alike: one error, one hint, and their own exit status."""
    mgt1 = cluster.add()
    never = mgt1.run("show")
    mgt1.start()
    mgt1.stop()
    for result in (never, mgt1.run("show"), mgt1.run("invite", "mgt2"), mgt1.run("delete")):
        assert (result.code, result.out) == (DaemonError.exit_code, "")
        assert [line.split(":")[1] for line in result.err.splitlines()] == [" error", " hint"]


def members(cluster: Cluster, name: str) -> dict[str, str]:
    return {member["name"]: member["id"] for member in cluster[name].show_json()["members"]}


def term_of(cluster: Cluster, name: str) -> int:
    found = {m["name"]: m["raft_term"] for m in cluster[name].show_json()["members"]}
    return int(found[name])
