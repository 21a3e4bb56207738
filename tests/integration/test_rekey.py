"""Re-keying: a CA key that somebody kept becomes worthless, and nobody notices but he."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import InvitationError, QuorumError
from tests.harness import Cluster, Server, wait_until
from tests.harness.cluster import states
from tests.harness.impostor import Kept, member_door, peer_port
from tests.harness.rekeyed import is_rekeyed, wait_until_rekeyed
from tests.harness.running import Running
from tests.harness.trouble import assert_refused

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
ENOUGH = 60.0


def ca_files(server: Server) -> tuple[bytes, bytes]:
    pki = Path(server.layout.pki)
    return (pki / "ca.pem").read_bytes(), (pki / "ca.key").read_bytes()


def test_rotated_ca_is_on_every_server_and_the_old_one_opens_nothing(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """All voters hold the new key; what was minted with the old one is refused at both doors."""
    cluster = make_cluster(3)
    servers = [cluster[name] for name in ("mgt1", "mgt2", "mgt3")]
    old = ca_files(servers[0])
    kept = Kept.of(servers[2], tmp_path / "kept")
    minted = kept.mint("mgt9", servers[2].address)
    assert {peer_port(s, minted) for s in servers} == {"opened"}, "or this test proves nothing"
    assert {member_door(s, minted) for s in servers} == {"shut"}

    result = servers[0].run("rotate-ca", check=True, timeout=120)

    assert result.lines == ["Success"]
    new = {ca_files(s) for s in servers}
    assert len(new) == 1
    assert new != {old}
    assert {peer_port(s, minted) for s in servers} == {"shut"}
    assert {member_door(s, minted) for s in servers} == {"shut"}
    assert {peer_port(s, kept.leaf) for s in servers} == {"shut"}
    assert not any(Path(s.layout.pki, "next.pem").exists() for s in servers)
    cluster.wait_until_all_active(servers[0], servers)
    assert "Re-keying" not in servers[1].run("show", check=True).out
    fourth = cluster.add_running(1)[0]
    cluster.join(fourth, via=servers[1], invited_by=servers[2])
    cluster.wait_until_all_active(fourth, [*servers, fourth])


def test_deletion_of_a_voter_makes_its_ca_key_worthless(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """The re-keying begins by itself, and pending invitations end with it, which is said."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = (cluster[name] for name in ("mgt1", "mgt2", "mgt3"))
    kept = Kept.of(mgt3, tmp_path / "kept")
    minted = kept.mint("mgt2", mgt2.address)
    token = mgt1.run("invite", "mgt4", check=True).out.strip()
    mgt3.kill()

    deleted = mgt1.run("delete", "mgt3", check=True)

    assert "a re-keying has begun" in deleted.err
    assert "invitations that end with the old CA: mgt4" in deleted.err
    wait_until_rekeyed(mgt2)
    for server in (mgt1, mgt2):
        assert peer_port(server, minted) == member_door(server, minted) == "shut"
    assert not is_rekeyed(mgt1, 2), "one deletion replaces the CA once"
    mgt4 = cluster.add_running(1)[0]
    joined = mgt4.run("join", mgt1.door_name, "-i", "-", input=token)
    assert joined.code == InvitationError.exit_code, joined.err


def test_deletion_without_rekeying_keeps_the_ca(make_cluster: MakeCluster) -> None:
    """--no-rekey leaves it out, for a server that is known to be destroyed."""
    cluster = make_cluster(3)
    mgt1, mgt3 = cluster["mgt1"], cluster["mgt3"]
    before = ca_files(mgt1)
    mgt3.kill()
    assert "re-keying" not in mgt1.run("delete", "mgt3", "--no-rekey", check=True).err
    assert ca_files(mgt1) == before
    assert mgt1.etcdctl("get", "collective/v1/rekey").out == ""


@pytest.mark.parametrize("kept", [False, True], ids=["rekey", "no-rekey"])
def test_key_of_a_server_that_left_is_worthless_at_last(
    make_cluster: MakeCluster, kept: bool
) -> None:
    """Leaving replaces the CA; after one without that, deleting the server does."""
    cluster = make_cluster(3)
    mgt1, mgt3 = cluster["mgt1"], cluster["mgt3"]
    before = ca_files(mgt1)
    mgt3.run("delete", *(["--no-rekey"] if kept else []), check=True)
    if kept:
        wait_until(lambda: "mgt3" not in states(mgt1), ENOUGH, "mgt3 has left")
        again = mgt1.run("delete", "mgt3", check=True)
        assert "a re-keying has begun" in again.err
    wait_until_rekeyed(mgt1)
    assert ca_files(mgt1) != before
    assert mgt1.run("delete", "mgt3", check=True).out == "mgt3 is deleted\n"
    assert not is_rekeyed(mgt1, 2), "its key is worthless already"


