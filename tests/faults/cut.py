"""One cell of the matrix: hold a server right after a step, do it harm, run the command again.

Invariants:
  * The harm is done while the server stands still at the step, never a moment before or after.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from statistics import median

from collective.failpoints import Step
from tests.faults.drivers import Scene
from tests.faults.stage import Stage
from tests.harness import Result, Server
from tests.harness.failpoints import Held
from tests.harness.health import wait_until_whole
from tests.harness.running import Running

_REACH_SECONDS = 20.0
_AGAIN_SECONDS = 120.0
#: What the seconds of a scene are on a machine that is not busy, in runs of ``show``.
_SHOWS = 30

#: Work on the disk, with no connection to break: the same fault is then a disk that fails. The
#: daemon stays up and says so, and its restart is the way on.
LOCAL = frozenset(
    {
        Step.REMOVED_LEAVING,
        Step.REMOVED_ASIDE,
        Step.PROMOTE_JOINING,
        Step.DEMOTED_PLAN,
        Step.DEMOTED_ASIDE,
    }
)


class Fault(enum.Enum):
    """What happens to the server that stands at the step."""

    DAEMON = "daemon"
    ETCD = "etcd"
    BOTH = "both"
    CONNECTION = "connection"
    COMMAND = "command"

    @property
    def wants_etcd(self) -> bool:
        """Whether there must be an etcd to be killed."""
        return self in (Fault.ETCD, Fault.BOTH)


@dataclass(frozen=True)
class Outcome:
    """How a cell went.

    Attributes:
        struck: whether there was something to strike; a server may have no etcd at a step.
        again: the run of the same command after the cut.
    """

    struck: bool
    again: Result


def cut(stage: Stage, scene: Scene, step: Step, fault: Fault) -> Outcome:
    """Play one cell.

    Args:
        stage: the servers.
        scene: set by the operation's driver.
        step: where to cut.
        fault: what to do there.

    Raises:
        HarnessError: the step was not reached, or the collective did not become whole.
        AssertionError: the command failed when it was run again.
    """
    with (
        stage.points.at(step) as held,
        scene.begin() as command,
    ):
        victim = held.wait(_REACH_SECONDS)
        struck = _strike(fault, held, victim, command)
        held.go()
        if not victim.is_running:
            victim.start()
        elif fault is Fault.CONNECTION and step in LOCAL:
            victim.restart()
        first = command.end()
    assert "Traceback" not in first
    assert "internal error" not in first
    return Outcome(struck, run_again(scene, f"the first run {first}"))


def plain(stage: Stage, scene: Scene) -> Result:
    """Run the command of a scene with nothing in its way."""
    result = scene.runner.run(*scene.arguments, input=scene.token, check=True)
    wait_until_whole(scene.members, scene.resting)
    return result


def _strike(fault: Fault, held: Held, victim: Server, command: Running) -> bool:
    """Do the harm; return whether there was anything to harm."""
    if fault.wants_etcd and victim.etcd_pid is None:
        return False
    if fault.wants_etcd:
        victim.kill_etcd()
    if fault in (Fault.DAEMON, Fault.BOTH):
        victim.kill()
    elif fault is Fault.CONNECTION:
        held.drop()
    elif fault is Fault.COMMAND:
        command.kill()
    return True


def run_again(scene: Scene, first: str) -> Result:
    """Run the command of a scene once more, when the members have a quorum.

    Args:
        scene: of a cell.
        first: how the first run ended, for the report.

    Raises:
        HarnessError: the collective did not become whole.
        AssertionError: the command failed, or took too long.
    """
    for server in scene.members:
        if server is not scene.runner or not scene.token:
            server.wait_for_quorum()
    again = scene.runner.run(*scene.arguments, input=scene.token, timeout=_AGAIN_SECONDS)
    assert again.code in scene.again, f"run again: {again.code}\n{again.err}{first}"
    assert in_time(scene, again)
    wait_until_whole(scene.members, scene.resting)
    return again


def in_time(scene: Scene, result: Result) -> bool:
    """Tell whether a command took no longer than it may: where all is slow, so many ``show``."""
    if result.seconds < scene.seconds:
        return True
    show = median(scene.runner.run("show").seconds for _ in range(3))
    return result.seconds < _SHOWS * show
