"""Promise P4: a voter that made invitations comes back by none of them once it is put out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Cluster
from tests.harness.health import records
from tests.integration.test_nonvoting import roles

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
INVITATIONS = "collective/v1/invitations/"


@pytest.mark.parametrize("command", [("delete", "--force"), ("demote",)], ids=lambda c: c[0])
def test_invitations_of_a_voter_end_when_it_is_put_out(
    make_cluster: MakeCluster, command: tuple[str, ...]
) -> None:
    """Those of others live on, and are named: somebody may have been told their tokens, too."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    kept = mgt3.run("invite", "--ttl", "30d", "mgt4", check=True).out
    mgt2.run("invite", "mgt9", check=True)
    before = records(mgt1)
    assert {INVITATIONS + "mgt4", INVITATIONS + "mgt9"} <= before.keys(), "or it proves nothing"

    done = mgt1.run(*command, "mgt3", check=True)
    after = records(mgt1)

    assert INVITATIONS + "mgt4" not in after
    assert after[INVITATIONS + "mgt9"] == before[INVITATIONS + "mgt9"]
    told = [line for line in (done.out + done.err).splitlines() if "mgt9" in line]
    assert told, done.err
    assert any("invit" in line for line in told), told
    members = roles(mgt1)
    (back,) = cluster.add_running(1)
    joined = back.run("join", mgt1.door_name, "-i", "-", input=kept)
    assert joined.code != 0, joined.err
    assert roles(mgt1) == members
    back.wait_for_quorum()
