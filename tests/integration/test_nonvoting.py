"""Servers that do not vote: invited, shown, moved to another voter, deleted, promoted, demoted."""

from __future__ import annotations

import json
import ssl
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from collective.daemon.member.credentials import Credentials
from collective.daemon.nonvoting import voters as voters_of
from collective.errors import InputError, QuorumError, RefusedError
from collective.failpoints import Step
from collective.model.view import CHANGE_KEY
from collective.protocol.peer import PeerClient, anybody
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import identity_of
from tests.harness.cluster import states
from tests.harness.failpoints import FailPoints
from tests.harness.impostor import peer_port
from tests.harness.running import Running
from tests.harness.short_run import is_full
from tests.harness.trouble import assert_refused, facts, settle, state_file

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 20.0


def join_nonvoting(cluster: Cluster, via: Server, **settings: str) -> Server:
    """Add a server that does not vote."""
    (server,) = cluster.add_running(1, **settings)
    token = via.run("invite", "-n", server.name, check=True).out
    assert server.run("join", via.door_name, "-i", "-", input=token, check=True).out == "Success\n"
    return server


def plan(server: Server) -> dict[str, object]:
    document: dict[str, object] = json.loads(state_file(server).read_text())
    return document


def roles(seen_by: Server) -> dict[str, str]:
    document = seen_by.ask_show()
    return {m["name"]: m["role"] for m in document["members"]} if document else {}


def voters(server: Server) -> set[str]:
    """Return the names of etcd's members."""
    return {line.split(", ")[2] for line in server.etcdctl("member", "list").lines}


def is_let_in_by_etcd(server: Server, by: Server) -> bool:
    """Tell whether a server's certificate opens the peer port of another one's etcd."""
    return peer_port(by, identity_of(server)) == "opened"


def wait_for_role(server: Server, role: str, seen_by: Server) -> None:
    wait_until(
        lambda: (
            roles(seen_by).get(server.name) == role
            and states(seen_by).get(server.name) == "active"
        ),
        SECONDS,
        f"{server.name} is an active {role}",
    )


def test_nonvoting_server_joins_and_is_shown_so_everywhere(make_cluster: MakeCluster) -> None:
    """It counts in no quorum, runs no etcd, is let in by none, and lists what the others list."""
    cluster = make_cluster(3)
    mgt1, mgt2 = cluster["mgt1"], cluster["mgt2"]
    mgt4 = join_nonvoting(cluster, mgt2)
    for server in cluster.servers.values():
        wait_for_role(mgt4, "nonvoting", server)
        document = server.wait_for_quorum()
        assert (document["voters"], document["needed"], document["spare"]) == (3, 2, 1)
        shown = server.run("show", check=True).lines
        assert "  mgt4 (nonvoting)" in shown
        assert shown[-1] == "1 more server may be lost."
    assert mgt4.etcd_pid is None
    assert not is_let_in_by_etcd(mgt4, mgt1)
    assert not Path(mgt4.layout.etcd_data).exists()
    assert plan(mgt4)["mode"] == "nonvoting"
    assert voters(mgt1) == {"mgt1", "mgt2", "mgt3"}
    entry = next(m for m in mgt4.show_json()["members"] if m["name"] == "mgt4")
    assert (entry["role"], entry["state"], entry["leads"]) == ("nonvoting", "active", False)


