"""A server's next certificate: recorded, taken up, shown, and the former one opens nothing more.

The numbers are those of the list of what users of such systems suffer from.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.failpoints import Step
from collective.pki import make_certificate, new_key
from tests.harness import Cluster, HarnessError, Server, wait_until
from tests.harness.certificates import (
    identity_of,
    own,
    recorded,
    restarts_to_take_up,
    revoked,
    served_fingerprint,
    trusted_by_etcd,
)
from tests.harness.cluster import is_calm
from tests.harness.failpoints import FailPoints
from tests.harness.impostor import Kept, member_door, peer_port
from tests.harness.running import Running
from tests.harness.trouble import settle
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 30.0


def assert_shows_what_is_recorded(seen_by: Server, server: Server, former: str) -> None:
    """See that a server has one certificate, everywhere, and that it is not the former one."""
    now = own(server)
    assert now != former
    assert recorded(seen_by, server.name) == [now]
    assert served_fingerprint(server) == now
    assert former in revoked(seen_by)
    assert now not in revoked(seen_by)
    assert not Path(server.layout.pki, "next.pem").exists()


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_former_certificate_of_a_voter_opens_no_door(
    make_cluster: MakeCluster, tmp_path: Path, who: str
) -> None:
    """From the end of the command on; each other etcd was restarted once, its own was not."""
    cluster = make_cluster(3)
    servers = list(cluster.servers.values())
    leader = cluster.wait_for_leader()
    changed = leader if who == "leader" else next(s for s in servers if s is not leader)
    others = [server for server in servers if server is not changed]
    kept = Kept.of(changed, tmp_path / "kept")
    former, pid = own(changed), changed.etcd_pid
    before = {server: len(restarts_to_take_up(server)) for server in servers}
    for server in others:
        assert (member_door(server, kept.identity), peer_port(server, kept.identity)) == (
            "opened",
            "opened",
        )

    changed.run("gencert", check=True)

    assert_shows_what_is_recorded(others[0], changed, former)
    assert served_fingerprint(changed, changed.peer_port) == own(changed)
    for server in others:
        assert (member_door(server, kept.identity), peer_port(server, kept.identity)) == (
            "shut",
            "shut",
        )
        assert own(changed) in trusted_by_etcd(server)
        assert restarts_to_take_up(server)[before[server] :] == [changed.name]
    assert (len(restarts_to_take_up(changed)), changed.etcd_pid) == (before[changed], pid)
    for server in servers:
        cluster.wait_until_all_active(server, servers)
        server.restart()
    cluster.wait_until_all_active(changed, servers)


def test_former_certificate_of_a_server_without_a_vote_opens_no_door(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """No etcd is restarted for it: none of them lets it in anyway."""
    cluster = make_cluster(2)
    mgt1, mgt2 = voters = list(cluster.servers.values())
    mgt3 = join_nonvoting(cluster, mgt1)
    cluster.wait_until_all_active(mgt3, [mgt1, mgt2, mgt3])
    kept, former = Kept.of(mgt3, tmp_path / "kept"), own(mgt3)
    pids = [server.etcd_pid for server in voters]
    assert {member_door(server, kept.identity) for server in voters} == {"opened"}

    mgt3.run("gencert", check=True)

    assert_shows_what_is_recorded(mgt2, mgt3, former)
    for server in voters:
        assert (member_door(server, kept.identity), peer_port(server, kept.identity)) == (
            "shut",
            "shut",
        )
        assert own(mgt3) not in trusted_by_etcd(server)
    assert [server.etcd_pid for server in voters] == pids
    cluster.wait_until_all_active(mgt3, [mgt1, mgt2, mgt3])
    mgt3.restart()
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])


def test_collective_of_one_changes_its_certificate_and_takes_a_server_in(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Nobody else has to know it; who joins next knows the new one alone."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    kept, former, pid = Kept.of(mgt1, tmp_path / "kept"), own(mgt1), mgt1.etcd_pid
    mgt1.run("gencert", check=True)
    assert_shows_what_is_recorded(mgt1, mgt1, former)
    assert mgt1.etcd_pid == pid
    assert member_door(mgt1, kept.identity) == "shut"
    mgt1.restart()
    mgt1.wait_for_quorum()
    assert peer_port(mgt1, kept.identity) == "shut"
    cluster.join(mgt2, mgt1)
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])
    assert former not in trusted_by_etcd(mgt2)


# Cut off, or at the same time as something else ------------------------------------------------


@pytest.mark.parametrize(
    "step", [Step.REPLACE_PREPARE, Step.REPLACE_RECORD, Step.REPLACE_TRUST, Step.REPLACE_USE]
)
@pytest.mark.parametrize("votes", [True, False])
def test_change_that_was_cut_off_goes_on(cluster: Cluster, step: Step, votes: bool) -> None:
    """By itself where it was recorded; else the same command takes what was prepared."""
    with FailPoints(cluster) as points:
        mgt1, mgt2, *_ = servers = cluster.grow(3 if votes else 2)
        changed = servers[-1] if votes else join_nonvoting(cluster, mgt1)
        servers = list(cluster.servers.values())
        cluster.wait_until_all_active(changed, servers)
        former = own(changed)
        with points.at(step, changed) as held, Running(changed, ("gencert",)) as made:
            held.wait(SECONDS)
            changed.kill()
            assert "ended with 0" not in made.end()
        prepared = Path(changed.layout.pki, "next.pem")
        assert prepared.exists() == (step is not Step.REPLACE_USE)
        changed.start()
        cluster.wait_until_all_active(mgt1, servers)
        if step is Step.REPLACE_PREPARE:
            text = prepared.read_text()
            changed.run("gencert", check=True)
            assert identity_of(changed).read_text() == text
        wait_until(
            lambda: own(changed) != former and recorded(mgt2, changed.name) == [own(changed)],
            SECONDS,
            "one certificate is left",
        )
        assert_shows_what_is_recorded(mgt2, changed, former)
        for server in servers:
            cluster.wait_until_all_active(server, servers)


def test_certificate_that_is_being_made_is_not_revoked_by_another_thread(
    cluster: Cluster,
) -> None:
    """It is recorded and not in use yet, when all that are not in use are to be revoked.

    A live member once took itself for deleted, since it then used one that was revoked.
    """
    with FailPoints(cluster) as points:
        mgt1, mgt2 = servers = cluster.grow(2)
        settle(mgt2)
        former = own(mgt2)
        with points.at(Step.REPLACE_RECORD, mgt2) as held, Running(mgt2, ("gencert",)) as made:
            held.wait(SECONDS)
            mgt2.configure(address=f"{mgt2.address}9")
            with Running(mgt2, ("readdress",)) as moved:
                with pytest.raises(HarnessError):
                    wait_until(lambda: False, 4.0, "time for the other thread")
                held.go()
                assert "ended with 0" in made.end()
                assert "ended with 0" in moved.end()
            with pytest.raises(HarnessError):
                wait_until(lambda: mgt2.is_removed, 3.0, "mgt2 takes itself for deleted")
        mgt2.address = f"{mgt2.address}9"
        for server in servers:
            cluster.wait_until_all_active(server, servers)
        assert_shows_what_is_recorded(mgt1, mgt2, former)


def test_two_servers_that_change_at_once_both_do(make_cluster: MakeCluster) -> None:
    """Each waits for the other's restart in its turn; the quorum is there all the time."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = servers = list(cluster.servers.values())
    former = {server: own(server) for server in servers}
    with Running(mgt1, ("gencert",)) as first, Running(mgt2, ("gencert",)) as second:
        assert "ended with 0" in first.end()
        assert "ended with 0" in second.end()
    for server in (mgt1, mgt2):
        assert_shows_what_is_recorded(mgt3, server, former[server])
    for server in servers:
        cluster.wait_until_all_active(server, servers)


