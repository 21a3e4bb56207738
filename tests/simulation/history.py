"""Histories that hypothesis makes up: commands, duties, faults, and time, in any order.

After each step no promise may be broken; at the end, when everybody is up again and may do its
duty, the collective must be whole (P5).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collective.daemon.certificates.replacement import replace_certificate
from collective.daemon.joining import invitations
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import demotion, promotion, removal
from collective.model.plan import Mode
from collective.model.records import Role
from collective.model.token import Token
from collective.protocol import messages
from tests.simulation.actors import Actor, Fate
from tests.simulation.joining import finish_join, give_up, join
from tests.simulation.world import LEARNER_SECONDS, Machine, World, running

MACHINES = 5
_MOST_ACTORS = 6
_MOST_STEPS = 100
_ROUNDS, _QUICK_ROUNDS = 60, 15
_STEPS_A_ROUND = 12
_STEPS_TO_BEGIN = 14
#: What goes on by itself, beside however many commands.
_BACKGROUND = frozenset({"begin", "resume", "later"})

indexes = st.integers(0, 19)
few = st.sampled_from([0, 0, 0, 1, 2, 5])
mostly = st.sampled_from([True, True, True, False])
ahead = st.integers(0, 12)
FATES = (*[Fate.DONE] * 6, Fate.LOST, Fate.UNHEARD, Fate.LATE)
WAITS = (1.0, 3.0, 15.0, 400.0, 4000.0)
HAPPENINGS = ("hear", "hear", "notice", "lead", "deliver")
WORKS = ("trust", "trust", "trust", "replacement", "promotee", "move")
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
        self.world.on_resume = self._resume
        self.stack.enter_context(running(self.world))
        first = self.world.machines[0]
        for machine in self.world.machines[members : members + invited]:
            role = Role.NONVOTING if machine.number % 2 else Role.VOTER
            body = partial(self._invite, first.require_runtime(), machine.number, 3600, role)
            self._spawn(first, "invite", body, _MOST_STEPS)

    def _pick(self, found: list[Any], index: int) -> Any:
        return found[index % len(found)] if found else None

    def _living(self) -> list[Machine]:
        return [m for m in self.world.machines if m.runtime is not None and m.mode is Mode.MEMBER]

    def _members(self) -> list[Machine]:
        settled = (Mode.MEMBER, Mode.NONVOTING)
        return [m for m in self.world.machines if m.runtime is not None and m.mode in settled]

    def _spawn(self, machine: Machine, label: str, body: Callable[[], Any], steps: int) -> None:
        actors = self.world.actors
        if len([a for a in actors.running if a.label not in _BACKGROUND]) < _MOST_ACTORS:
            actors.run(actors.spawn(machine, label, body), steps)

    # Commands ---------------------------------------------------------------------------------

    @rule(
        by=indexes,
        whom=indexes,
        seconds=st.sampled_from([60, 3600]),
        votes=mostly,
        steps=ahead,
    )
    def invite(self, by: int, whom: int, seconds: int, votes: bool, steps: int) -> None:
        """Invite a server by name, mostly one that is not in."""
        outside = [m.number for m in self.world.machines if m.mode is Mode.REMOVED]
        number = self._pick([*outside, *outside, *range(1, MACHINES + 1)], whom)
        machine = self._pick(self._living(), by)
        if machine is not None:
            role = Role.VOTER if votes else Role.NONVOTING
            body = partial(self._invite, machine.require_runtime(), number, seconds, role)
            self._spawn(machine, "invite", body, steps)

    def _invite(self, runtime: MemberRuntime, number: int, seconds: int, role: Role) -> None:
        self.tokens.append(
            invitations.invite(runtime, f"mgt{number}", seconds, role, runtime.name).token
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
            self._spawn(joiner, "join", body, 4 * steps)

    @precondition(lambda self: len(self.tokens) > 1)
    @rule(token=indexes, machine=indexes, via=indexes, steps=ahead)
    def rename(self, token: int, machine: int, via: int, steps: int) -> None:
        """Lose power in the middle of a join, and join by a token for another name.

        The sponsor of the first join may be slow: it has seen that the address is nobody's, and
        writes its record when the other one stands already.
        """
        running, view = self.world.actors.running, self.world.etcd.view
        asked = {a.host: a.child for a in running if a.label == "join" and a.child is not None}
        joiner = self._pick([m for m in self.world.machines if m in asked], machine)
        if joiner is None:
            return
        good = [t for t in self.tokens if t.name in view.invitations and t.name != joiner.name]
        self.world.actors.run(asked[joiner], steps % 7)
        shown = self._pick(good, token)
        if shown is None or joiner.mode is not Mode.REMOVED:
            return
        joiner.crash()
        self._mend(joiner)
        member = self._pick(self._living(), via)
        if member is not None:
            body = lambda: join(self.world, joiner, member, shown)  # noqa: E731
            self._spawn(joiner, "join", body, 8 * steps)

    def renamed(self, steps: int) -> None:
        """Have a server join by another name while the sponsor of its first join stands still.

        That one goes on afterwards. No rule leads here: few histories would, as an address that is
        recorded is refused to everybody else, but in the moment between that look and the write.
        """
        actors, outside = self.world.actors, [m for m in self.world.machines if not m.runtime]
        if len(outside) < 2:
            return
        joiner, other = outside[:2]
        member = self._living()[0]
        runtime = member.require_runtime()
        for name in (joiner.number, other.number):
            body = partial(self._invite, runtime, name, 3600, Role.VOTER)
            actors.run(actors.spawn(member, "invite", body))
        first, second = self.tokens[-2:]
        asked = actors.spawn(joiner, "join", lambda: join(self.world, joiner, member, first))
        while not asked.done and (asked.child is None or asked.child.label != messages.ADMIT):
            actors.step(asked)
        if asked.child is None:
            return
        slow = asked.child
        actors.run(slow, steps)
        joiner.crash()
        self._mend(joiner)
        if slow.done:
            return
        actors.running.remove(slow)
        actors.spawn(joiner, "join", lambda: join(self.world, joiner, member, second))
        for _ in range(_QUICK_ROUNDS):
            self._round(True)
        actors.running.append(slow)

    @rule(by=indexes, whom=indexes, steps=ahead)
    def revoke(self, by: int, whom: int, steps: int) -> None:
        """End an invitation."""
        machine = self._pick(self._living(), by)
        name = self._pick(list(self.world.etcd.view.invitations), whom)
        if machine is not None and name is not None:
            runtime = machine.require_runtime()
            self._spawn(machine, "revoke", lambda: invitations.revoke(runtime, name), steps)

    @rule(index=indexes, via=indexes, steps=ahead)
    def abort(self, index: int, via: int, steps: int) -> None:
        """Give a join up."""
        joiners = [m for m in self.world.machines if m.alive and m.mode is Mode.JOINING]
        machine, member = self._pick(joiners, index), self._pick(self._living(), via)
        if machine is not None and member is not None:
            self._spawn(machine, "abort", lambda: give_up(machine, member), steps)

    @rule(by=indexes, whom=indexes, force=mostly, steps=ahead)
    def delete(self, by: int, whom: int, force: bool, steps: int) -> None:
        """Delete another server."""
        machine = self._pick(self._living(), by)
        if machine is not None:
            runtime = machine.require_runtime()
            others = [n for n in self.world.etcd.view.members if n != runtime.name]
            lost = [m.name for m in self.world.machines if m.name in others and not m.reachable]
            name = self._pick([*others, "mgt9", *lost, *lost], whom)
            run = lambda: removal.delete(runtime, name, force, runtime.name)  # noqa: E731
            body = partial(self.world.promises.shutting_out, name, run)
            self._spawn(machine, "delete", body, 2 * steps)

    @rule(by=indexes, steps=ahead)
    def leave(self, by: int, steps: int) -> None:
        """Leave."""
        machine = self._pick(self._living(), by)
        if machine is not None:
            runtime = machine.require_runtime()
            self._spawn(machine, "leave", lambda: removal.leave(runtime), steps)

    @rule(by=indexes, whom=indexes, steps=ahead)
    def demote(self, by: int, whom: int, steps: int) -> None:
        """Take the vote of another server."""
        machine = self._pick(self._living(), by)
        if machine is not None:
            runtime = machine.require_runtime()
            name = self._pick([n for n in self.world.etcd.view.voters if n != runtime.name], whom)
            if name is not None:
                run = lambda: demotion.demote(runtime, name, runtime.name, _ignore)  # noqa: E731
                body = partial(self.world.promises.shutting_out, name, run)
                self._spawn(machine, "demote", body, 2 * steps)

    @rule(by=indexes, whom=indexes, steps=ahead)
    def promote(self, by: int, whom: int, steps: int) -> None:
        """Give a server a vote that has none."""
        machine, members = self._pick(self._living(), by), self.world.etcd.view.members
        name = self._pick([n for n, m in members.items() if m.role is Role.NONVOTING], whom)
        if machine is not None and name is not None:
            runtime = machine.require_runtime()
            body = lambda: promotion.promote(runtime, name, LEARNER_SECONDS, _ignore)  # noqa: E731
            self._spawn(machine, "promote", body, 2 * steps)

    @rule(by=indexes, steps=ahead)
    def gencert(self, by: int, steps: int) -> None:
        """Give a server another certificate."""
        machine = self._pick(self._members(), by)
        if machine is not None:
            runtime = machine.require_runtime()
            self._spawn(machine, "gencert", partial(_gencert, machine, runtime), 2 * steps)

    @rule(by=indexes, steps=ahead)
    def readdress(self, by: int, steps: int) -> None:
        """Give a server its other address."""
        machine = self._pick(self._members(), by)
        if machine is not None:
            other = next(a for a in machine.addresses if a != machine.address)
            self._spawn(machine, "move", partial(self._move, machine, other), 2 * steps)

    def _move(self, machine: Machine, address: str) -> None:
        """Change an address, one change at a time, see ``keeper``."""
        runtime = machine.require_runtime()
        if (
            len([a for a in self.world.actors.running if a.label == "move" and a.host is machine])
            < 2
        ):
            machine.move.run(cast(MemberRuntime, runtime), address, _ignore)

    @rule(by=st.integers(-8, 7), steps=ahead)
    def duties(self, by: int, steps: int) -> None:
        """Have the leader, or another that may believe to lead by now, do its duties once."""
        leads = self.world.leader_id()
        found = [m for m in self._living() if by >= 0 or m.member_id == leads]
        machine = self._pick(found, by)
        if machine is not None:
            self._spawn(machine, "duties", machine.duties._round, steps)

    @rule(what=st.sampled_from(WORKS), index=indexes, steps=ahead)
    def work(self, what: str, index: int, steps: int) -> None:
        """Have one server, or all of them, do what is to be done for a change."""
        able = [m for m in self.world.machines if m.runtime is not None and not m.is_busy(what)]
        for machine in able if index % 2 else [self._pick(able, index)]:
            if machine is not None:
                self._work(machine, what, 3 * steps if index % 2 else steps)

    def _work(self, machine: Machine, what: str, steps: int) -> None:
        body = self._task(machine, what)
        if body is not None:
            self.world.actors.run(self.world.actors.spawn(machine, what, body), steps)

    def _task(self, machine: Machine, what: str) -> Callable[[], Any] | None:
        """Return what one of a server's threads does once, None where it has no such thread."""
        runtime = machine.runtime
        if runtime is None or machine.is_busy(what):
            return None
        if what == "trust":
            return machine.trust_round._round if runtime.votes else None
        if what == "replacement":
            return machine.replacement._round if machine.mode is not Mode.JOINING else None
        if what == "promotee":
            votes = machine.mode is not Mode.NONVOTING
            return None if votes else partial(machine.promotee._look, cast(MemberRuntime, runtime))
        due = machine.due_address() if machine.mode is not Mode.JOINING else None
        return None if due is None else partial(self._move, machine, due)

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
            self._look(machine, index)
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
            machine.lose_network()
        else:
            broken = [m for m in self.world.machines if not m.reachable]
            self._mend(self._pick(broken, index))

    def _mend(self, machine: Machine | None) -> None:
        if machine is None:
            return
        machine.cut_off = False
        if not machine.up:
            machine.start()
            for actor in [a for a in self.world.actors.running if a.host is machine]:
                self.world.actors.run(actor, _STEPS_TO_BEGIN)
            if machine.mode is Mode.JOINING:
                self._resume(machine)

    def _look(self, machine: Machine, steps: int) -> None:
        """Have a server find out whether it was removed."""
        if not machine.is_busy("look"):
            actors = self.world.actors
            actors.run(actors.spawn(machine, "look", machine.look), steps)

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
            self._mend(machine if not machine.reachable else None)
        while world.late:
            world.deliver(0)
        why = ["not begun"]
        for number in range(_ROUNDS):
            self._round(number < _QUICK_ROUNDS)
            why = world.promises.unsettled()
            if not world.actors.running and not why:
                break
        return why

    def _round(self, quick: bool) -> None:
        world = self.world
        world.etcd.expire(world.time.now)
        for machine in world.machines:
            world.catch_up(machine)
            self._look(machine, _STEPS_TO_BEGIN)
            leads = machine.alive and machine.member_id == world.leader_id()
            if leads and not machine.is_busy("duties"):
                world.actors.run(world.actors.spawn(machine, "duties", machine.duties._round))
            for what in dict.fromkeys(WORKS):
                self._work(machine, what, _STEPS_A_ROUND * 3)
            if machine.mode is Mode.JOINING and not machine.is_busy("join", "resume"):
                self._resume(machine)
        self._run_some(list(world.actors.running))
        world.time.now += 4.0 if quick else 40.0

    def _resume(self, machine: Machine) -> None:
        world = self.world
        world.actors.spawn(machine, "resume", lambda: finish_join(world, machine))

    def _run_some(self, actors: list[Actor]) -> None:
        for actor in actors:
            self.world.actors.run(actor, _STEPS_A_ROUND)


def _gencert(machine: Machine, runtime: MemberRuntime) -> None:
    """Make a certificate for where a server is once it is its turn, see ``gencert``."""
    with runtime.replacing:
        replace_certificate(runtime, [machine.address], _ignore)


def _ignore(_step: str, _said: str) -> None:
    """Hear of a step."""


#: How often what was looked at has happened, over all histories of this process.
TOTALS: dict[str, int] = {}
