"""The five commands on real servers, over every etcd: what they print, and what holds after.

Exact lines are those of standard output, which scripts read; the rest is for people, and only
its gist is tested.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from collective.errors import InputError, PendingError, RefusedError, RemovedError
from tests.harness import Cluster, wait_until
from tests.harness.certificates import own, served_fingerprint
from tests.harness.cluster import states
from tests.harness.processes import stopped
from tests.harness.trouble import assert_refused
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]

ALONE = "No more servers may be lost (three servers are needed to survive the loss of one)."
NO_SPARE = "No more servers may be lost."
ONE_SPARE = "1 more server may be lost."
SECONDS = 10.0


def shown(
    leader: str, active: list[str], last: str, offline: list[str] | None = None
) -> list[str]:
    """The lines of show with a quorum."""
    lines = ["Quorum: True", f"Leader: {leader}", "Active collective members:"]
    lines += [f"  {name}" for name in active]
    if offline:
        lines += ["Offline collective members:", *(f"  {name}" for name in offline)]
    return [*lines, last]


def test_manuals_flow_makes_collective_of_three(cluster: Cluster) -> None:
    """The commands of the manual print its lines, and any member invites and takes in."""
    mgt1, mgt2, mgt3 = cluster.add_running(3)

    alone = mgt1.run("show", check=True)
    assert alone.lines == shown("mgt1", [], ALONE)
    assert "collective invite" in alone.err
    assert mgt1.run("gencert", check=True).out == "Certificate generated successfully\n"

    first = mgt1.run("invite", "mgt2", check=True)
    assert base64.b64decode(first.out.strip())[:5] == b"mgt2@"
    assert len(first.lines) == 1
    now, then = first.err.splitlines()
    assert now == "collective: now: 1 voter, quorum 1, none may be lost"
    assert then.startswith("collective: with mgt2: 2 voters, quorum 2, still none may be lost; a ")
    joined = mgt2.run("join", mgt1.door_name, "-i", "-", input=first.out, check=True)
    assert joined.out == "Success\n"
    assert mgt1.run("show", check=True).lines == shown("mgt1", ["mgt2"], ALONE)

    second = mgt2.run("invite", "mgt3", check=True)
    assert mgt3.run("join", mgt2.door_name, input=second.out, check=True).out == "Success\n"
    # The etcd of whoever led was restarted last, and had handed leadership over.
    leader = cluster.wait_for_leader([mgt1, mgt2, mgt3]).name
    others = [name for name in ("mgt1", "mgt2", "mgt3") if name != leader]
    for server in (mgt1, mgt2, mgt3):
        assert server.run("show", check=True).lines == shown(leader, others, ONE_SPARE)


def test_token_as_argument_or_file_joins_too(cluster: Cluster) -> None:
    """The manual's one-liner passes the token as an argument; a file keeps it out of sight."""
    mgt1, mgt2, mgt3 = cluster.add_running(3)

    token = mgt1.run("invite", "mgt2", check=True).out.strip()
    assert mgt2.run("join", mgt1.door_name, "-i", token, check=True).out == "Success\n"

    file = cluster.root / "token"
    file.write_text(mgt1.run("invite", "mgt3", check=True).out)
    assert mgt3.run("join", mgt1.door_name, "-i", f"@{file}", check=True).out == "Success\n"


def test_show_agrees_with_etcdctl_on_every_member(make_cluster: MakeCluster, etcd: Etcd) -> None:
    """Members, ids, leader and term are what etcd says they are, never a second opinion."""
    if etcd.etcdctl is None:
        pytest.skip("no etcdctl beside this etcd")
    for server in make_cluster(3).servers.values():
        document = server.show_json()
        status = json.loads(server.etcdctl("endpoint", "status", "-w", "json").out)[0]["Status"]
        listed = server.etcdctl("member", "list").lines
        # etcdctl leaves leading zeros of an id out.
        fields = [line.split(", ") for line in listed]
        members = {member_id.zfill(16): name for member_id, _, name, *_ in fields}

        assert {member["id"]: member["name"] for member in document["members"]} == members
        assert members[f"{status['leader']:016x}"] == document["leader"]
        own = by_name(document)[server.name]
        assert own["raft_term"] == status["raftTerm"]
        assert own["etcd_version"] == etcd.version_text


