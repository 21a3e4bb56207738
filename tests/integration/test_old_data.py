"""Data that is older than it was, or another's: recognised before etcd starts, and left alone.

And the other way round: no kill -9 and no power cut is taken for old data.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collective.errors import LostError
from collective.etcd.wal import read_log_end
from tests.harness import Cluster, HarnessError, Server, wait_until
from tests.harness.short_run import is_full
from tests.harness.trouble import assert_explained, settle

pytestmark = pytest.mark.integration

SECONDS = 20.0
KILLS = 30 if is_full() else 12


def write(server: Server, count: int = 20) -> None:
    for number in range(count):
        server.etcdctl("put", f"test/{number}", "x" * 100)


def mode(server: Server) -> str:
    document = server.ask_show()
    return str(document["mode"]) if document else ""


def assert_lost(server: Server, *words: str) -> None:
    wait_until(lambda: mode(server) == "lost", SECONDS, f"{server.name} knows that it is lost")
    shown = server.run("show")
    assert shown.code == LostError.exit_code, shown.err
    assert_explained(shown.err, *words)
    assert server.etcd_pid is None


def index_of(server: Server) -> int:
    """Return how far the log of a server that is stopped goes."""
    end = read_log_end(Path(server.layout.etcd_log))
    assert end is not None
    return end.index


def swap(path: Path, other: Path) -> None:
    """Put a copy of a folder in the place of another, which is kept beside it."""
    path.rename(path.with_name(path.name + "-newer"))
    shutil.copytree(other, path)


def swap_back(path: Path) -> None:
    shutil.rmtree(path)
    path.with_name(path.name + "-newer").rename(path)


def test_peers_8_server_on_an_old_copy_of_its_data_rests_until_the_new_one_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    """It has forgotten writes that it acknowledged; the numbers are told, the data is left."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    data, copy = Path(mgt3.layout.etcd_data), tmp_path / "copy"
    shutil.copytree(data, copy)
    old = index_of(mgt3)
    mgt3.start()
    cluster.wait_until_all_active(mgt3, servers)
    write(mgt1)
    mgt3.stop()
    swap(data, copy)
    # Alone, with nobody to ask: its own memory is enough.
    for other in (mgt1, mgt2):
        other.kill()
    mgt3.start()
    assert_lost(mgt3, f"its log ends at entry {old} ", "mgt3 remembers entry")
    assert index_of(mgt3) == old
    mgt3.stop()
    swap_back(data)
    cluster.start_all(servers)
    for server in servers:
        cluster.wait_until_all_active(server, servers)


@pytest.mark.parametrize("ended", ["stopped", "killed"])
def test_peers_8_server_on_an_old_image_of_its_disk_is_told_by_the_others(
    cluster: Cluster, tmp_path: Path, ended: str
) -> None:
    """Its own memory is as old as its data; whichever other member answers knows better."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    data, copy = Path(mgt3.layout.data), tmp_path / "copy"
    shutil.copytree(data, copy)
    mgt3.start()
    cluster.wait_until_all_active(mgt3, servers)
    write(mgt1)
    behind = index_of(mgt1)
    wait_until(lambda: remembered(mgt2, mgt3) >= behind, SECONDS, "mgt2 has heard of it")
    if ended == "killed":
        mgt3.kill()
    else:
        mgt3.stop()
    mgt1.kill()
    swap(data, copy)
    mgt3.start()
    assert_lost(mgt3, "mgt2 remembers entry")
    mgt3.stop()
    swap_back(data)
    mgt1.start()
    mgt3.start()
    for server in servers:
        cluster.wait_until_all_active(server, servers)


def test_old_image_that_starts_in_a_partition_votes_not_when_it_heals(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Of 50 writes on it and the leader alone, none was left with the leader killed."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    data, copy = Path(mgt3.layout.data), tmp_path / "copy"
    shutil.copytree(data, copy)
    mgt3.start()
    cluster.wait_until_all_active(mgt3, servers)
    cluster.have_lead(mgt1)
    mgt2.pause()
    write(mgt1, 50)
    behind = index_of(mgt1)
    wait_until(lambda: remembered(mgt1, mgt3) >= behind, SECONDS, "mgt1 has heard of it")
    mgt3.kill()
    mgt1.pause()
    swap(data, copy)
    mgt3.start()
    wait_until(lambda: "mgt1 or mgt2" in mgt3.run("show").err, SECONDS, "mgt3 waits")
    assert mgt3.etcd_pid is None
    mgt1.resume()
    assert_lost(mgt3, "mgt1 remembers entry")
    mgt1.kill()
    mgt2.resume()
    assert not mgt2.run("show").lines[0].endswith("True")
    assert mgt3.etcd_pid is None
    mgt1.start()
    cluster.wait_for_leader([mgt1, mgt2])
    kept = mgt2.etcdctl("get", "test/", "--prefix", "--keys-only").out
    assert kept.count("test/") == 50


def remembered(by: Server, of: Server) -> int:
    """Return how far a member's log is known to go, as another one heard at its last stop."""
    document = by.ask_show() or {"members": []}
    found = [m["raft_durable"] or 0 for m in document["members"] if m["name"] == of.name]
    return int(found[0]) if found else 0


