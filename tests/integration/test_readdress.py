"""``collective readdress``: one command, no gap, and every refusal before any change.

peers.md, line 12: a changed address must not kill the member.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bench.writer import Writer
from collective.errors import InputError, RefusedError
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import own, recorded, revoked, served_fingerprint
from tests.harness.cluster import is_calm
from tests.harness.trouble import assert_refused, facts, settle

MakeCluster = Callable[..., Cluster]
pytestmark = pytest.mark.integration

# Without load it is a fraction of a second; a lost quorum would be far more than this.
GAP_SECONDS = 8.0
SETTLE_SECONDS = 20.0
LONG_SECONDS = 60.0


def address_of(seen_by: Server, name: str) -> str:
    """Return the address of a member as a server shows it."""
    members = seen_by.show_json()["members"]
    return str(next(m["address"] for m in members if m["name"] == name))


def urls(server: Server) -> str:
    """Return what etcd says of its members."""
    return server.etcdctl("member", "list").out


def move(server: Server, address: str) -> None:
    """Change the setting and run the command, as an operator would."""
    server.configure(address=address)
    server.run("readdress", check=True)
    server.address = address


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_member_moves_under_a_writer(make_cluster: MakeCluster, who: str) -> None:
    """Its URL, its certificate and its doors change, and writes go on all the while."""
    cluster = make_cluster(3)
    leader = cluster.wait_for_leader()
    others = [s for s in cluster.servers.values() if s is not leader]
    moved = leader if who == "leader" else others[0]
    writer = Writer(others[1].layout.etcd_socket)
    writer.start()
    try:
        threading.Event().wait(0.5)
        move(moved, "127.0.0.19")
        threading.Event().wait(0.5)
    finally:
        writer.stop()
    gap = writer.longest_gap(0.0, float("inf"))
    print(f"longest gap in writes: {gap:.3f} s")
    assert gap < GAP_SECONDS
    assert address_of(others[1], moved.name) == "127.0.0.19"
    assert f"https://127.0.0.19:{moved.peer_port}" in urls(others[1])
    for server in cluster.servers.values():
        cluster.wait_until_all_active(server, cluster.servers.values())
    moved.restart()
    cluster.wait_until_all_active(others[1], cluster.servers.values())
    others[1].kill()
    cluster.wait_for_leader(of=[moved, others[0]], other_than=others[1])


def test_collective_of_one_moves_and_grows(cluster: Cluster) -> None:
    """Nobody else is there to ask; afterwards a server joins it at its new address."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    move(mgt1, "127.0.0.19")
    assert address_of(mgt1, "mgt1") == "127.0.0.19"
    token = mgt1.run("invite", "mgt2", check=True).out
    where = f"127.0.0.19:{mgt1.port}"
    assert mgt2.run("join", where, input=token, check=True).out == "Success\n"
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])


def test_second_of_two_moves(make_cluster: MakeCluster) -> None:
    """Two cannot do without one of them: the restart is the gap, and it ends."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    move(mgt2, "127.0.0.19")
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])


def test_setting_that_changed_moves_the_server_at_its_start(make_cluster: MakeCluster) -> None:
    """Nobody runs a command: the daemon starts with another address, and the others follow."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt3.stop()
    mgt3.configure(address="127.0.0.19")
    mgt3.start()
    wait_until(
        lambda: address_of(mgt1, "mgt3") == "127.0.0.19", SETTLE_SECONDS, "mgt1 knows the address"
    )
    for server in (mgt1, mgt2, mgt3):
        cluster.wait_until_all_active(server, [mgt1, mgt2, mgt3])


def test_former_certificates_are_revoked(make_cluster: MakeCluster) -> None:
    """The one that names the former address opens no door; the member is not taken for deleted."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    move(mgt3, "127.0.0.19")

    def revoked() -> int:
        listed = mgt1.etcdctl("get", "collective/v1/revoked/", "--prefix", "--keys-only").out
        return listed.count("revoked/")

    wait_until(lambda: revoked() == 2, SETTLE_SECONDS, "two certificates are revoked")
    threading.Event().wait(2.0)
    assert not mgt3.is_removed
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])


def has_one_certificate(seen_by: Server, server: Server) -> bool:
    """Tell whether a voter's certificate is recorded, alone, and is what its etcd shows."""
    with suppress(OSError):  # etcd is restarted just now
        shown = served_fingerprint(server, server.peer_port)
        return recorded(seen_by, server.name) == [shown] == [own(server)]
    return False


@pytest.mark.peers(12)
def test_all_that_moved_while_off_find_each_other_and_trust_what_they_show(
    make_cluster: MakeCluster,
) -> None:
    """No etcd is where the others dial it, and no certificate that is recorded names its place."""
    cluster = make_cluster(3)
    servers = list(cluster.servers.values())
    for server in servers:
        settle(server)
    former = {server: own(server) for server in servers}
    assert servers[0].etcdctl("put", "kept", "safe").code == 0
    for server in servers:
        server.stop()
    lines = []
    for number, server in enumerate(servers, 21):
        server.address = f"127.0.0.{number}"
        server.configure(address=server.address)
        lines.append(f"{server.address} {server.name}\n")
    Path(cluster.root / "hosts").write_text("".join(lines))

    cluster.start_all(servers)

    for server in servers:
        cluster.wait_until_all_active(server, servers, LONG_SECONDS)
        wait_until(lambda s=server: is_calm(s), LONG_SECONDS, f"{server.name} has calmed")  # type: ignore[misc]
    for server in servers:
        assert address_of(servers[0], server.name) == server.address
        assert f"https://{server.address}:{server.peer_port}" in urls(servers[0])
        # Between its trust rounds a change of certificate shows nothing.
        wait_until(
            lambda s=server: own(s) != former[s] and has_one_certificate(servers[0], s),  # type: ignore[misc]
            LONG_SECONDS,
            f"{server.name} has a certificate for its address, and no other",
        )
        assert former[server] in revoked(servers[0])
    assert servers[1].etcdctl("get", "kept").lines == ["kept", "safe"]
    servers[0].restart()
    cluster.wait_until_all_active(servers[0], servers, LONG_SECONDS)


def test_move_to_where_it_is_changes_nothing(make_cluster: MakeCluster) -> None:
    """Who runs the command again, after a cut, is told that it is done."""
    cluster = make_cluster(2)
    mgt2 = cluster["mgt2"]
    before = facts(mgt2)
    for arguments in ((), ("--address", mgt2.address)):
        result = mgt2.run("readdress", *arguments, check=True)
        assert result.out == f"mgt2 has the address {mgt2.address} already\n"
        assert "--address" in result.err
    assert facts(mgt2) == before


def test_move_that_must_not_be_is_refused(make_cluster: MakeCluster) -> None:
    """Another's address, one that is not here, one that others cannot reach."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    before = facts(mgt1), facts(mgt2)

    def refused(address: str, *words: str) -> None:
        assert_refused(mgt2.run("readdress", "--address", address), RefusedError, *words)
        assert (facts(mgt1), facts(mgt2)) == before

    refused("127.0.0.19", "the setting 'address' gives 127.0.0.2")
    mgt2.forget("address")
    taken = mgt2.run("readdress", "--address", mgt1.address)
    assert_refused(taken, InputError, f"cannot listen on {mgt1.address}", "already in use")
    assert (facts(mgt1), facts(mgt2)) == before
    refused("192.0.2.77", "does not have it")
    mgt2.configure(listen="127.0.0.2")
    refused("127.0.0.19", "'listen'")