def test_show_json_has_all_that_is_known(make_cluster: MakeCluster) -> None:
    """The fields that scripts read are there, and say the same as the lines do."""
    cluster = make_cluster(3)

    mgt2 = cluster["mgt2"]

    def every_door_is_looked_at() -> bool:
        members = mgt2.show_json()["members"]
        return all(member["certificate_fingerprint"] for member in members)

    wait_until(every_door_is_looked_at, SECONDS, "the certificate that each door serves is known")
    document = mgt2.show_json()

    assert document["name"] == "mgt2"
    assert document["quorum"] is True
    assert document["leader"] == "mgt1"
    assert document["errors"] == []
    assert [member["name"] for member in document["members"]] == ["mgt1", "mgt2", "mgt3"]
    assert (document["voters"], document["answering"], document["needed"]) == (3, 3, 2)
    for name, member in by_name(document).items():
        assert member["address"] == cluster[name].address
        assert member["door_port"] == cluster.ports.door
        assert member["peer_port"] == cluster.ports.peer
        assert (member["role"], member["state"], member["errors"]) == ("voter", "active", [])
        assert member["leads"] is (name == "mgt1")
        for key in ("raft_term", "raft_index", "raft_applied", "database_bytes"):
            assert member[key] > 0, key
        assert member["lag"] >= 0
        assert member["certificate_fingerprint"] == served_fingerprint(cluster[name])
        assert member["release"] > ""


def test_delete_of_live_member_needs_force(make_cluster: MakeCluster) -> None:
    """A member that answers is refused, and stays; with --force it goes, and knows it soon."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()

    refused = mgt1.run("delete", "mgt3")
    assert (refused.code, refused.out) == (RefusedError.exit_code, "")
    assert "--force" in refused.err
    assert mgt1.run("show", check=True).lines == shown("mgt1", ["mgt2", "mgt3"], ONE_SPARE)

    gone = mgt1.run("delete", "mgt3", "--force", check=True)
    assert gone.out == "mgt3 is deleted\n"
    assert mgt2.run("show", check=True).lines == shown("mgt1", ["mgt2"], ALONE)
    wait_until(lambda: mgt3.is_removed, SECONDS, "mgt3 knows that it was deleted")


def test_delete_of_leader_leaves_the_others_with_quorum(make_cluster: MakeCluster) -> None:
    """The leader can be deleted like any other: no server is special."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    gone = mgt2.run("delete", "mgt1", "--force", check=True)
    assert gone.out == "mgt1 is deleted\n"
    leader = cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    other = "mgt3" if leader is mgt2 else "mgt2"
    assert mgt3.run("show", check=True).lines == shown(leader.name, [other], ALONE)
    wait_until(lambda: mgt1.is_removed, SECONDS, "mgt1 knows that it was deleted")


def test_deleted_server_says_so_and_can_be_invited_again(make_cluster: MakeCluster) -> None:
    """Its show ends with 6, its old data is where it says, and a new invitation brings it back."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt1.run("delete", "mgt2", "--force", check=True)
    wait_until(lambda: mgt2.is_removed, SECONDS, "mgt2 knows that it was deleted")

    result = mgt2.run("show")
    assert result.code == RemovedError.exit_code
    assert result.lines[:2] == ["Quorum: False", "Leader: unknown"]
    assert "mgt2 was deleted from its collective" in result.err
    assert "mgt1" not in result.out
    assert mgt2.run("invite", "mgt9").code == RemovedError.exit_code

    assert cluster.join(mgt2, mgt1).out == "Success\n"

    def whole() -> bool:
        return mgt2.run("show").lines == shown("mgt1", ["mgt2"], ALONE)

    wait_until(whole, SECONDS, "mgt2 takes part")


@pytest.mark.peers(11)
def test_server_deleted_while_offline_learns_it_when_it_returns(make_cluster: MakeCluster) -> None:
    """No --force is needed; the server that comes back gets no say, and says why."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt3.stop()
    wait_until(lambda: states(mgt1).get("mgt3") == "offline", SECONDS, "mgt3 is seen as offline")
    lines = mgt1.run("show", check=True).lines
    assert lines == shown("mgt1", ["mgt2"], NO_SPARE, offline=["mgt3"])

    assert mgt1.run("delete", "mgt3", check=True).out == "mgt3 is deleted\n"
    mgt3.start()
    wait_until(lambda: mgt3.is_removed, SECONDS, "mgt3 knows that it was deleted")
    assert mgt3.run("show").code == RemovedError.exit_code
    assert mgt2.run("show", check=True).lines == shown("mgt1", ["mgt2"], ALONE)