# Off meanwhile ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("all_off", [False, True])
def test_server_that_was_off_recognises_all_others_by_their_succession(
    make_cluster: MakeCluster, rounds: int, all_off: bool
) -> None:
    """It has never seen any of the certificates that it finds, once or twice removed.

    Where all were off it is the first one up: nobody with a quorum is there to tell it.
    """
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = servers = list(cluster.servers.values())
    settle(mgt3)
    mgt3.stop()
    former = {server: own(server) for server in servers}
    for _ in range(rounds):
        for server in (mgt1, mgt2):
            server.run("gencert", check=True)
    if all_off:
        for server in (mgt1, mgt2):
            server.kill()
        cluster.start_all([mgt3])
        cluster.start_all([mgt1, mgt2])
    else:
        mgt3.start()
    for server in servers:
        cluster.wait_until_all_active(server, servers, SECONDS)
    for server in (mgt1, mgt2):
        assert_shows_what_is_recorded(mgt3, server, former[server])
        assert own(server) in trusted_by_etcd(mgt3)
    assert not mgt3.is_removed
    assert own(mgt3) == former[mgt3]


def test_server_without_a_vote_that_was_off_recognises_all_voters(
    make_cluster: MakeCluster,
) -> None:
    """It reaches the store through them alone, and knows none of their certificates."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt3 = join_nonvoting(cluster, mgt1)
    cluster.wait_until_all_active(mgt3, cluster.servers.values())
    mgt3.stop()
    for server in (mgt1, mgt2):
        server.run("gencert", check=True)
    mgt3.start()
    for server in cluster.servers.values():
        cluster.wait_until_all_active(server, cluster.servers.values(), SECONDS)


def test_voter_that_was_off_for_an_addition_a_deletion_and_all_certificates_takes_part(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It comes back to a collective of which it knows no certificate but its own."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = cluster.servers.values()
    (mgt5,) = cluster.add_running(1)
    settle(mgt4)
    kept = Kept.of(mgt3, tmp_path / "kept")
    mgt4.stop()
    cluster.join(mgt5, mgt1)
    mgt3.run("delete", check=True)
    now = [mgt1, mgt2, mgt5]
    for server in now:
        server.run("gencert", check=True)

    mgt4.start()

    now.append(mgt4)
    for server in now:
        cluster.wait_until_all_active(server, now, SECONDS)
    wanted = {own(server) for server in now}
    for server in now:
        wait_until(lambda s=server: is_calm(s), SECONDS, f"{server.name} has calmed")  # type: ignore[misc]
        assert wanted <= trusted_by_etcd(server)
    assert {member_door(server, kept.identity) for server in now} == {"shut"}
    assert {peer_port(server, kept.identity) for server in now} == {"shut"}


# Shown -----------------------------------------------------------------------------------------


@pytest.mark.peers(18)
def test_show_tells_the_certificate_that_is_served(cluster: Cluster) -> None:
    """One that is on the disk alone is new for nobody, and show says so."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.run("gencert", check=True)
    served = served_fingerprint(mgt1)
    (member,) = mgt1.show_json()["members"]
    assert member["certificate_fingerprint"] == served == own(mgt1)
    assert member["errors"] == []

    key = new_key()
    other = make_certificate(key, "mgt1", [mgt1.address])
    identity_of(mgt1).write_bytes(key + other.pem.encode())
    wait_until(
        lambda: mgt1.show_json()["members"][0]["errors"], 60.0, "show tells of the other file"
    )
    (member,) = mgt1.show_json()["members"]
    assert served in member["errors"][0]
    assert "put that one back" in member["errors"][0]
    assert member["certificate_fingerprint"] == served


def test_steps_and_fingerprints_are_told(make_cluster: MakeCluster) -> None:
    """What was replaced and by what, for whoever compares them; two are told of the pause."""
    mgt1, _ = make_cluster(2).servers.values()
    former = own(mgt1)
    result = mgt1.run("gencert", "--json", check=True)
    document = json.loads(result.out)
    assert (document["fingerprint"], document["replaced"]) == (own(mgt1), former)
    steps = [line.split(": ")[1] for line in result.err.splitlines()]
    assert steps == ["pause", "record", "trust", "use", "retire"]
