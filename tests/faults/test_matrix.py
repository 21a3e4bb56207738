"""Every step x every fault: after the cut the same command makes the collective whole (P5).

The cells are made from ``Step``, so a step that is added is cut too. Where the operation is a
join, the server is in at the end; where it is a delete, the collective is whole without it, and
the deleted server rests. What one cell does the next one undoes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from collective.failpoints import Step
from tests.faults.cut import Fault, cut, plain
from tests.faults.drivers import DRIVERS, NOT_PLAYED
from tests.faults.stage import Stage
from tests.harness.matrix import CELL, PLAIN
from tools.etcd_versions import Etcd, find_etcds

pytestmark = [pytest.mark.integration, pytest.mark.faults]

Lend = Callable[[int], AbstractContextManager[Stage]]
Note = Callable[[str, object], None]
SERVERS = 3
STEPS = tuple(step for step in Step if step.operation not in NOT_PLAYED)
OPERATIONS = tuple(dict.fromkeys(step.operation for step in STEPS))


def is_played(etcd: Etcd, step: Step, fault: Fault) -> bool:
    """Tell whether this version of etcd plays a cell: in a short run, every other one."""
    if os.environ.get("COLLECTIVE_FULL"):
        return True
    square = STEPS.index(step) + list(Fault).index(fault)
    versions = [found.version_text for found in find_etcds()]
    return square % len(versions) == versions.index(etcd.version_text)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_run_without_a_cut_reaches_every_step(
    lend: Lend, etcd: Etcd, operation: str, record_property: Note
) -> None:
    """What is measured here is the fresh run that the runs after a cut are compared with."""
    with lend(SERVERS) as stage:
        scene = DRIVERS[operation](stage, True)
        stage.points.forget()
        result = plain(stage, scene)
        reached = {at.step for at in stage.points.reached}
    assert {step for step in Step if step.operation == operation} <= reached
    record_property(
        PLAIN, {"etcd": etcd.version_text, "operation": operation, "seconds": result.seconds}
    )


@pytest.mark.peers(3, 5)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.value)
def test_cut_after_step_is_mended_by_the_same_command(
    lend: Lend, etcd: Etcd, step: Step, fault: Fault, record_property: Note
) -> None:
    """The server that stands at the step is struck, started again, and the command repeated."""
    if not is_played(etcd, step, fault):
        pytest.skip("the other version of etcd plays this cell; COLLECTIVE_FULL=1 plays all")
    cell: dict[str, object] = {"etcd": etcd.version_text, "step": step.value, "fault": fault.value}
    record_property(CELL, cell)
    with lend(SERVERS) as stage:
        scene = DRIVERS[step.operation](stage, fault.wants_etcd)
        outcome = cut(stage, scene, step, fault)
    cell |= {"struck": outcome.struck, "seconds": outcome.again.seconds}
