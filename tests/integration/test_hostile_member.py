"""Promise P4: a deleted server that did not give up reads and writes nothing any more.

What it may have open to etcd's peer port cannot be seen on loopback, where all members have one
address: ``daemon/peers/cutter.py``.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from collective.errors import InvitationError, UnreachableError
from tests.harness import Cluster, Server, wait_until
from tests.harness.doors import read_to_end
from tests.harness.impostor import (
    Kept,
    copy_of,
    held_open,
    member_door,
    own_etcd,
    peer_port,
    server_context,
)
from tests.harness.rekeyed import wait_until_rekeyed
from tests.harness.trouble import records_tls, serving, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
REKEYED = 90.0
STARTING = 60.0


def raft(server: Server) -> tuple[str, int, int]:
    """Return what must not change: the members, the leader and the term, as etcd says."""
    members = server.etcdctl("member", "list").out
    (shown,) = json.loads(server.etcdctl("endpoint", "status", "-w", "json").out)
    status = shown["Status"]
    return members, status["leader"], status["raftTerm"]


def doors(servers: list[Server], leaf: Path) -> set[str]:
    """Try both doors of servers."""
    return {door(server, leaf) for server in servers for door in (peer_port, member_door)}


@pytest.mark.peers(10)
def test_deleted_server_that_kept_all_it_had_gets_nowhere(
    make_cluster: MakeCluster, etcd: Etcd, tmp_path: Path
) -> None:
    """Its leaf, its open connection, its data, certificates that it mints, and its old token."""
    cluster = make_cluster(2)
    mgt1, mgt2 = rest = [cluster["mgt1"], cluster["mgt2"]]
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt3", check=True).out
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    settle(mgt3)
    kept = Kept.of(mgt3, tmp_path / "kept")
    minted = [kept.mint("mgt3", mgt3.address), kept.mint("mgt2", mgt2.address)]
    assert doors(rest, kept.leaf) == {"opened"}, "or this test proves nothing"
    open_ones = [held_open(server, kept.leaf) for server in rest]
    mgt3.kill()
    folder = copy_of(mgt3, cluster.root / "k")

    deleted = mgt1.run("delete", "mgt3", check=True)

    assert "mgt2" in deleted.err, "it says who confirmed"
    for tls in open_ones:
        with tls, suppress(OSError):
            tls.sendall(b"GET /v1/revoked HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_to_end(tls) == b""
    assert doors(rest, kept.leaf) == {"shut"}
    assert {member_door(server, leaf) for server in rest for leaf in minted} == {"shut"}

    wait_until_rekeyed(mgt1)
    assert {peer_port(server, leaf) for server in rest for leaf in minted} == {"shut"}
    assert {member_door(server, leaf) for server in rest for leaf in minted} == {"shut"}
    assert doors(rest, kept.leaf) == {"shut"}

    for _ in range(2):  # with its own certificate, then with one of a live member's name
        before = raft(mgt1)
        with own_etcd(mgt3, etcd.etcd, folder) as process:
            # It asks for votes until it is told that it was removed, or for as long as it lives.
            with suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
            assert raft(mgt1) == before
        (folder / "pki" / "leaf.pem").write_bytes(minted[1].read_bytes())

    other = cluster.add()
    other.configure(name="mgt3")
    other.start()
    other.wait_for_quorum()
    again = other.run("join", mgt1.door_name, "-i", "-", input=token)
    assert again.code == InvitationError.exit_code, again.err
    cluster.wait_until_all_active(mgt1, rest)


@pytest.mark.peers(10)
def test_deleted_server_cannot_pass_for_a_member_to_a_joiner(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """A token of after the re-keying pins the new CA: the joiner sends nothing to the old one."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster["mgt1"], cluster["mgt2"]
    settle(mgt2)
    kept = Kept.of(mgt2, tmp_path / "kept")
    mgt1.run("delete", "--force", "mgt2", check=True)
    wait_until_rekeyed(mgt1)
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt3", check=True).out
    for leaf in (kept.leaf, kept.mint("mgt1", mgt1.address)):
        with serving(records_tls(server_context(leaf))) as false:
            joined = mgt3.run("join", false.where, "-i", "-", input=token)
        assert joined.code in (InvitationError.exit_code, UnreachableError.exit_code), joined.err
        assert "Success" not in joined.out
        assert b"".join(false.received) == b""
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)


@pytest.mark.peers(10)
def test_member_that_was_off_refuses_the_deleted_server_from_its_first_moment(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It asks the others who was deleted before its etcd serves anybody."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = (cluster[f"mgt{n}"] for n in (1, 2, 3, 4))
    settle(mgt4)
    kept = Kept.of(mgt4, tmp_path / "kept")
    assert peer_port(mgt2, kept.leaf) == "opened", "or this test proves nothing"
    mgt2.kill()
    mgt1.run("delete", "--force", "mgt4", check=True)
    mgt4.kill()
    tried: list[tuple[str, str]] = []

    def back() -> bool:
        with suppress(ssl.SSLError, OSError):
            tried.append((peer_port(mgt2, kept.leaf), member_door(mgt2, kept.leaf)))
        document = mgt2.ask_show()
        return document is not None and bool(document["quorum"])

    mgt2.launch()
    wait_until(back, STARTING, "mgt2 is back")
    assert set(tried) == {("shut", "shut")}
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])
