"""Invitations that are listed, revoked and replaced; dry runs; and answers as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from collective.errors import InputError, InvitationError, QuorumError, RefusedError
from tests.harness import Cluster, Result, Server, wait_until
from tests.harness.certificates import own
from tests.harness.cluster import states
from tests.harness.trouble import assert_refused, facts, one_etcd, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 20.0


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: what etcd itself does is tried on all of them elsewhere."""
    return one_etcd()


def result_of(command: Result) -> dict[str, Any]:
    """Return the one JSON object on standard output."""
    document: dict[str, Any] = json.loads(command.out)
    assert document["format"] == 1
    return document


def test_invitations_are_listed_and_revoked(make_cluster: MakeCluster) -> None:
    """On any member; a revoked token lets nobody in, and the others stay good."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    settle(mgt3)
    assert "no invitation is pending" in mgt2.run("invite", "--list", check=True).err

    token = mgt1.run("invite", "mgt3", check=True).out
    mgt1.run("invite", "mgt10", "--ttl", "2h", check=True)
    lines = mgt2.run("invite", "--list", check=True).lines
    assert [line.split()[:2] for line in lines] == [["mgt3", "voter"], ["mgt10", "voter"]]
    assert all("invited by mgt1, expires in" in line for line in lines)
    listed = result_of(mgt2.run("invite", "--list", "--json", check=True))["invitations"]
    assert [(i["name"], i["role"], i["issuer"], i["claimed"]) for i in listed] == [
        ("mgt3", "voter", "mgt1", False),
        ("mgt10", "voter", "mgt1", False),
    ]
    assert 0 < listed[0]["expires_in"] <= 3600 < listed[1]["expires_in"] <= 7200

    assert mgt2.run("invite", "--revoke", "mgt3", check=True).out.startswith("the invitation")
    result = mgt3.run("join", mgt1.door_name, input=token)
    assert_refused_after_steps(result, "no invitation for mgt3")
    again = mgt2.run("invite", "--revoke", "mgt3")
    assert_refused(again, InputError, "there is no invitation for mgt3", "mgt10")
    assert mgt1.run("invite", "--list", check=True).out.startswith("mgt10  voter")
    assert cluster.join(mgt3, mgt2).out == "Success\n"


def assert_refused_after_steps(result: Result, words: str) -> None:
    assert (result.code, result.out) == (InvitationError.exit_code, "")
    assert words in result.err


def test_dry_run_says_what_would_be_and_changes_nothing(make_cluster: MakeCluster) -> None:
    """Of every command that has one, on all servers; the lines are those of the real one."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    (mgt4,) = cluster.add_running(1)
    settle(mgt4)
    token = mgt1.run("invite", "mgt4", check=True).out
    everybody = [mgt1, mgt2, mgt3, mgt4]
    before = [facts(server) for server in everybody]

    now = "collective: now: 3 voters, quorum 2, 1 more may be lost"
    more = "collective: with mgt4: 4 voters, quorum 3, 1 more may be lost"
    fewer = "2 voters, quorum 2, none may be lost; a third voter is wanted"
    joined = ("join", "--dry-run", mgt2.door_name, "-i", "-")
    for result, line in (
        (mgt1.run("invite", "mgt4", "--dry-run", check=True), more),
        (mgt4.run(*joined, input=token, check=True), more),
        (
            mgt1.run("delete", "mgt3", "--force", "--dry-run", check=True),
            f"collective: without mgt3: {fewer}",
        ),
        (mgt2.run("delete", "--dry-run", check=True), f"collective: without mgt2: {fewer}"),
    ):
        assert (result.out, result.err.splitlines()) == ("", [now, line])
    revoked = mgt1.run("invite", "--revoke", "mgt4", "--dry-run", check=True)
    assert "would be revoked" in revoked.err

    assert_refused(mgt1.run("delete", "mgt3", "--dry-run"), RefusedError, "it is active")
    assert_refused(mgt1.run("invite", "mgt2", "--dry-run"), RefusedError, "is a member")
    replaced = mgt1.run("invite", "--replace", "mgt3", "--dry-run")
    assert_refused(replaced, RefusedError, "cannot replace mgt3: it is active")
    assert [facts(server) for server in everybody] == before
    assert mgt4.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"


