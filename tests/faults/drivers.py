"""How each operation is made to happen: one driver an operation, one table of all.

Whoever adds an operation to ``Step`` adds a driver here; a test fails until that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from collective.errors import RemovedError
from tests.faults.stage import Stage
from tests.harness import Server


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
        patience: how long the run again may take, in seconds, on a busy machine.
    """

    runner: Server
    arguments: tuple[str, ...]
    members: tuple[Server, ...]
    resting: tuple[Server, ...] = ()
    token: str = ""
    again: frozenset[int] = frozenset({0})
    patience: float = 20.0


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
    return Scene(
        members[-1], ("delete", target.name, "--force", "--no-rekey"), tuple(members), (target,)
    )


def leave(stage: Stage, with_etcd: bool) -> Scene:
    """The leader leaves."""
    leader, *others = stage.all_in()
    again = frozenset({0, RemovedError.exit_code})
    return Scene(leader, ("delete",), tuple(others), (leader,), again=again)


def renew(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead gets a new certificate."""
    members = stage.all_in()
    return Scene(members[-1], ("gencert",), tuple(members))


def arrive(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead takes a server in that is not to vote."""
    joiner, members = stage.one_out(with_etcd=with_etcd)
    sponsor = members[-1]
    token = sponsor.run("invite", "-n", joiner.name, check=True).out
    arguments = ("join", sponsor.door_name, "-i", "-")
    return Scene(joiner, arguments, (*members, joiner), token=token)


def dismiss(stage: Stage, with_etcd: bool) -> Scene:
    """A member deletes a server that does not vote."""
    nonvoting, members = stage.one_nonvoting()
    arguments = ("delete", nonvoting.name, "--force", "--no-rekey")
    return Scene(members[-1], arguments, tuple(members), (nonvoting,))


def certify(stage: Stage, with_etcd: bool) -> Scene:
    """A server that does not vote gets a new certificate."""
    nonvoting, members = stage.one_nonvoting()
    return Scene(nonvoting, ("gencert",), (*members, nonvoting))


def promote(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead has a server vote."""
    nonvoting, members = stage.one_nonvoting()
    return Scene(members[-1], ("promote", nonvoting.name), (*members, nonvoting))


def demote(stage: Stage, with_etcd: bool) -> Scene:
    """The leader has another member vote no longer."""
    leader, *others = stage.all_in()
    return Scene(leader, ("demote", others[-1].name), (leader, *others))


def readdress(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead gets another address."""
    members = stage.all_in()
    mover = members[-1]
    new = stage.move(mover)
    return Scene(mover, ("readdress", "--address", new), tuple(members))


def rekey(stage: Stage, with_etcd: bool) -> Scene:
    """A member that does not lead has the CA replaced."""
    members = stage.all_in()
    return Scene(members[-1], ("rotate-ca",), tuple(members), patience=90.0)


DRIVERS: Mapping[str, Driver] = {
    "arrive": arrive,
    "certify": certify,
    "demote": demote,
    "dismiss": dismiss,
    "promote": promote,
    "readdress": readdress,
    "rekey": rekey,
    "join": join,
    "delete": delete,
    "leave": leave,
    "renew": renew,
}

#: Operations that the matrix does not play, and why.
NOT_PLAYED: Mapping[str, str] = {
    "abort": "it begins with a join that is half done: see tests/integration/test_abort.py",
}
