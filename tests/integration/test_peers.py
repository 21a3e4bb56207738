"""What hurts users of other systems and is tried nowhere else: lines of docs/peers.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Cluster

pytestmark = pytest.mark.integration


@pytest.mark.peers(6, 7)
def test_server_joins_with_a_member_and_the_issuer_of_its_token_dead(
    make_cluster: Callable[..., Cluster],
) -> None:
    """A quorum is enough to be taken in, and any of its members redeems the token."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = (cluster[f"mgt{n}"] for n in (1, 2, 3))
    (mgt4,) = cluster.add_running(1)
    token = mgt3.run("invite", "mgt4", check=True).out
    mgt3.kill()
    cluster.wait_for_leader(of=[mgt1, mgt2], other_than=mgt3)
    mgt4.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    assert mgt1.show_json()["quorum"]