def test_nonvoting_server_lives_through_restarts_and_the_loss_of_its_voter(
    make_cluster: MakeCluster,
) -> None:
    """It starts from what it remembers, and any voter will do."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt4 = join_nonvoting(cluster, mgt1)
    mgt4.kill()
    mgt1.kill()
    cluster.wait_for_leader(of=[mgt2, mgt3])
    mgt4.start()
    seen = {"mgt1": "offline", "mgt2": "active", "mgt3": "active", "mgt4": "active"}
    wait_until(lambda: states(mgt4) == seen, SECONDS, "mgt4 sees who is there")
    mgt4.restart()
    mgt4.wait_for_quorum()
    wait_until(lambda: states(mgt2).get("mgt4") == "active", SECONDS, "mgt4 is active")


def test_without_a_quorum_a_nonvoting_server_claims_none(make_cluster: MakeCluster) -> None:
    """It is no third voter of two, and comes back by itself (P8)."""
    cluster = make_cluster(2, nonvoting_commands="invite")
    mgt1, mgt2 = cluster.servers.values()
    mgt3 = join_nonvoting(cluster, mgt1)
    mgt2.kill()
    result = mgt3.run("show")
    assert result.code == QuorumError.exit_code
    assert result.lines[:2] == ["Quorum: False", "Leader: unknown"]
    assert {line.split()[0] for line in result.lines if line.startswith("  ")} == {
        "mgt1",
        "mgt2",
        "mgt3",
    }
    assert_refused(mgt3.run("invite", "mgt9"), QuorumError)
    mgt2.start()
    mgt3.wait_for_quorum()
    assert mgt3.run("invite", "mgt9").code == 0


@pytest.mark.parametrize("setting", ["none", "demote, promote"])
def test_nonvoting_server_changes_nobody_but_itself(
    make_cluster: MakeCluster, setting: str
) -> None:
    """What is not allowed is refused by the voter, which is named, and nothing changes (P12)."""
    cluster = make_cluster(2, nonvoting_commands=setting)
    mgt1, mgt2 = cluster.servers.values()
    mgt4 = [join_nonvoting(cluster, via) for via in (mgt1, mgt2)][1]
    mgt1.run("invite", "mgt5", check=True)
    settle(mgt1)
    before = facts(mgt1)
    commands = [
        ("invite", "mgt6"),
        ("invite", "-n", "mgt6"),
        ("invite", "--replace", "mgt3"),
        ("invite", "--revoke", "mgt5"),
        ("delete", "mgt3", "--force"),
        ("delete", "mgt2", "--force"),
    ]
    if setting == "none":
        commands += [("promote", "mgt3"), ("promote", "mgt4"), ("demote", "mgt2")]
    for command in commands:
        result = mgt4.run(*command)
        assert_refused(result, RefusedError, "mgt4 does not vote, and mgt", "collective")
        assert "nonvoting_commands = " in result.err
    assert facts(mgt1) == before
    assert "mgt5" in mgt4.run("invite", "--list", check=True).out
    for told in (("invite", "mgt6"), ("delete", "mgt3", "--force"), ("promote", "mgt3")):
        mgt4.run(*told, "--dry-run", check=True)
    assert mgt4.run("gencert", check=True).out == "Certificate generated successfully\n"
    assert mgt4.run("delete", check=True).out == "mgt4 left its collective\n"


def test_who_gave_a_command_its_certificate_says(make_cluster: MakeCluster) -> None:
    """Neither a name in the request, nor a time that no voter would give."""
    cluster = make_cluster(2, nonvoting_commands="invite, demote")
    mgt1 = cluster["mgt1"]
    mgt3 = join_nonvoting(cluster, mgt1)
    mgt3.run("invite", "mgt5", check=True)
    (listed,) = json.loads(mgt1.run("invite", "--list", "--json", check=True).out)["invitations"]
    assert (listed["issuer"], listed["role"]) == ("mgt3", "voter")
    context = Credentials(Path(mgt3.layout.pki)).client_context
    for arguments, says in (
        ({"server": "mgt6", "ttl": 10**9}, "from 10s to 30d"),
        ({"server": "mgt6", "ttl": "1"}, "must be a number"),
    ):
        with pytest.raises(InputError, match=says):
            send_command(context, mgt1, "invite", arguments)
    send_command(context, mgt1, "invite", {"server": "mgt7", "issuer": "mgt1", "by": "mgt1"})
    invitations = json.loads(mgt1.run("invite", "--list", "--json", check=True).out)
    assert {i["name"]: i["issuer"] for i in invitations["invitations"]}["mgt7"] == "mgt3"
    send_command(context, mgt1, "demote", {"server": "mgt2", "by": "mgt1"})
    change = json.loads(mgt1.etcdctl("get", CHANGE_KEY, "--print-value-only").out)
    assert (change["kind"], change["name"], change["by"]) == ("demote", "mgt2", "mgt3")


def send_command(
    context: ssl.SSLContext, voter: Server, command: str, arguments: Mapping[str, Any]
) -> Any:
    """Send a command as a server with these credentials can, whatever its own daemon would say."""
    peer = PeerClient(voter.address, voter.port, context, anybody)
    try:
        return voters_of.run_at(peer, voter.name, command, arguments, lambda *_: None)
    finally:
        peer.close()


def test_nonvoting_server_invites_deletes_and_renews(make_cluster: MakeCluster) -> None:
    """Where the voters allow it, one does it for it; a joiner is told whom to ask."""
    cluster = make_cluster(3, nonvoting_commands="invite, delete")
    mgt1, mgt2 = cluster["mgt1"], cluster["mgt2"]
    mgt4 = join_nonvoting(cluster, mgt1)
    (mgt5,) = cluster.add_running(1)
    token = mgt4.run("invite", "mgt5", check=True).out
    refused = mgt5.run("join", mgt4.door_name, "-i", "-", input=token)
    assert_refused(refused, RefusedError, "mgt4 does not vote", "mgt1, mgt2, mgt3")
    mgt5.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    assert roles(mgt4)["mgt5"] == "voter"
    before = mgt4.show_json()["members"]
    assert mgt4.run("gencert", check=True).out == "Certificate generated successfully\n"
    assert mgt4.wait_for_quorum()["members"] != before
    wait_until(lambda: states(mgt1).get("mgt4") == "active", SECONDS, "mgt4 is active")
    assert_refused(mgt4.run("delete", "mgt5"), RefusedError, "it is active")
    assert mgt4.run("delete", "mgt5", "--force", check=True).out == "mgt5 is deleted\n"
    wait_until(lambda: mgt5.is_removed, SECONDS, "mgt5 knows")
    assert voters(mgt1) == {"mgt1", "mgt2", "mgt3"}


def test_nonvoting_server_is_deleted_and_locked_out(make_cluster: MakeCluster) -> None:
    """Like any other: confirmed by all, it rests, and can be invited again (P4)."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt3, mgt4 = join_nonvoting(cluster, mgt1), join_nonvoting(cluster, mgt2)
    assert_refused(mgt1.run("delete", "mgt3"), RefusedError, "it is active")
    result = mgt1.run("delete", "mgt3", "--force", check=True)
    assert "locked out of: mgt1, mgt2, mgt4" in result.err
    wait_until(lambda: mgt3.is_removed, SECONDS, "mgt3 knows")
    assert mgt3.run("show").code == 6
    assert set(roles(mgt2)) == {"mgt1", "mgt2", "mgt4"}
    assert mgt2.run("delete", "mgt3", check=True).out == "mgt3 is deleted\n", "asked again"
    left = mgt4.run("delete", check=True)
    assert left.out == "mgt4 left its collective\n"
    assert set(roles(mgt1)) == {"mgt1", "mgt2"}
    token = mgt1.run("invite", "-n", "mgt3", check=True).out
    mgt3.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    assert roles(mgt1)["mgt3"] == "nonvoting"


