"""A member without a vote that wants to harm the Confluents of the others: promise P12."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

import collective
from tests.harness import Cluster, Server, wait_until
from tests.harness.confluents import Confluent, ConfluentError
from tests.integration.test_nonvoting import join_nonvoting
from tests.unit.confluent.test_hostile import BAD

pytestmark = pytest.mark.integration

SECONDS = 30.0
ConfluentOf = Callable[[str, "Server | None"], Confluent]


@pytest.fixture
def two(cluster: Cluster, confluent_of: ConfluentOf) -> list[Confluent]:
    """Confluents beside a voter, and beside a server without a vote."""
    (mgt1,) = cluster.add_running(1)
    servers = [mgt1, join_nonvoting(cluster, mgt1)]
    made = [confluent_of(server.name, server) for server in servers]
    alone = confluent_of("mgt1", None)
    alone.start()
    alone.mutate("add_node_attributes", {"n1": {"groups": []}})
    alone.stop()
    made[0].import_folder()
    for each in made:
        each.start()
    for each in made:
        wait_until(partial(each.ask, "quorum"), SECONDS, "it knows of the quorum")
    return made


def begin(confluent_of: ConfluentOf, name: str) -> Confluent:
    """Make a Confluent that is alone, with a master key of its own."""
    alone = confluent_of(name, None)
    alone.start()
    alone.mutate("add_node_attributes", {"o1": {"groups": []}})
    alone.stop()
    return alone


def test_nothing_that_a_member_stores_harms_the_confluent_of_another(
    two: list[Confluent], cluster: Cluster
) -> None:
    """It goes on, it makes changes, it starts again, and its master key is what it was."""
    mgt1, mgt2 = two
    key = mgt1.ask("key")
    mgt2.kill()
    with collective.connect(cluster["mgt2"].root, seconds=SECONDS) as hostile:
        hostile.serve("confluent-master-key", lambda _: b"[]")
        for name, value in BAD.values():
            hostile.store.put(f"confluent/v1/{name}", value)
        mgt1.mutate("add_node_attributes", {"n5": {"groups": []}})
        for _ in range(2):
            mgt1.stop()
            mgt1.start()
            wait_until(partial(mgt1.ask, "quorum"), SECONDS, "it knows of the quorum")
            assert mgt1.ask("key") == key
        mgt1.mutate("add_node_attributes", {"n6": {"groups": []}})
    assert {"n1", "n5", "n6"} <= set(mgt1.dump()["nodes"])


def test_confluent_that_was_not_stopped_changes_nothing_of_another_configuration(
    two: list[Confluent], cluster: Cluster, confluent_of: ConfluentOf
) -> None:
    """It has another master key: nobody could read the secrets that it would write."""
    mgt1, mgt2 = two
    mgt1.stop()
    with collective.connect(cluster["mgt1"].root, seconds=SECONDS) as handle:
        handle.store.delete_prefix("confluent/v1/")
    begin(confluent_of, "other")
    confluent_of("other", cluster["mgt1"]).import_folder()
    secret = {"o1": {"secret.hardwaremanagementpassword": "hush"}}
    for _ in range(3):
        with pytest.raises(ConfluentError):
            mgt2.ask("mutate", "set_node_attributes", secret)
    assert "o1" not in mgt2.dump()["nodes"], "it has what it had, until it is started anew"


def test_confluent_says_that_it_runs_as_often_as_somebody_deletes_that(
    two: list[Confluent], cluster: Cluster
) -> None:
    """Else its nodes would be given to others while it looks after them."""
    key = "confluent/v1/here/mgt1"
    with collective.connect(cluster["mgt2"].root, seconds=SECONDS) as hostile:
        for _ in range(2):
            wait_until(
                lambda: hostile.store.get(key) is not None, SECONDS, "mgt1 says that it runs"
            )
            hostile.store.delete(key)
        wait_until(lambda: hostile.store.get(key) is not None, SECONDS, "mgt1 says that it runs")
