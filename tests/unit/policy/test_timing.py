"""Which timing is wanted on a slow network, and what is said of it."""

from __future__ import annotations

import pytest

from collective.policy.timing import slow_network_sentence, wanted_election_ms


@pytest.mark.parametrize(
    ("round_trip", "wanted"),
    [(0.0, 0), (0.0001, 0), (0.01, 100), (0.0101, 100), (0.012, 200), (0.15, 1500), (0.3, 3000)],
)
def test_election_timeout_is_ten_round_trips(round_trip: float, wanted: int) -> None:
    """As etcd's manual has it, in steps of 100 ms."""
    assert wanted_election_ms(round_trip) == wanted


def test_slow_network_is_told_with_both_settings() -> None:
    """The hint can be copied into the settings file: the heartbeat is a fifth of it at most."""
    told = slow_network_sentence("mgt2", 0.3, 450)
    assert told is not None
    assert "mgt2" in told
    assert "300 ms" in told
    assert "election_ms = 3000" in told
    assert "heartbeat_ms = 300 " in told
    assert slow_network_sentence("mgt2", 0.3, 3000) is None
    assert slow_network_sentence("mgt2", 0.31, 3000) is None
    assert slow_network_sentence("mgt2", 0.02, 450) is None
