"""A join that is given up: at each stage both sides end whole, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import RefusedError, RemovedError
from collective.failpoints import Step
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import own
from tests.harness.trouble import assert_refused, facts, one_etcd, settle, state_file
from tests.integration.test_trouble_join import (
    assert_collective_is,
    begin_join,
    crashing_etcd,
    finish,
    join_until,
    listed,
    peek,
    voters,
)
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 20.0


@pytest.fixture
def etcd() -> Etcd:
    """One version: an eviction is the same on all, and is tried on all elsewhere."""
    return one_etcd()


def half_joined(cluster: Cluster, tmp_path: Path) -> tuple[Server, Server]:
    """Return a member, and a learner that cannot catch up: its etcd ends at once."""
    mgt1, mgt2 = cluster.add_running(2)
    token = mgt1.run("invite", "mgt2", check=True).out
    join_until(Step.JOIN_ADOPT, cluster, mgt2, mgt1.door_name, token)
    mgt2.configure(etcd=crashing_etcd(tmp_path))
    mgt2.start()
    assert any(listed(mgt1).values())
    return mgt1, mgt2


def test_join_that_was_cut_off_and_had_changed_nothing_needs_no_giving_up(
    cluster: Cluster,
) -> None:
    """After the claim: the server is what it was, and can be invited again."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    before, certificate = facts(mgt2), own(mgt2)
    join_until(Step.JOIN_PROVE, cluster, mgt2, mgt1.door_name, token)
    mgt2.start()
    mgt2.wait_for_quorum()

    given = mgt2.run("join", "--abort")
    assert_refused(given, RefusedError, "no join is under way on mgt2", "has changed nothing")
    assert own(mgt2) == certificate
    assert facts(mgt2) == before
    assert cluster.join(mgt2, mgt1).out == "Success\n"
    assert_collective_is(mgt1, mgt2)


@pytest.mark.peers(5)
def test_learner_gives_up_and_a_member_removes_it(
    cluster: Cluster, tmp_path: Path, etcd: Etcd
) -> None:
    """No phantom member, the old data is where it says, and gencert and join work after it."""
    mgt1, mgt2 = half_joined(cluster, tmp_path)
    given = json.loads(mgt2.run("join", "--abort", "--json", check=True).out)
    assert given["stage"] == "learner"
    assert given["told"] == "mgt1"
    assert Path(given["former_data"], "member").is_dir()
    assert "before-join" in given["former_data"]
    assert listed(mgt1) == voters(mgt1)
    wait_until(lambda: shows_alone(mgt1), SECONDS, "the learner's record is dropped")
    assert "no invitation is pending" in mgt1.run("invite", "--list", check=True).err

    shown = mgt2.run("show")
    assert shown.code == RemovedError.exit_code
    assert "mgt2 gave up its join" in shown.err
    mgt2.configure(etcd=str(etcd.etcd))
    mgt2.restart()
    assert mgt2.run("show").code == RemovedError.exit_code
    mgt2.run("gencert", check=True)
    mgt2.wait_for_quorum()
    assert cluster.join(mgt2, mgt1).out == "Success\n"
    assert_collective_is(mgt1, mgt2)


def shows_alone(server: Server) -> bool:
    document = server.ask_show()
    return document is not None and [m["name"] for m in document["members"]] == [server.name]


def test_learner_that_reaches_nobody_gives_up_all_the_same(
    new_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It says so; the leader removes the learner in its time."""
    cluster = new_cluster(learner_timeout="3s")
    mgt1, mgt2 = half_joined(cluster, tmp_path)
    mgt1.pause()
    given = mgt2.run("join", "--abort", check=True)
    assert "no member could be asked" in given.err
    assert mgt2.run("show").code == RemovedError.exit_code
    mgt1.resume()
    wait_until(lambda: listed(mgt1) == voters(mgt1), SECONDS, "the learner is evicted")


def test_learner_that_ran_and_reaches_nobody_gives_up_with_force_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The leader may have made it a voter: resting would then cost the quorum (P1)."""
    mgt1, mgt2 = half_joined(cluster, tmp_path)
    mgt2.stop()
    state = state_file(mgt2)
    state.write_text(state.read_text().replace('"started": false', '"started": true'))
    Path(mgt2.layout.etcd_data, "member", "wal").mkdir(parents=True, exist_ok=True)
    # First: mgt2 asks at its start what became of it, and is not to be answered.
    mgt1.pause()
    mgt2.start()
    refused = mgt2.run("join", "--abort")
    assert_refused(refused, RefusedError, "may have been made a voter", "--force")
    assert '"mode": "joining"' in state.read_text()
    assert mgt2.run("join", "--abort", "--force").code == 0
    assert mgt2.run("show").code == RemovedError.exit_code


def test_join_that_waits_for_its_turn_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    """The command that waits ends with a refusal, and its server is what it was."""
    mgt1, _ = half_joined(cluster, tmp_path)
    (mgt3,) = cluster.add_running(1)
    settle(mgt3)
    before = facts(mgt3)
    waiting = begin_join(mgt3, mgt1.door_name, mgt1.run("invite", "mgt3", check=True).out)
    wait_until(lambda: "being taken in" in peek(waiting), SECONDS, "it waits for its turn")

    given = mgt3.run("join", "--abort", check=True)
    assert given.out == "the join of mgt3 is given up\n"
    assert "left to expire" in given.err
    result = finish(waiting)
    assert (result.code, result.out) == (RefusedError.exit_code, "")
    assert "given up by 'collective join --abort'" in result.err
    assert facts(mgt3) == before


def test_member_does_not_give_up_its_join(make_cluster: MakeCluster) -> None:
    """Its vote would be lost without a decision: there is delete for that."""
    mgt1, mgt2 = make_cluster(2).servers.values()
    before = facts(mgt1)
    for server in (mgt1, mgt2):
        result = server.run("join", "--abort")
        assert_refused(result, RefusedError, server.name, "is a member already", "delete")
    assert facts(mgt1) == before
