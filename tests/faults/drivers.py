"""How each operation is made to happen: one driver an operation, one table of all.

Whoever adds an operation to ``Step`` adds a driver here; a test fails until that is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collective.errors import RefusedError, RemovedError
from collective.failpoints import Step
from tests.faults.stage import Stage
from tests.harness import Server
from tests.harness.health import wait_until_whole
from tests.harness.running import Running

_REACH_SECONDS = 20.0


@dataclass(frozen=True)
class Scene:
    """A command that is about to be run, and what must be when it was.

    Attributes:
        runner: where it runs.
        arguments: of ``collective``.
        members: who takes part at the end.
        resting: who was deleted at the end.
        token: standard input of the command.
        again: exit statuses that are good when it is run again: not only 0 where the server
            says that it has done already what is asked.
        seconds: what a run again may take at most, on a busy machine; the table has what it took.
        tidy: what the scene wants done at its end, for those that follow.
    """

    runner: Server
    arguments: tuple[str, ...]
    members: tuple[Server, ...]
    resting: tuple[Server, ...] = ()
    token: str = ""
    again: frozenset[int] = frozenset({0})
    seconds: float = 10.0
    tidy: Callable[[], None] = lambda: None

    def begin(self) -> Running:
        """Start the command."""
        return Running(self.runner, self.arguments, self.token)


#: Gets the stage and whether all servers shall have a running etcd; sets the scene.
Driver = Callable[[Stage, bool], Scene]


def join(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead takes a server in."""
    joiner, members = stage.one_out(with_etcd=with_etcd)
    sponsor = members[-1]
    token = sponsor.run("invite", joiner.name, check=True).out
    arguments = ("join", sponsor.door_name, "-i", "-")
    return Scene(joiner, arguments, (*members, joiner), token=token)


def delete(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead deletes another such one, which runs."""
    *members, target = stage.all_in()
    arguments = ("delete", target.name, "--force")
    return Scene(members[-1], arguments, tuple(members), (target,))


def leave(stage: Stage, with_etcd: bool) -> Scene:
    """The leader leaves."""
    leader, *others = stage.all_in()
    again = frozenset({0, RemovedError.exit_code})
    return Scene(leader, ("delete",), tuple(others), (leader,), again=again)


def gencert(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead gets another key and certificate."""
    members = stage.all_in()
    return Scene(members[-1], ("gencert",), tuple(members))


def trust(stage: Stage, with_etcd: bool) -> Scene:
    """Two voters, of which none can be spared, take a third one up."""
    return join(stage, with_etcd)


def abort(stage: Stage, with_etcd: bool) -> Scene:
    """A learner that cannot catch up, since its etcd hangs, gives up its join."""
    learner, members = stage.one_out(with_etcd=False)
    token = members[-1].run("invite", learner.name, check=True).out
    with (
        stage.points.at(Step.JOIN_ADOPT, learner) as held,
        Running(learner, ("join", members[-1].door_name, "-i", "-"), token),
    ):
        held.wait(_REACH_SECONDS)
        learner.kill()
    learner.configure(etcd=str(_hanging_etcd(stage.cluster.root)))
    learner.start()

    def tidy() -> None:
        learner.configure(etcd=str(stage.etcd))
        learner.restart()

    again = frozenset({0, RefusedError.exit_code})
    arguments = ("join", "--abort")
    return Scene(learner, arguments, tuple(members), (learner,), again=again, tidy=tidy)


def _hanging_etcd(folder: Path) -> Path:
    """Write a program that has a version, and else waits for ever."""
    path = folder / "hanging" / "etcd"
    path.parent.mkdir(exist_ok=True)
    wait = f"exec {sys.executable} -c 'import signal; signal.pause()' etcd"
    path.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo 'etcd Version: 3.5.9' || {wait}\n")
    path.chmod(0o755)
    return path


def join_nonvoting(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead takes in a server that is not to vote."""
    joiner, members = stage.one_out(with_etcd=with_etcd)
    token = members[-1].run("invite", "-n", joiner.name, check=True).out
    arguments = ("join", members[-1].door_name, "-i", "-")
    everybody = (*members, joiner)
    return Scene(joiner, arguments, everybody, token=token, tidy=lambda: stage.put_out(joiner))


def delete_nonvoting(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead deletes one that does not vote."""
    target, voters = stage.one_without_vote()
    arguments = ("delete", target.name, "--force")
    return Scene(voters[-1], arguments, tuple(voters), (target,))


def gencert_nonvoting(stage: Stage, with_etcd: bool) -> Scene:
    """A server that does not vote has a voter record its next certificate."""
    runner, voters = stage.one_without_vote()

    def tidy() -> None:
        stage.put_out(runner)
        # They count how often a server without a vote changes its certificate, by its name.
        for voter in voters:
            voter.restart()
        wait_until_whole(voters)

    return Scene(runner, ("gencert",), (*voters, runner), tidy=tidy)


def promote(stage: Stage, with_etcd: bool) -> Scene:
    """A voter that does not lead has another server vote."""
    target, voters = stage.one_without_vote()
    return Scene(voters[-1], ("promote", target.name), (*voters, target))


def demote(stage: Stage, with_etcd: bool) -> Scene:
    """A voter that does not lead has another such one vote no more."""
    *others, target = members = stage.all_in()
    arguments = ("demote", target.name)
    return Scene(others[-1], arguments, tuple(members), tidy=lambda: stage.put_out(target))


def readdress(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead moves to another address, and back again at the end."""
    members = stage.all_in()
    keeper, address = members[-1], members[-1].address
    keeper.configure(address=f"{address}9")

    def tidy() -> None:
        keeper.configure(address=address)
        keeper.run("readdress", check=True)

    return Scene(keeper, ("readdress",), tuple(members), tidy=tidy)


DRIVERS: Mapping[str, Driver] = {
    "join": join,
    "delete": delete,
    "leave": leave,
    "gencert": gencert,
    "trust": trust,
    "abort": abort,
    "promote": promote,
    "demote": demote,
    "readdress": readdress,
}

#: Steps that the driver of their operation does not come to: another kind of server is needed.
VARIANTS: Mapping[Step, Driver] = {
    Step.JOIN_NONVOTING: join_nonvoting,
    Step.SPONSOR_NONVOTING: join_nonvoting,
    Step.LEADER_ACCEPT: join_nonvoting,
    Step.DELETE_NONVOTING: delete_nonvoting,
}

#: Steps that are come to by other ways, too, which are cut as well.
OTHER_WAYS: Mapping[Step, Sequence[Driver]] = {
    Step.TRUST_RESTART: (gencert, promote),
    Step.TRUST_DONE: (gencert, promote),
    Step.REPLACE_PREPARE: (gencert_nonvoting,),
    Step.REPLACE_RECORD: (gencert_nonvoting,),
    Step.REPLACE_USE: (gencert_nonvoting,),
    Step.REPLACE_RETIRE: (gencert_nonvoting,),
}


def driver_of(step: Step) -> Driver:
    """Return what makes a step happen."""
    return VARIANTS.get(step) or DRIVERS[step.operation]