def test_nonvoting_joiner_that_never_answers_is_put_out(new_cluster: MakeCluster) -> None:
    """Its record goes, and it comes to rest when it is back."""
    cluster = new_cluster(learner_timeout="10s")
    with FailPoints(cluster) as points:
        (mgt1,) = cluster.grow(1)
        (mgt2,) = cluster.add_running(1)
        token = mgt1.run("invite", "-n", "mgt2", check=True).out
        join = ("join", mgt1.door_name, "-i", "-")
        with points.at(Step.JOIN_ADOPT, mgt2) as held, Running(mgt2, join, token) as joined:
            held.wait(SECONDS)
            mgt2.kill()
            joined.end()
        assert plan(mgt2)["mode"] == "joining"
        wait_until(lambda: set(roles(mgt1)) == {"mgt1"}, 30.0, "mgt2 is put out")
        mgt2.start()
        wait_until(lambda: mgt2.is_removed, SECONDS, "mgt2 rests")


def test_server_is_promoted_and_votes(make_cluster: MakeCluster) -> None:
    """It catches up first, every etcd lets it in, and then it counts: one more may be lost."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt3 = join_nonvoting(cluster, mgt1)
    told = mgt2.run("promote", "mgt3", "--dry-run", check=True)
    assert (told.out, roles(mgt1)["mgt3"]) == ("", "nonvoting")
    assert "with mgt3: 3 voters, quorum 2, 1 more may be lost" in told.err
    result = mgt2.run("promote", "mgt3", check=True)
    assert result.out == "mgt3 votes\n"
    assert "with mgt3: 3 voters, quorum 2, 1 more may be lost" in result.err
    wait_until(lambda: plan(mgt3)["mode"] == "member", SECONDS, "mgt3 is a member")
    for server in cluster.servers.values():
        wait_for_role(mgt3, "voter", server)
    assert is_let_in_by_etcd(mgt3, mgt1)
    assert voters(mgt3) == {"mgt1", "mgt2", "mgt3"}
    mgt1.kill()
    cluster.wait_for_leader(of=[mgt2, mgt3])
    mgt3.restart()
    mgt3.wait_for_quorum()
    assert mgt2.run("promote", "mgt3", check=True).out == "mgt3 votes\n"


@pytest.mark.parametrize("at", ["another", "itself", "nonvoting"])
def test_leader_is_demoted_and_goes_on_without_a_vote(make_cluster: MakeCluster, at: str) -> None:
    """From any member: leadership goes first, then its data aside, and no etcd lets it in."""
    cluster = make_cluster(3, nonvoting_commands="demote")
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt4 = join_nonvoting(cluster, mgt1)
    leader = cluster.wait_for_leader()
    others = [server for server in (mgt1, mgt2, mgt3) if server is not leader]
    run_at = {"another": others[0], "itself": leader, "nonvoting": mgt4}[at]
    told = json.loads(run_at.run("demote", leader.name, "--dry-run", "--json", check=True).out)
    assert (told["forecast"]["before"]["voters"], told["forecast"]["after"]["voters"]) == (3, 2)
    assert roles(mgt4)[leader.name] == "voter"
    result = run_at.run("demote", leader.name, check=True)
    assert result.out == f"{leader.name} does not vote\n"
    assert "2 voters, quorum 2, none may be lost; a third voter is wanted" in result.err
    for server in cluster.servers.values():
        wait_for_role(leader, "nonvoting", server)
    assert voters(others[0]) == {server.name for server in others}
    assert leader.etcd_pid is None
    assert not is_let_in_by_etcd(leader, others[0])
    document = leader.wait_for_quorum()
    aside = [Path(place) for place in document["set_aside"]]
    assert any(place.name == "etcd" and (place / "member").exists() for place in aside)
    assert others[0].run("demote", leader.name, check=True).out.endswith("does not vote\n")
    leader.restart()
    leader.wait_for_quorum()
    assert others[1].run("promote", leader.name, check=True).out == f"{leader.name} votes\n"
    wait_for_role(leader, "voter", mgt4)


def test_promotion_and_demotion_are_refused_with_nothing_changed(
    make_cluster: MakeCluster,
) -> None:
    """Unknown names, servers that do not answer, the last voter, a quorum that would go."""
    cluster = make_cluster(2)
    mgt1 = cluster["mgt1"]
    mgt3 = join_nonvoting(cluster, mgt1)
    settle(mgt1)
    before = facts(mgt1)
    assert_refused(mgt1.run("promote", "mgt9"), InputError, "no such member")
    assert_refused(mgt1.run("demote", "mgt9"), InputError, "no such member")
    mgt3.kill()
    assert_refused(mgt1.run("promote", "mgt3"), RefusedError, "does not answer")
    assert facts(mgt1) == before
    mgt3.start()
    mgt3.wait_for_quorum()
    mgt1.run("demote", "mgt2", check=True)
    assert_refused(mgt1.run("demote", "mgt1"), RefusedError, "only voter")
    assert_refused(mgt3.run("demote", "mgt1"), RefusedError, "only voter")
    assert_refused(mgt1.run("delete"), RefusedError, "only voter")


def test_promotion_without_the_server_is_given_up_and_it_stays_what_it_was(
    new_cluster: MakeCluster,
) -> None:
    """A learner that does not come is no learner any more, and the server goes on as before."""
    cluster = new_cluster(learner_timeout="10s")
    mgt1, mgt2 = cluster.grow(2)
    mgt3 = join_nonvoting(cluster, mgt1)
    child = mgt1.popen("promote", "mgt3")
    wait_until(
        lambda: roles(mgt1).get("mgt3") == "learner" or plan(mgt3)["mode"] == "joining",
        SECONDS,
        "mgt3 is a learner",
    )
    mgt3.kill()
    if roles(mgt1)["mgt3"] == "learner":
        wait_until(lambda: roles(mgt1).get("mgt3") == "nonvoting", 60.0, "mgt3 is nonvoting again")
        assert child.wait(60.0) == RefusedError.exit_code
    child.kill()
    child.wait()
    mgt3.start()
    wait_until(lambda: states(mgt1).get("mgt3") == "active", SECONDS, "mgt3 is back")
    if roles(mgt1)["mgt3"] == "nonvoting":
        assert plan(mgt3)["mode"] == "nonvoting"
        mgt2.run("promote", "mgt3", check=True)
    wait_for_role(mgt3, "voter", mgt1)


def test_many_nonvoting_servers_follow_one_collective(new_cluster: MakeCluster) -> None:
    """Any number of them: here ten, with three voters, or five in a short run."""
    cluster = new_cluster()
    mgt1, mgt2, mgt3 = cluster.grow(3)
    more = cluster.add_running(10 if is_full() else 5)
    for number, server in enumerate(more):
        via = (mgt1, mgt2, mgt3)[number % 3]
        token = via.run("invite", "-n", server.name, check=True).out
        server.run("join", via.door_name, "-i", "-", input=token, check=True)
    everybody = {server.name: "active" for server in cluster.servers.values()}
    for server in (mgt1, *more):
        wait_until(lambda: states(server) == everybody, 60.0, f"{server.name} sees all")  # noqa: B023
    assert mgt1.show_json()["voters"] == 3


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_watch_and_reads_go_on_when_a_voter_is_lost(make_cluster: MakeCluster, how: str) -> None:
    """Whichever voter it follows: a change made after the loss is seen within a few seconds."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt4 = join_nonvoting(cluster, mgt1)
    gaps = []
    for victim in (mgt1, mgt2, mgt3):
        rest = [server for server in (mgt1, mgt2, mgt3) if server is not victim]
        begun = time.monotonic()
        victim.kill() if how == "kill" else victim.pause()
        document = mgt4.wait_for_quorum()
        gaps.append(time.monotonic() - begun)
        assert document["leader"] != victim.name
        rest[0].run("invite", f"new-{victim.name}", check=True)
        victim.start() if how == "kill" else victim.resume()
        cluster.wait_until_all_active(mgt4, cluster.servers.values())
    assert statistics.median(gaps) < 5.0