def test_rotation_after_a_deletion_in_the_middle_is_one_more(make_cluster: MakeCluster) -> None:
    """The server that was deleted may have the key of the CA that is about to come."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt4 = cluster["mgt1"], cluster["mgt2"], cluster["mgt4"]
    mgt4.kill()
    with Running(mgt1, ("rotate-ca",)) as first:
        wait_until(lambda: "waits for mgt4" in mgt2.run("show").out, ENOUGH, "it waits for mgt4")
        mgt2.run("delete", "mgt3", "--force", "--no-rekey", check=True)
        with Running(mgt2, ("rotate-ca",)) as second:
            wait_until(lambda: '"again": true' in record(mgt2), ENOUGH, "another one follows")
            mgt4.start()
            ends = [first.end(), second.end()]
    assert all(end.startswith("ended with 0") for end in ends), ends
    assert is_rekeyed(mgt2, 2)


def record(server: Server) -> str:
    """Return what the store has of the re-keying."""
    return server.etcdctl("get", "collective/v1/rekey", "--print-value-only").out


def test_member_that_is_off_is_waited_for_and_learns_it_on_return(
    make_cluster: MakeCluster,
) -> None:
    """Until then show says who is waited for; nobody is locked out."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = (cluster[f"mgt{n}"] for n in (1, 2, 3, 4))
    mgt4.kill()
    old = ca_files(mgt1)
    mgt3.kill()
    # Two of four voters is no quorum: mgt4 has to be back for the deletion.
    mgt4.start()
    cluster.wait_for_leader(of=[mgt1, mgt2, mgt4])
    mgt1.run("delete", "mgt3", check=True)
    mgt4.kill()

    def waits() -> bool:
        # With one of three off, no other one may restart its etcd: they are waited for too.
        return re.search(r"waits for .*mgt4", mgt2.run("show").out) is not None

    wait_until(lambda: waits() or is_rekeyed(mgt1), ENOUGH, "show names who is waited for")
    mgt4.start()
    wait_until_rekeyed(mgt4)
    assert len({ca_files(s) for s in (mgt1, mgt2, mgt4)}) == 1
    assert ca_files(mgt1) != old
    wait_until(lambda: "Re-keying" not in mgt1.run("show").out, 10, "the end is shown")
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt4])


def test_collective_of_one_rotates_its_ca(cluster: Cluster) -> None:
    """It has nobody to wait for."""
    (mgt1,) = cluster.add_running(1)
    mgt1.wait_for_quorum()
    before = ca_files(mgt1)
    mgt1.run("rotate-ca", check=True, timeout=120)
    assert ca_files(mgt1) != before
    mgt1.wait_for_quorum()


def test_second_deletion_during_a_rekeying_is_followed_by_another(
    make_cluster: MakeCluster,
) -> None:
    """The second one may have had the key that was to replace the first."""
    cluster = make_cluster(5)
    mgt1, mgt4, mgt5 = cluster["mgt1"], cluster["mgt4"], cluster["mgt5"]
    for server in (mgt4, mgt5):
        server.kill()
    mgt1.run("delete", "mgt4", check=True)
    wait_until(lambda: "waits for" in mgt1.run("show").out, ENOUGH, "it waits for mgt5")
    mgt1.run("delete", "mgt5", check=True)
    wait_until_rekeyed(mgt1, 2)


def test_rekeying_that_is_to_follow_begins_also_after_a_power_cut(cluster: Cluster) -> None:
    """The leader died between the end of the one and the beginning of the other."""
    (mgt1,) = cluster.add_running(1)
    mgt1.wait_for_quorum()
    mgt1.run("rotate-ca", check=True, timeout=120)
    found = json.loads(record(mgt1))
    before = ca_files(mgt1)
    mgt1.etcdctl("put", "collective/v1/rekey", json.dumps({**found, "again": True}))
    wait_until_rekeyed(mgt1, found["number"] + 1)
    assert ca_files(mgt1) != before


def test_rotation_under_way_is_waited_for_by_the_same_command(make_cluster: MakeCluster) -> None:
    """Whoever was cut off, or did not know, asks again and gets one new CA, not two."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt3.kill()
    with Running(mgt1, ("rotate-ca",)) as first:
        wait_until(lambda: "waits for" in mgt2.run("show").out, ENOUGH, "it waits for mgt3")
        with Running(mgt2, ("rotate-ca",)) as second:
            mgt3.start()
            ends = [first.end(), second.end()]
    assert all(end.startswith("ended with 0") for end in ends), ends
    assert is_rekeyed(mgt1)
    assert not is_rekeyed(mgt1, 2)


def test_rotation_without_a_quorum_is_refused(make_cluster: MakeCluster) -> None:
    """It says what is missing, and changes nothing."""
    cluster = make_cluster(3)
    mgt1 = cluster["mgt1"]
    before = ca_files(mgt1)
    cluster["mgt2"].kill()
    cluster["mgt3"].kill()
    assert_refused(mgt1.run("rotate-ca"), QuorumError, "quorum")
    assert ca_files(mgt1) == before
