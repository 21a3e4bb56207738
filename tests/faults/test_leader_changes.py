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
from tests.faults.drivers import Scene, driver_of
from tests.faults.stage import Stage
from tests.harness import Server
from tests.harness.health import wait_until_whole

pytestmark = [pytest.mark.integration, pytest.mark.faults]

Lend = Callable[[int], AbstractContextManager[Stage]]
SERVERS = 4
SECONDS = 20.0
# It is the leader that leaves, so there the leader changes anyway.
STEPS = [step for step in Step if step.operation != "leave"]


def kill(stage: Stage, leader: Server, others: list[Server]) -> None:
    """Kill the leader, and wait until another one leads."""
    leader.kill()
    stage.cluster.wait_for_leader(others, other_than=leader)


def hand_over(stage: Stage, leader: Server, others: list[Server]) -> None:
    """Have the leader hand over to another voter."""
    heir = others[-1].name
    ids = {member["name"]: member["id"] for member in leader.show_json()["members"]}
    leader.etcdctl("move-leader", ids[heir])
    stage.cluster.wait_for_leader([leader, *others], other_than=leader)


CHANGES = {"killed": kill, "handed-over": hand_over}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_leader_changes_while_a_server_stands_at_a_step(
    lend: Lend, step: Step, change: str
) -> None:
    """Four servers, so that a quorum is left without the leader."""
    with lend(SERVERS) as stage:
        scene = driver_of(step)(stage, False)
        leader, *others = remaining(stage, scene)
        with (
            stage.points.at(step) as held,
            scene.begin() as command,
        ):
            held.wait(SECONDS)
            CHANGES[change](stage, leader, others)
            held.go()
            if not leader.is_running:
                leader.start()
            first = command.end()
        if "ended with 0" not in first:
            run_again(scene, first)
        wait_until_whole(scene.members, scene.resting)
        scene.tidy()


def remaining(stage: Stage, scene: Scene) -> list[Server]:
    """Return who is a member now and at the end, the leader first."""
    return [server for server in stage.members() if server in scene.members]
