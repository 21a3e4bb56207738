"""Voters that are far from each other: what ``show`` says is so, and in time."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

from tests.harness import Cluster
from tests.harness.network import NoNetworkError
from tests.harness.slow_network import SlowNetwork
from tests.harness.spread import spread

pytestmark = [pytest.mark.faults, pytest.mark.root]

#: One way; a proof on a follower takes two round trips.
DELAY = 0.1
TIMES = 10


def test_follower_far_away_proves_its_quorum_and_says_which_timing_it_wants(
    cluster: Cluster,
) -> None:
    """With 100 ms each way it said "no quorum" every time, while writes were acknowledged."""
    with ExitStack() as stack:
        try:
            network = stack.enter_context(SlowNetwork(3, delay=0.0))
        except NoNetworkError as error:
            pytest.skip(f"no networks: {error}")
        spread(cluster, network, election_ms="1500", heartbeat_ms="150")
        mgt1, mgt2, mgt3 = cluster.join_all()
        network.delay = DELAY
        mgt3.restart()  # what its connections had measured before was another network
        cluster.wait_until_all_active(mgt3, [mgt1, mgt2, mgt3])
        shown = [mgt3.run("show") for _ in range(TIMES)]
        assert [result.lines[0] for result in shown] == ["Quorum: True"] * TIMES
        assert [result.code for result in shown] == [0] * TIMES
        assert "1 more server may be lost." in shown[-1].lines
        wanted = re.search(r"set election_ms = (\d+) and heartbeat_ms = (\d+) in", shown[-1].err)
        assert wanted is not None, shown[-1].err
        # Of a busy machine some milliseconds are added to a round trip.
        assert 20_000 * DELAY <= int(wanted[1]) == 10 * int(wanted[2]) <= 40_000 * DELAY
        trips = [member["round_trip_ms"] for member in mgt3.show_json()["members"]]
        assert all(trip is None or 2000 * DELAY <= trip < 4000 * DELAY for trip in trips)
        assert trips.count(None) == 1


def test_server_far_away_is_told_by_its_check_which_timing_it_wants(cluster: Cluster) -> None:
    """Before it joins: afterwards the others' leaders may be taken for lost."""
    with ExitStack() as stack:
        try:
            network = stack.enter_context(SlowNetwork(2, delay=DELAY))
        except NoNetworkError as error:
            pytest.skip(f"no networks: {error}")
        spread(cluster, network, hosts=("mgt1", "mgt2"))
        mgt1, mgt2 = cluster.servers.values()
        checked = mgt2.run("join", "--check", mgt1.door_name, check=True)
        (timing,) = [line for line in checked.lines if " timing:" in line]
        assert "set election_ms = " in timing
        assert "in the settings file of every voter" in timing
