"""Which timing raft wants on the network that there is.

Pure.
"""

from __future__ import annotations

import math

# etcd's manual, "Tuning": the election timeout is at least ten times the round trip, the heartbeat
# interval about one.
_ROUND_TRIPS = 10
# What is nearly enough is no reason to restart every server.
_ENOUGH = 0.8
_STEP_MS = 100


def wanted_election_ms(round_trip: float) -> int:
    """Return the election timeout that voters want, in milliseconds.

    Args:
        round_trip: between the two that are farthest from each other, in seconds.
    """
    return math.ceil(round(_ROUND_TRIPS * round_trip * 1000 / _STEP_MS, 1)) * _STEP_MS


def slow_network_sentence(name: str, round_trip: float, election_ms: int) -> str | None:
    """Return what is said where a voter is too far away for the settings; None where it is not.

    Args:
        name: of the voter.
        round_trip: to it and back, in seconds.
        election_ms: as the settings have it.
    """
    wanted = wanted_election_ms(round_trip)
    if election_ms >= _ENOUGH * _ROUND_TRIPS * round_trip * 1000:
        return None
    return (
        f"a packet to {name} and back takes {round_trip * 1000:.0f} ms: with election_ms = "
        f"{election_ms} a leader may be taken for lost; set election_ms = {wanted} and "
        f"heartbeat_ms = {wanted // _ROUND_TRIPS} in the settings file of every voter, and "
        "restart collectived on one after the other"
    )
