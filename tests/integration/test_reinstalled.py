"""A server that was installed anew under its old name, and voters that stay dead."""

from __future__ import annotations

import shutil

import pytest

from tests.harness import Cluster, HarnessError, wait_until
from tests.harness.cluster import states

pytestmark = pytest.mark.integration

SECONDS = 20.0
PATIENCE_SECONDS = 5


def test_peers_8_reinstalled_server_is_recognised_and_joins_nothing_by_itself(
    cluster: Cluster,
) -> None:
    """It is a fresh collective of one; the members say what answers in its place."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    mgt3.stop()
    shutil.rmtree(mgt3.layout.data)
    mgt3.start()
    alone = mgt3.wait_for_quorum()
    assert [member["name"] for member in alone["members"]] == ["mgt3"]
    cluster.wait_for_leader([mgt1, mgt2])
    for member in (mgt1, mgt2):
        wait_until(
            lambda member=member: "reinstalled" in member.run("show").err,  # type: ignore[misc]
            SECONDS,
            f"{member.name} recognises it",
        )
        shown = member.run("show")
        assert shown.code == 0
        assert "warning: mgt3: a certificate that is not recorded is shown at" in shown.err
        assert "collective invite --replace mgt3" in shown.err
        assert states(member) == {"mgt1": "active", "mgt2": "active", "mgt3": "offline"}
    assert [member["name"] for member in mgt3.wait_for_quorum()["members"]] == ["mgt3"]


def test_peers_29_dead_voter_is_never_removed_by_itself(cluster: Cluster) -> None:
    """A learner is given up after its timeout; a voter keeps its seat, however long it is gone."""
    servers = [cluster.add(learner_timeout=f"{PATIENCE_SECONDS}s") for _ in range(3)]
    mgt1, mgt2, mgt3 = servers
    cluster.start_all(servers)
    for server in servers:
        server.wait_for_quorum()
    for joiner in (mgt2, mgt3):
        cluster.join(joiner, mgt1)
    cluster.wait_until_all_active(mgt1, servers)
    mgt3.kill()
    wait_until(lambda: states(mgt1).get("mgt3") == "offline", SECONDS, "mgt3 is missed")
    # More than the patience that is shown to a learner, and a change of leader.
    cluster.wait_for_leader([mgt1, mgt2])
    with pytest.raises(HarnessError):
        wait_until(lambda: "mgt3" not in states(mgt1), 2 * PATIENCE_SECONDS, "mgt3 is removed")
    for _ in range(3):
        leader = cluster.wait_for_leader([mgt1, mgt2])
        leader.restart()
        cluster.wait_for_leader([mgt1, mgt2])
    assert len(mgt1.etcdctl("member", "list").lines) == 3
    # A member that was just restarted may be missed for as long as an answer counts as fresh.
    kept = {"mgt1": "active", "mgt2": "active", "mgt3": "offline"}
    wait_until(lambda: states(mgt2) == kept, SECONDS, "mgt3 keeps its seat, the others are back")
    mgt3.start()
    cluster.wait_until_all_active(mgt1, servers)
