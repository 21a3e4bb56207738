"""What is wrong before a join: found on both sides, told together, and nothing is changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import (
    InputError,
    InvitationError,
    PreflightError,
    RefusedError,
    UnreachableError,
)
from tests.harness import Cluster, Server
from tests.harness.trouble import assert_refused, facts, one_etcd, settle
from tests.integration.test_trouble_join import crashing_etcd
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
LOCAL = ("server", "token", "name", "collective", "address", "ports", "data", "disk")
REMOTE = ("reach", "member", "guest", "release", "clock", "nat", "timing")
JUDGED = ("invitation", "loopback", "dial-back", "peers")


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: no etcd takes part in a preflight."""
    return one_etcd()


def checks(lines: list[str]) -> dict[str, str]:
    """Return each check with what came of it."""
    words = [line.split() for line in lines]
    return {check.rstrip(":"): outcome for outcome, check, *_ in words}


def assert_same_certificate(server: Server) -> None:
    """See that a server has made itself no other certificate than that of its first start."""
    assert not Path(server.layout.pki, "next.pem").exists()
    assert not Path(server.layout.pki, "succession.json").exists()


def test_check_with_a_token_makes_all_checks_and_changes_nothing(cluster: Cluster) -> None:
    """The member judges the proof and dials back without claiming; then the join works."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1), facts(mgt2)

    result = mgt2.run("join", "--check", mgt1.door_name, "-i", "-", input=token, check=True)
    assert checks(result.lines) == dict.fromkeys((*LOCAL, *REMOTE, *JUDGED), "ok")
    assert result.err.splitlines()[1].startswith("collective: with mgt2: 2 voters, quorum 2")
    assert (facts(mgt1), facts(mgt2)) == before
    assert_same_certificate(mgt2)
    assert mgt2.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"


def test_check_without_a_token_says_what_it_leaves_out(cluster: Cluster) -> None:
    """It does not ask for one, and does not wait for one."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    settle(mgt2)
    before = facts(mgt1), facts(mgt2)
    result = mgt2.run("join", "--check", mgt1.door_name, check=True)
    left_out = ("token", "name", "guest", *JUDGED)
    every = (*LOCAL, *REMOTE, *JUDGED)
    assert checks(result.lines) == {c: "skipped" if c in left_out else "ok" for c in every}
    assert result.err == ""
    assert (facts(mgt1), facts(mgt2)) == before


def test_all_problems_are_told_together_before_any_change(cluster: Cluster) -> None:
    """Of both servers: a wrong address, a bad token, and a server that is not there."""
    mgt1 = cluster.add()
    mgt2 = cluster.add(address="192.0.2.9", listen="127.0.0.2")
    cluster.start_all([mgt1, mgt2])
    settle(mgt1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt9", check=True).out
    before = facts(mgt1), facts(mgt2)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"127.0.0.1:{listener.getsockname()[1]}"
    result = mgt2.run("join", closed, input=token)
    assert (result.code, result.out) == (PreflightError.exit_code, "")
    errors = [line for line in result.err.splitlines() if ": error: " in line]
    assert errors[0].endswith(
        f"cannot join {closed}: 3 problems were found, and nothing was changed"
    )
    assert [line.split(": ")[2] for line in errors[1:]] == ["name", "address", "reach"]
    for word in ("mgt9", "192.0.2.9", closed, "invite mgt2", "setting 'address'"):
        assert word in result.err

    told = json.loads(mgt2.run("join", closed, "--json", input=token).out)["error"]
    assert told["code"] == "preflight"
    assert [(p["check"], p["code"]) for p in told["problems"]] == [
        ("name", "invitation"),
        ("address", "input"),
        ("reach", "unreachable"),
    ]
    checked = mgt2.run("join", "--check", closed, "-i", "-", input=token)
    assert checked.code == PreflightError.exit_code
    outcomes = checks(checked.lines)
    assert {c for c, outcome in outcomes.items() if outcome == "problem"} == {
        "name",
        "address",
        "reach",
    }
    assert outcomes["disk"] == "ok"
    assert (facts(mgt1), facts(mgt2)) == before
    assert_same_certificate(mgt2)


def test_one_problem_keeps_its_own_exit_status(cluster: Cluster) -> None:
    """Found by the joiner, by the member, or by the dial-back, and without claiming."""
    mgt1 = cluster.add()
    mgt2 = cluster.add(address="127.0.0.9", listen="127.0.0.2")
    cluster.start_all([mgt1, mgt2])
    settle(mgt1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1), facts(mgt2)
    dialled = mgt2.run("join", "--dry-run", mgt1.door_name, "-i", "-", input=token)
    assert_refused(dialled, UnreachableError, "127.0.0.9", "setting 'address' on mgt2")
    real = mgt2.run("join", mgt1.door_name, input=token)
    assert_refused(real, UnreachableError, "127.0.0.9", "setting 'address' on mgt2")
    assert (facts(mgt1), facts(mgt2)) == before

    newer = mgt1.run("invite", "mgt2", check=True).out
    assert newer != token
    old = mgt2.run("join", "--check", mgt1.door_name, "-i", "-", "--json", input=token)
    assert old.code == InvitationError.exit_code
    document = json.loads(old.out)
    found = {c["check"]: c["ok"] for c in document["checks"]}
    # Who has no good invitation is not dialled, and learns nothing of the members.
    assert (found["invitation"], found["dial-back"], found["peers"]) == (False, None, None)
    assert document["forecast"] is None
    assert document["error"]["code"] == "invitation"


def test_taken_peer_port_is_found_before_any_change(cluster: Cluster, tmp_path: Path) -> None:
    """Another program has it: etcd could never start as learner."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    mgt2.stop()
    mgt2.configure(etcd=crashing_etcd(tmp_path))
    before = facts(mgt1)
    with socket.create_server((mgt2.address, mgt2.peer_port)):
        mgt2.start()
        result = mgt2.run("join", mgt1.door_name, input=token)
        assert_refused(result, InputError, f"{mgt2.address}:{mgt2.peer_port}", "in use")
    assert facts(mgt1) == before
    assert_same_certificate(mgt2)


def test_member_checks_itself_without_disturbing_its_collective(make_cluster: MakeCluster) -> None:
    """It is told that it is in a collective; it goes on to take servers in."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    settle(mgt3)
    before = facts(mgt1)
    result = mgt2.run("join", "--check", mgt3.door_name)
    assert result.code == RefusedError.exit_code
    assert checks(result.lines)["collective"] == "problem"
    assert "in a collective already, with mgt1" in result.out
    assert "in a collective already, with mgt1" not in result.err, "it is told once"
    assert facts(mgt1) == before
    assert cluster.join(mgt3, mgt2).out == "Success\n"
