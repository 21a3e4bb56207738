"""A voter that answers and does not follow counts nowhere, and has a state of its own.

Its disk is frozen, or its etcd alone is stopped: the daemon goes on, and so does what etcd answers
from its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from collective.errors import QuorumError
from tests.harness import Cluster, Server, wait_until
from tests.harness.cluster import states
from tests.harness.disks import NoDiskError, frozen, put_on_own_disk
from tests.harness.processes import stopped
from tests.harness.trouble import assert_refused

pytestmark = pytest.mark.faults

FIGURE = 2.0
PATIENCE = 20.0
#: This machine may be busy: the figure has to be met once in so many times.
TRIES = 3
DEAD = ("degraded", "not_following")


def stopped_etcd(server: Server) -> AbstractContextManager[None]:
    """Stop the etcd of a server alone, in a ``with`` block."""
    assert server.etcd_pid is not None
    return stopped(server.etcd_pid)


@dataclass
class Trio:
    """Three voters; the data of mgt3 is on a disk of its own."""

    cluster: Cluster

    def __iter__(self) -> Iterator[Server]:
        return iter(self.cluster.servers.values())

    def seconds_until_told(self, fault: Callable[[Server], AbstractContextManager[None]]) -> float:
        """Return when both others say that mgt3 does not follow, in seconds since a write."""
        mgt1, mgt2, mgt3 = self
        with fault(mgt3):
            since = time.monotonic()
            mgt1.etcdctl("put", "witness", str(since))
            for asked in (mgt1, mgt2):
                wait_until(
                    lambda s=asked: states(s).get("mgt3") in DEAD,  # type: ignore[misc]
                    PATIENCE,
                    f"{asked.name} tells it",
                )
            return time.monotonic() - since

    def calm(self) -> None:
        """Wait until all follow again."""
        for asked in self:
            self.cluster.wait_until_all_active(asked, self)


@pytest.fixture
def trio(cluster: Cluster) -> Trio:
    mgt1, mgt2, mgt3 = (cluster.add() for _ in range(3))
    try:
        put_on_own_disk(mgt3)
    except NoDiskError as error:
        pytest.skip(str(error))
    cluster.start_all([mgt1, mgt2, mgt3])
    for server in (mgt1, mgt2, mgt3):
        server.wait_for_quorum()
    cluster.join_all()
    return Trio(cluster)


def told(asked: Server) -> dict[str, Any]:
    """Return what a server shows; it proves a quorum."""
    result = asked.run("show")
    assert result.lines[0] == "Quorum: True", result
    assert "Not following collective members:" in result.lines
    assert "No more servers may be lost." in result.lines
    document = asked.show_json()
    assert (document["voters"], document["answering"], document["spare"]) == (3, 2, 0)
    return document


@pytest.mark.root
@pytest.mark.parametrize("fault", [frozen, stopped_etcd], ids=["frozen-disk", "stopped-etcd"])
def test_voter_that_answers_and_does_not_follow_is_counted_by_nobody(
    trio: Trio,
    record_property: Callable[[str, object], None],
    fault: Callable[[Server], AbstractContextManager[None]],
) -> None:
    """Whoever is asked first finds it, with nothing written (etcd 15247); nothing is allowed."""
    mgt1, mgt2, mgt3 = trio
    with fault(mgt3):
        for asked in (mgt1, mgt2):
            assert told(asked)["members"][2]["state"] in DEAD
        refused = mgt1.run("demote", "mgt2")
        assert_refused(refused, QuorumError, "cannot demote mgt2: 1 of 2 voters would remain")
        refused = mgt1.run("delete", "mgt2", "--force")
        assert_refused(refused, QuorumError, "cannot delete mgt2: 1 of 2 voters would remain")
        assert "start mgt3 first" not in refused.err
        refused = mgt2.run("delete")
        assert_refused(refused, QuorumError, "cannot delete mgt2")
        forecast = mgt1.run("invite", "--dry-run", "mgt4").err
        assert "2 answer" in forecast, forecast
        mgt1.etcdctl("put", "witness", "acknowledged")
    trio.calm()
    taken: list[float] = []
    while len(taken) < TRIES and (not taken or taken[-1] >= FIGURE):
        taken.append(trio.seconds_until_told(fault))
        trio.calm()
    record_property("seconds", taken)
    assert taken[-1] < FIGURE, taken
