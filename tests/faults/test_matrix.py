"""Every step x every fault: after the cut the same command makes the collective whole (P5).

The cells are made from ``Step``, so a step that is added is cut too. Where the operation is a
join, the server is in at the end; where it is a delete, the collective is whole without it, and
the deleted server rests. What one cell does the next one undoes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from collective.failpoints import Step
from tests.faults.cut import Fault, cut, in_time, plain
from tests.faults.drivers import OTHER_WAYS, Driver, driver_of
from tests.faults.stage import Stage
from tests.harness.matrix import CELL, PLAIN
from tools.etcd_versions import Etcd

pytestmark = [pytest.mark.integration, pytest.mark.faults]

Lend = Callable[[int], AbstractContextManager[Stage]]
Note = Callable[[str, object], None]
SERVERS = 3
PLAYS = {driver.__name__: driver for driver in map(driver_of, Step)}
WAYS = [(step, driver) for step, drivers in OTHER_WAYS.items() for driver in drivers]


@pytest.mark.parametrize("play", PLAYS)
def test_run_without_a_cut_reaches_every_step(
    lend: Lend, etcd: Etcd, play: str, record_property: Note
) -> None:
    """What is measured here is the fresh run that the runs after a cut are compared with."""
    driver = PLAYS[play]
    with lend(SERVERS) as stage:
        scene = driver(stage, True)
        stage.points.forget()
        result = plain(stage, scene)
        reached = {at.step for at in stage.points.reached}
        scene.tidy()
    assert {step for step in Step if driver_of(step) is driver} <= reached
    # A server that moved waited for its own turn, while it had the others restart in theirs.
    assert in_time(scene, result)
    record_property(
        PLAIN, {"etcd": etcd.version_text, "operation": play, "seconds": result.seconds}
    )


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
@pytest.mark.parametrize("step", Step, ids=lambda step: step.value)
@pytest.mark.peers(5)
@pytest.mark.peers(3)
def test_cut_after_step_is_mended_by_the_same_command(
    lend: Lend, etcd: Etcd, step: Step, fault: Fault, record_property: Note
) -> None:
    """The server that stands at the step is struck, started again, and the command repeated."""
    cell: dict[str, object] = {"etcd": etcd.version_text, "step": step.value, "fault": fault.value}
    record_property(CELL, cell)
    cell |= play_cell(lend, driver_of(step), step, fault)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
@pytest.mark.parametrize(
    ("step", "driver"), WAYS, ids=[f"{step.value}-{driver.__name__}" for step, driver in WAYS]
)
def test_cut_after_step_on_another_way_is_mended_too(
    lend: Lend, etcd: Etcd, step: Step, driver: Driver, fault: Fault
) -> None:
    """Trust rounds of three voters, and certificates of servers that do not vote."""
    play_cell(lend, driver, step, fault)


def play_cell(lend: Lend, driver: Driver, step: Step, fault: Fault) -> dict[str, object]:
    """Play one cell; return what the table says of it."""
    with lend(SERVERS) as stage:
        scene = driver(stage, fault.wants_etcd)
        outcome = cut(stage, scene, step, fault)
        scene.tidy()
    return {"struck": outcome.struck, "seconds": outcome.again.seconds}
