"""The leader changes while an operation stands at a step: it ends as it should (P5, P10).

The command is never run again where it said that it succeeded: a leader's end is no fault of who
runs it. Where it said that it failed, the same command again is good.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from collective.failpoints import Step
from tests.faults.cut import run_again
from tests.faults.drivers import driver_of
from tests.faults.stage import Stage
from tests.harness import Server
from tests.harness.health import is_in_company, wait_until_whole

pytestmark = [pytest.mark.integration, pytest.mark.faults]

Lend = Callable[[int], AbstractContextManager[Stage]]
SERVERS = 4
SECONDS = 20.0
# It is the leader that leaves, so there the leader changes anyway.
STEPS = [step for step in Step if step.operation != "leave"]


def kill(stage: Stage, leader: Server, others: list[Server]) -> None:
    """Kill the leader, and wait until the others see that another one leads."""
    leader.kill()
    stage.cluster.wait_for_leader(others, other_than=leader)


def hand_over(stage: Stage, leader: Server, others: list[Server]) -> None:
    """Have the leader hand over to one of the others that votes."""
    members = {m["name"]: m for m in others[0].show_json()["members"]}
    heirs = [members[s.name]["id"] for s in others if members[s.name]["role"] == "voter"]
    # The etcd of one may just be restarted, by a re-keying; then it takes nothing over.
    any(leader.etcdctl("move-leader", heir, check=False).code == 0 for heir in heirs)
    stage.cluster.wait_for_leader(others, other_than=leader)


CHANGES = {"killed": kill, "handed-over": hand_over}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_leader_changes_while_a_server_stands_at_a_step(
    lend: Lend, step: Step, change: str
) -> None:
    """Four servers, so that a quorum is left without the leader."""
    with lend(SERVERS) as stage:
        scene = driver_of(step)(stage, False)
        inside = [server for server in scene.members if is_in_company(server)]
        with (
            stage.points.at(step) as held,
            scene.begin() as command,
        ):
            standing = held.wait(SECONDS)
            # It may stand between two lives, or hold what its own show would wait for.
            asked = [server for server in inside if server is not standing]
            # A re-keying has handed over before.
            leader = stage.cluster.wait_for_leader(asked)
            CHANGES[change](stage, leader, [server for server in asked if server is not leader])
            held.go()
            if not leader.is_running:
                leader.start()
            first = command.end()
        if "ended with 0" not in first:
            run_again(scene, first)
        wait_until_whole(scene.members, scene.resting)
        scene.tidy()
