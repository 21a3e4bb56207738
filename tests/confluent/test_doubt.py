"""A change whose answer gets lost: whoever made it is told the truth."""

from __future__ import annotations

from functools import partial
from time import monotonic

import pytest

from tests.harness import Cluster, wait_until
from tests.harness.confluents import Confluent
from tests.harness.lost_answers import LostAnswers

pytestmark = pytest.mark.integration

SECONDS = 30.0


def test_change_whose_answer_gets_lost_is_settled_and_made_once(
    three: list[Confluent], cluster: Cluster
) -> None:
    """It was made, so it is not made again: the next node gets the next index."""
    mgt1, mgt2, _ = three
    with LostAnswers(cluster["mgt2"]) as answers:
        mgt2.kill()
        mgt2.start()
        wait_until(partial(mgt2.ask, "quorum"), SECONDS, "it knows of the quorum")
        answers.lose(b"doubtful1")
        begun = monotonic()
        mgt2.ask("mutate", "add_node_attributes", {"doubtful1": {"groups": ["rack"]}})
        assert monotonic() - begun < SECONDS
        assert answers.dropped == 1
        answers.lose(b"doubtful2")
        mgt2.ask("mutate", "add_node_attributes", {"doubtful2": {"groups": ["rack"]}})
        assert answers.dropped == 2
        mgt2.ask("mutate", "add_node_attributes", {"certain": {"groups": ["rack"]}})
        wait_until(lambda: mgt1.ask("nodes") == 4, SECONDS, "another one has them")
        nodes = mgt1.dump()["nodes"]
        places = [
            nodes[name]["id.index"]["value"] for name in ("doubtful1", "doubtful2", "certain")
        ]
        assert places == [places[0], places[0] + 1, places[0] + 2]
        mgt2.kill()
