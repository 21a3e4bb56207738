"""Promise P4: a deleted server that did not give up reads and writes nothing any more.

What it may have open to etcd's peer port cannot be seen on loopback, where all members have one
address: ``daemon/certificates/connection_cutter.py``.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from collective.errors import InvitationError
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import own, revoked, trusted_by_etcd
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
from tests.harness.trouble import (
    answers_tls,
    assert_refused,
    assert_stranger_asked,
    challenge_of,
    serving,
    settle,
)
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
STARTING = 60.0


def raft(server: Server) -> tuple[str, int, int]:
    """Return what must not change: the members, the leader and the term, as etcd says."""
    members = server.etcdctl("member", "list").out
    (shown,) = json.loads(server.etcdctl("endpoint", "status", "-w", "json").out)
    status = shown["Status"]
    return members, status["leader"], status["raftTerm"]


def doors(servers: list[Server], *identities: Path) -> set[str]:
    """Try both doors of servers."""
    return {
        door(server, identity)
        for server in servers
        for door in (peer_port, member_door)
        for identity in identities
    }


@pytest.mark.peers(10)
def test_deleted_server_that_kept_all_it_had_gets_nowhere(
    make_cluster: MakeCluster, etcd: Etcd, tmp_path: Path
) -> None:
    """Its certificate, open connection, data, and old token, and certificates that it makes."""
    cluster = make_cluster(2)
    mgt1, mgt2 = rest = [cluster["mgt1"], cluster["mgt2"]]
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt3", check=True).out
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    settle(mgt3)
    kept = Kept.of(mgt3, tmp_path / "kept")
    made = [*kept.all_new("mgt3", mgt3.address), *kept.all_new("mgt2", mgt2.address)]
    assert doors(rest, kept.identity) == {"opened"}, "or this test proves nothing"
    assert doors(rest, *made) == {"shut"}, "also while it is a member: none of them is recorded"
    open_ones = [held_open(server, kept.identity) for server in rest]
    mgt3.kill()
    folder = copy_of(mgt3, cluster.root / "k")

    deleted = mgt1.run("delete", "mgt3", check=True)

    assert doors(rest, kept.identity) == {"shut"}
    assert "mgt2" in deleted.err, "it says who confirmed"
    for tls in open_ones:
        with tls, suppress(OSError):
            tls.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_to_end(tls) == b""
    assert doors(rest, *made) == {"shut"}

    for _ in range(2):  # with its own certificate, then with one of a live member's name
        before = raft(mgt1)
        with own_etcd(mgt3, etcd.etcd, folder) as process:
            # It asks for votes until it is told that it was removed, or for as long as it lives.
            with suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
            assert raft(mgt1) == before
        identity = kept.with_same_key("mgt2", mgt2.address)
        (folder / "pki" / "server.pem").write_bytes(identity.read_bytes())

    other = cluster.add()
    other.configure(name="mgt3")
    other.start()
    other.wait_for_quorum()
    again = other.run("join", mgt1.door_name, "-i", "-", input=token)
    assert again.code == InvitationError.exit_code, again.err
    cluster.wait_until_all_active(mgt1, rest)


@pytest.mark.peers(10)
def test_former_trust_is_gone_from_memory_and_disk_after_the_next_restart(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """A deleted server's certificate is revoked at once, and then not even known any more."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    settle(mgt3)
    former = own(mgt3)
    kept = Kept.of(mgt3, tmp_path / "kept")
    assert former in trusted_by_etcd(mgt1) & trusted_by_etcd(mgt2)
    mgt1.run("delete", "--force", "mgt3", check=True)
    assert former in revoked(mgt1)
    for server in (mgt1, mgt2):
        server.restart()
        cluster.wait_until_all_active(server, [mgt1, mgt2])
        assert former not in trusted_by_etcd(server)
    assert doors([mgt1, mgt2], kept.identity) == {"shut"}
    assert former in revoked(mgt2), "it stays revoked all the same"


@pytest.mark.peers(10)
def test_deleted_server_cannot_pass_for_a_member_to_a_joiner(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """A token of after the deletion does not know it: the joiner tells it nothing."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster["mgt1"], cluster["mgt2"]
    settle(mgt2)
    kept = Kept.of(mgt2, tmp_path / "kept")
    mgt1.run("delete", "--force", "mgt2", check=True)
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt3", check=True).out
    body = json.dumps(challenge_of(mgt1)).encode()
    for identity in (kept.identity, kept.with_same_key("mgt1", mgt1.address)):
        with serving(answers_tls(server_context(identity), body)) as false:
            joined = mgt3.run("join", false.where, "-i", "-", input=token)
            assert_refused(joined, InvitationError, "is not on the guest list of the token")
            assert_stranger_asked(false, token)
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
    assert peer_port(mgt2, kept.identity) == "opened", "or this test proves nothing"
    mgt2.kill()
    mgt1.run("delete", "--force", "mgt4", check=True)
    mgt4.kill()
    tried: list[tuple[str, str]] = []

    def back() -> bool:
        with suppress(ssl.SSLError, OSError):
            tried.append((peer_port(mgt2, kept.identity), member_door(mgt2, kept.identity)))
        document = mgt2.ask_show()
        return document is not None and bool(document["quorum"])

    mgt2.launch()
    wait_until(back, STARTING, "mgt2 is back")
    assert set(tried) == {("shut", "shut")}
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])