def test_server_on_old_data_is_taken_in_again(cluster: Cluster, tmp_path: Path) -> None:
    """Where there is no newer data, it joins like a new one, and what it had is moved aside."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    data = Path(mgt3.layout.etcd_data)
    shutil.copytree(data, tmp_path / "copy")
    mgt3.start()
    cluster.wait_until_all_active(mgt3, servers)
    write(mgt1)
    mgt3.stop()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "copy", data)
    mgt3.start()
    assert_lost(mgt3, "old")
    mgt1.run("delete", "mgt3", check=True)
    cluster.join(mgt3, mgt2)
    cluster.wait_until_all_active(mgt1, servers)
    assert list(Path(mgt3.layout.aside).glob("*-before-join*/etcd/member/wal"))
    mgt3.restart()
    cluster.wait_until_all_active(mgt3, servers)


def test_data_of_another_server_is_not_started(cluster: Cluster, tmp_path: Path) -> None:
    """Of another member of the same collective, and of another collective."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    (alone,) = cluster.add_running(1)
    settle(mgt3)
    settle(alone)
    for server in (mgt2, mgt3, alone):
        server.stop()
    data = Path(mgt3.layout.etcd_data)
    for other in (mgt2, alone):
        swap(data, Path(other.layout.etcd_data))
        mgt3.start()
        assert_lost(mgt3, "that of another member")
        mgt3.stop()
        swap_back(data)
    # A founder was given its id by nobody, and knows it all the same.
    mgt1.stop()
    swap(Path(mgt1.layout.etcd_data), Path(alone.layout.etcd_data))
    mgt1.start()
    assert_lost(mgt1, "that of another member")
    mgt1.stop()
    swap_back(Path(mgt1.layout.etcd_data))
    cluster.start_all(servers)
    cluster.wait_until_all_active(mgt1, servers)


@contextmanager
def writer(servers: list[Server]) -> Iterator[None]:
    """Write all the time, through whichever server takes it."""
    done = threading.Event()

    def work() -> None:
        for number in itertools.count():
            if done.is_set():
                return
            try:
                servers[number % len(servers)].etcdctl(
                    "put", f"test/{number % 50}", "x" * 2000, check=False, timeout=5
                )
            except (HarnessError, OSError):
                done.wait(0.05)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_kill_at_any_moment_is_not_taken_for_old_data(cluster: Cluster) -> None:
    """Kill -9 of server after server under a writer, then a power cut of all."""
    servers = cluster.grow(3)
    chance = random.Random(8)
    with writer(servers):
        for number in range(KILLS):
            server = servers[number % 3]
            threading.Event().wait(chance.random())
            server.kill()
            server.start()
            assert mode(server) == "member", server.log_text[-2000:]
        for server in servers:
            server.kill()
    cluster.start_all(servers)
    cluster.wait_for_leader(servers)
    for server in servers:
        cluster.wait_until_all_active(server, servers)
        assert not re.search("is lost", server.log_text)