def test_refusal_has_its_numbers_in_a_dry_run_and_as_json(make_cluster: MakeCluster) -> None:
    """P1: voters, how many answer, quorum before and after; the lines stay beside the object."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt3.kill()
    wait_until(lambda: states(mgt1).get("mgt3") == "offline", SECONDS, "mgt3 is seen as offline")
    numbers = "1 of 2 voters would remain reachable, quorum is 2 (now 2 of 3, quorum 2)"
    plain = mgt1.run("delete", "mgt2", "--force", "--dry-run")
    assert_refused(plain, QuorumError, numbers, "start mgt3 first")

    result = mgt1.run("delete", "mgt2", "--force", "--dry-run", "--json")
    assert (result.code, result.err) == (plain.code, plain.err)
    told = result_of(result)["error"]
    assert told["code"] == "quorum"
    assert numbers in told["message"]
    assert told["hint"] == "start mgt3 first"
    assert states(mgt1) == {"mgt1": "active", "mgt2": "active", "mgt3": "offline"}

    # The dead one may go, and says what that leaves.
    gone = result_of(mgt2.run("delete", "mgt3", "--json", check=True))
    assert (gone["name"], gone["left"], gone["confirmed"]) == ("mgt3", False, ["mgt1", "mgt2"])
    assert gone["forecast"]["before"] == {"voters": 3, "answering": 2, "quorum": 2, "spare": 0}
    assert gone["forecast"]["after"] == {"voters": 2, "answering": 2, "quorum": 2, "spare": 0}


def test_invitation_and_join_as_json(cluster: Cluster) -> None:
    """The token and the numbers; steps stay on standard error."""
    mgt1, mgt2 = cluster.add_running(2)
    invited = result_of(mgt1.run("invite", "mgt2", "--json", check=True))
    assert (invited["name"], invited["role"], invited["issuer"]) == ("mgt2", "voter", "mgt1")
    assert invited["forecast"]["after"]["voters"] == 2
    result = mgt2.run("join", mgt1.door_name, "--json", input=invited["token"], check=True)
    joined = result_of(result)
    assert "collective: dial: " in result.err
    assert joined["name"] == "mgt2"
    assert joined["forecast"]["after"] == {"voters": 2, "answering": 2, "quorum": 2, "spare": 0}
    assert any(place.endswith("/etcd") for place in joined["set_aside"])


def reinstall(server: Server) -> None:
    """Start a server anew with nothing of what it had."""
    server.end()
    shutil.rmtree(server.layout.data)
    server.start()
    server.wait_for_quorum()


def test_reinstalled_server_is_replaced_under_its_name(make_cluster: MakeCluster) -> None:
    """Refused while it answers; then the old one is locked out and the new one comes in."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    live = mgt1.run("invite", "--replace", "mgt3")
    assert_refused(live, RefusedError, "cannot replace mgt3: it is active", "delete mgt3 --force")
    unknown = mgt1.run("invite", "--replace", "mgt9")
    assert_refused(unknown, InputError, "no such member", "mgt1, mgt2, mgt3")

    reinstall(mgt3)
    wait_until(lambda: states(mgt1).get("mgt3") == "offline", SECONDS, "mgt3 is not what it was")
    assert mgt1.run("invite", "mgt3").code == RefusedError.exit_code

    result = mgt1.run("invite", "--replace", "mgt3", check=True)
    assert len(result.lines) == 1
    for words in ("mgt3 is locked out of: mgt1, mgt2", "with mgt3: 3 voters", own(mgt1)):
        assert words in result.err
    assert states(mgt2) == {"mgt1": "active", "mgt2": "active"}
    # As after a cut between the deletion and the token: the same command gives one.
    token = mgt1.run("invite", "--replace", "mgt3", check=True).out
    assert mgt3.run("join", mgt2.door_name, input=token, check=True).out == "Success\n"
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])
