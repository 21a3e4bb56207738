"""Histories that hypothesis makes up: commands, duties, faults, and time, in any order.

After each step no promise may be broken; at the end, when everybody is up again and may do its
duty, the collective must be whole (P5).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collective.daemon.joining import invitations
from collective.daemon.membership import removal
from collective.daemon.node import Node
from collective.model.plan import Mode
from collective.model.records import Role
from collective.model.token import Token
from tests.simulation.actors import Actor, Fate
from tests.simulation.joining import finish_join, give_up, join
from tests.simulation.world import Machine, World, running

MACHINES = 5
_MOST_ACTORS = 6
_MOST_STEPS = 100
_ROUNDS = 40
_STEPS_A_ROUND = 12

indexes = st.integers(0, 19)
few = st.sampled_from([0, 0, 0, 1, 2, 5])
mostly = st.sampled_from([True, True, True, False])
ahead = st.integers(0, 12)
FATES = (*[Fate.DONE] * 6, Fate.LOST, Fate.UNHEARD, Fate.LATE)
WAITS = (1.0, 3.0, 15.0, 400.0, 4000.0)
HAPPENINGS = ("hear", "hear", "notice", "lead", "deliver")
FAULTS = ("crash", "cut off", "mend", "mend")


class History(RuleBasedStateMachine):
    """One history of a collective of up to five servers."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = World(MACHINES, 1, False)
        self.tokens: list[Token] = []

    @initialize(members=st.integers(1, 4), invited=st.integers(0, 2), lists_locally=st.booleans())
    def begin(self, members: int, invited: int, lists_locally: bool) -> None:
        """Begin with some members, and with some invitations; the other servers are fresh."""
        self.world = World(MACHINES, members, lists_locally)
        self.stack.enter_context(running(self.world))
        first = self.world.machines[0]
        for machine in self.world.machines[members : members + invited]:
            body = partial(self._invite, first.require_node(), machine.number, 3600)
            self._spawn(first, "invite", body, _MOST_STEPS)

    def _pick(self, found: list[Any], index: int) -> Any:
        return found[index % len(found)] if found else None

    def _living(self) -> list[Machine]:
        return [m for m in self.world.machines if m.node is not None and m.mode is Mode.MEMBER]

    def _spawn(self, machine: Machine, label: str, body: Callable[[], Any], steps: int) -> None:
        actors = self.world.actors
        if len(actors.running) < _MOST_ACTORS:
            actors.run(actors.spawn(machine, label, body), steps)

    # Commands ---------------------------------------------------------------------------------

    @rule(by=indexes, whom=indexes, seconds=st.sampled_from([60, 3600]), steps=ahead)
    def invite(self, by: int, whom: int, seconds: int, steps: int) -> None:
        """Invite a server by name, mostly one that is not in."""
        outside = [m.number for m in self.world.machines if m.mode is Mode.REMOVED]
        number = self._pick([*outside, *outside, *range(1, MACHINES + 1)], whom)
        machine = self._pick(self._living(), by)
        if machine is not None:
            node = machine.require_node()
            self._spawn(machine, "invite", lambda: self._invite(node, number, seconds), steps)

    def _invite(self, node: Node, number: int, seconds: int) -> None:
        self.tokens.append(
            invitations.invite(node, f"mgt{number}", seconds, Role.VOTER, node.name).token
        )

    @precondition(lambda self: self.tokens)
    @rule(token=few, machine=indexes, via=indexes, its_own=mostly, steps=ahead)
    def join(self, token: int, machine: int, via: int, its_own: bool, steps: int) -> None:
        """Join with any token there ever was, on the machine that it is for or on another."""
        shown: Token = self.tokens[-1 - token % len(self.tokens)]
        joiners = [m for m in self.world.machines if m.can_join]
        if its_own:
            joiners = [m for m in joiners if shown.name == f"mgt{m.number}"]
        joiner, member = self._pick(joiners, machine), self._pick(self._living(), via)
        if joiner is not None and member is not None:
            body = lambda: join(self.world, joiner, member, shown)  # noqa: E731
            self._spawn(joiner, "join", body, 2 * steps)

    @rule(by=indexes, whom=indexes, steps=ahead)
    def revoke(self, by: int, whom: int, steps: int) -> None:
        """End an invitation."""
        machine = self._pick(self._living(), by)
        name = self._pick(list(self.world.etcd.view.invitations), whom)
        if machine is not None and name is not None:
            node = machine.require_node()
            self._spawn(machine, "revoke", lambda: invitations.revoke(node, name), steps)

    @rule(index=indexes, via=indexes, steps=ahead)
    def abort(self, index: int, via: int, steps: int) -> None:
        """Give a join up."""
        joiners = [m for m in self.world.machines if m.alive and m.mode is Mode.JOINING]
        machine, member = self._pick(joiners, index), self._pick(self._living(), via)
        if machine is not None and member is not None:
            self._spawn(machine, "abort", lambda: give_up(machine, member), steps)

    @rule(by=indexes, whom=indexes, force=mostly, rekey=st.booleans(), steps=ahead)
    def delete(self, by: int, whom: int, force: bool, rekey: bool, steps: int) -> None:
        """Delete another server."""
        machine = self._pick(self._living(), by)
        if machine is not None:
            node = machine.require_node()
            others = [n for n in self.world.etcd.view.members if n != node.name]
            name = self._pick([*others, "mgt9"], whom)
            body = lambda: removal.delete(node, name, force, node.name, rekey)  # noqa: E731
            self._spawn(machine, "delete", body, steps)

    @rule(by=indexes, steps=ahead)
    def leave(self, by: int, steps: int) -> None:
        """Leave."""
        machine = self._pick(self._living(), by)
        if machine is not None:
            node = machine.require_node()
            self._spawn(machine, "leave", lambda: removal.leave(node, rekey=True), steps)

    @rule(by=st.integers(-8, 7), steps=ahead)
    def duties(self, by: int, steps: int) -> None:
        """Have the leader, or another that may believe to lead by now, do its duties once."""
        leads = self.world.leader_id()
        found = [m for m in self._living() if by >= 0 or m.member_id == leads]
        machine = self._pick(found, by)
        if machine is not None and machine.duties is not None:
            self._spawn(machine, "duties", machine.duties._round, steps)

    # Time and steps ---------------------------------------------------------------------------

    @precondition(lambda self: self.world.actors.running)
    @rule(actor=indexes, fate=st.sampled_from(FATES))
    def step(self, actor: int, fate: Fate) -> None:
        """Let somebody make one call, which may be lost."""
        self.world.actors.step(self._pick(self.world.actors.running, actor), fate)

    @precondition(lambda self: self.world.actors.running)
    @rule(actor=indexes, steps=st.integers(1, 25), fate=st.sampled_from(FATES))
    def go_on(self, actor: int, steps: int, fate: Fate) -> None:
        """Let somebody go on for a while, until a call that may be lost."""
        chosen = self._pick(self.world.actors.running, actor)
        self.world.actors.run(chosen, steps)
        if not chosen.done:
            self.world.actors.step(chosen, fate)

    @rule(seconds=st.sampled_from(WAITS), leases=st.booleans())
    def wait(self, seconds: float, leases: bool) -> None:
        """Let time pass; etcd may be late to end leases."""
        self.world.time.now += seconds
        if leases:
            self.world.etcd.expire(self.world.time.now)

    @rule(what=st.sampled_from(HAPPENINGS), index=indexes)
    def happen(self, what: str, index: int) -> None:
        """Have news heard and learners catch up, a leader elected, a late change made."""
        machine = self._pick(self.world.machines, index)
        if what == "hear":
            for each in self.world.machines if index % 2 else [machine]:
                self.world.catch_up(each)
        elif what == "notice":
            machine.rest()
        elif what == "lead":
            self.world.lead(machine.member_id)
        elif self.world.late:
            self.world.deliver(index)

    # Faults -----------------------------------------------------------------------------------

    @rule(what=st.sampled_from(FAULTS), index=indexes)
    def fault(self, what: str, index: int) -> None:
        """Take power or network off a server, or give all back."""
        machine = self._pick(self.world.machines, index)
        if what == "crash":
            machine.crash()
        elif what == "cut off":
            self.world.promises.lost(machine.member_id)
            machine.cut_off = True
        else:
            broken = [m for m in self.world.machines if not m.reachable]
            self._mend(self._pick(broken, index))

    def _mend(self, machine: Machine | None) -> None:
        if machine is None:
            return
        machine.cut_off = False
        if not machine.up:
            machine.start()
            if machine.mode is Mode.JOINING:
                self._resume(machine)

    # Promises ---------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        """No promise was broken, and nothing failed that cannot fail."""
        assert not self.world.promises.breaches, self.world.promises.breaches
        for error in self.world.actors.crashed():
            raise error

    def teardown(self) -> None:
        """See that the collective gets whole when all may do their duty."""
        try:
            if not self.world.promises.breaches and not self.world.actors.crashed():
                why = self._settle()
                self.promises_hold()
                assert not why, f"P5: {why}"
        finally:
            for what, count in self.world.promises.counts.items():
                TOTALS[what] = TOTALS.get(what, 0) + count
            TOTALS["histories"] = TOTALS.get("histories", 0) + 1
            self.stack.close()

    def _settle(self) -> list[str]:
        world = self.world
        for machine in world.machines:
            self._mend(machine)
        while world.late:
            world.deliver(0)
        why = ["not begun"]
        for _ in range(_ROUNDS):
            self._round()
            why = world.promises.unsettled()
            if not world.actors.running and not why:
                break
        return why

    def _round(self) -> None:
        world = self.world
        for machine in world.machines:
            world.catch_up(machine)
            if machine.rest():
                continue
            leads = machine.alive and machine.member_id == world.leader_id()
            busy = any(a.host is machine for a in world.actors.running)
            if machine.duties is not None and leads:
                world.actors.run(world.actors.spawn(machine, "duties", machine.duties._round))
            if machine.mode is Mode.JOINING and not busy:
                self._resume(machine)
        self._run_some(list(world.actors.running))
        world.time.now += 45.0

    def _resume(self, machine: Machine) -> None:
        world = self.world
        world.actors.spawn(machine, "resume", lambda: finish_join(world, machine))

    def _run_some(self, actors: list[Actor]) -> None:
        for actor in actors:
            self.world.actors.run(actor, _STEPS_A_ROUND)


#: How often what was looked at has happened, over all histories of this process.
TOTALS: dict[str, int] = {}