def test_delete_without_name_takes_this_server_out(make_cluster: MakeCluster) -> None:
    """The leader leaves: another one leads, and the one that left can come back."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()

    left = mgt1.run("delete", check=True)
    assert left.out == "mgt1 left its collective\n"
    assert str(cluster.root) in left.err
    assert mgt1.run("show").code == RemovedError.exit_code
    leader = cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    assert states(mgt2) == {"mgt2": "active", "mgt3": "active"}

    assert cluster.join(mgt1, leader).out == "Success\n"
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])


def test_gencert_makes_deleted_server_a_collective_of_one(make_cluster: MakeCluster) -> None:
    """A server that was deleted and is not wanted back starts over by itself."""
    mgt1, mgt2 = make_cluster(2).servers.values()
    mgt2.run("delete", check=True)
    assert mgt2.run("gencert", check=True).out == "Certificate generated successfully\n"
    mgt2.wait_for_quorum()
    assert mgt2.run("show", check=True).lines == shown("mgt2", [], ALONE)
    assert mgt1.run("show", check=True).lines == shown("mgt1", [], ALONE)


def test_delete_of_last_or_unknown_member_is_refused(cluster: Cluster) -> None:
    """Each is one clear error, and changes nothing."""
    (mgt1,) = cluster.add_running(1)
    assert mgt1.run("delete").code == RefusedError.exit_code
    assert mgt1.run("delete", "mgt1", "--force").code == RefusedError.exit_code
    assert mgt1.run("delete", "mgt9").code == InputError.exit_code
    assert mgt1.run("show", check=True).lines == shown("mgt1", [], ALONE)


def test_gencert_in_collective_gives_new_certificate_that_works(make_cluster: MakeCluster) -> None:
    """It is in use at both doors; the others' etcds were restarted for it, its own was not."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    before, former = mgt2.etcd_pid, own(mgt2)
    made = mgt2.run("gencert", check=True)
    assert made.out == "Certificate generated successfully\n"
    assert former in made.err
    assert own(mgt2) in made.err
    assert mgt2.etcd_pid == before
    assert served_fingerprint(mgt2) == served_fingerprint(mgt2, mgt2.peer_port) == own(mgt2)
    assert own(mgt2) != former
    mgt3.restart()
    cluster.wait_until_all_active(mgt1, cluster.servers.values())
    cluster.wait_until_all_active(mgt2, cluster.servers.values())


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {member["name"]: member for member in document["members"]}


def test_delete_that_a_member_has_not_heard_of_is_not_done(make_cluster: MakeCluster) -> None:
    """A member that answers and may still let the server in: that is no success (P4)."""
    cluster = make_cluster(5)
    mgt1, mgt2, mgt3, mgt4, mgt5 = cluster.servers.values()
    mgt5.kill()
    assert mgt2.etcd_pid is not None
    with stopped(mgt2.etcd_pid):
        deleted = mgt1.run("delete", "mgt5", "--force", timeout=90)
    assert_refused(deleted, PendingError, "mgt5 is deleted", "not cut off yet by mgt2 (")
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3, mgt4])
    again = mgt1.run("delete", "mgt5", check=True)
    assert "locked out of: mgt1, mgt2, mgt3, mgt4" in again.err
