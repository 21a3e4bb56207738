"""Who leaks calls locks nobody else out."""

from __future__ import annotations

import pytest

from collective.daemon.listeners.service_calls import MOST_OPEN, MOST_OPEN_WITH_ONE, OpenCalls
from collective.errors import RefusedError


def test_no_server_takes_all_places() -> None:
    """One has so many; all together have more; who ends a call makes room."""
    places = OpenCalls("from")
    leave = [places.enter("mgt1") for _ in range(MOST_OPEN_WITH_ONE)]
    with pytest.raises(RefusedError, match="64 calls from mgt1 are open"):
        places.enter("mgt1")
    others = MOST_OPEN // MOST_OPEN_WITH_ONE
    for number in range(2, others + 1):
        for _ in range(MOST_OPEN_WITH_ONE):
            places.enter(f"mgt{number}")
    with pytest.raises(RefusedError, match="256 calls from other servers are open"):
        places.enter("mgt9")
    leave[0]()
    places.enter("mgt9")
