"""The lives of a server: each pair of the table, the whole graph, and who else writes a mode."""

from __future__ import annotations

import ast
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

import collective
from collective.model.changes import TransitionError
from collective.model.plan import Mode, Plan
from collective.model.records import Role
from collective.policy import transitions
from collective.policy.transitions import (
    RESUMED_BY,
    TABLE,
    Event,
    FileStep,
    apply,
)

PACKAGE = Path(collective.__file__).parent
OURS = Path(transitions.__file__)

#: Written a second time, on purpose: a pair that comes or goes is a decision.
EXPECTED = {
    None: {Event.ALONE: "member", Event.LOST: "lost"},
    Mode.MEMBER: {
        Event.ALONE: "member",
        Event.ADMITTED: "adopting",
        Event.DEMOTED: "nonvoting",
        Event.PUT_OUT: "leaving",
        Event.LOST: "lost",
    },
    Mode.NONVOTING: {
        Event.ADMITTED: "adopting",
        Event.PROMOTED: "joining",
        Event.PUT_OUT: "leaving",
        Event.SHED: "nonvoting",
        Event.LOST: "lost",
    },
    Mode.ADOPTING: {Event.ADMITTED: "adopting", Event.ADOPTED: "joining"},
    Mode.JOINING: {
        Event.ADMITTED: "adopting",
        Event.VOTES: "member",
        Event.TAKEN_IN: "nonvoting",
        Event.DEMOTED: "nonvoting",
        Event.PUT_OUT: "leaving",
        Event.LOST: "lost",
    },
    Mode.LEAVING: {Event.RESTED: "removed"},
    Mode.REMOVED: {Event.ADMITTED: "adopting", Event.ALONE: "member"},
    Mode.LOST: {
        Event.ADMITTED: "adopting",
        Event.ALONE: "member",
        Event.FOUND: "member",
        Event.FOUND_JOINING: "joining",
        Event.LOST: "lost",
    },
}
STATES = (None, *Mode)
AGAIN = {
    "name": "mgt1", "address": "10.0.0.9", "door_port": 13002, "peer_port": 13003,
    "cluster_token": "cd", "initial_cluster": "", "existing": True,
}  # fmt: skip


def plan(mode: Mode | None) -> Plan | None:
    """Return the plan of a server on which each field says something."""
    if mode is None:
        return None
    return Plan(
        mode, "mgt1", "10.0.0.1", 1, 2, "ab", "mgt1=https://a:1", False, "12", "10.0.0.2:13002",
        True, "why", "ef", "10.0.0.3", ("/aside/etcd",), Role.LEARNER, Role.VOTER,
    )  # fmt: skip


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("mode", STATES)
def test_each_pair_leads_where_it_is_to_or_raises(mode: Mode | None, event: Event) -> None:
    """Also each that cannot be: it says what, and of whom, and the plan is what it was."""
    was = plan(mode)
    expected = EXPECTED[mode].get(event)
    begins = mode is None or event in (Event.ALONE, Event.ADMITTED)
    if expected is not None:
        assert apply(was, event, **(AGAIN if begins else {})).mode is Mode(expected)
        return
    said = "without a state file" if mode is None else mode.value
    with pytest.raises(TransitionError, match=f"^{event.name} cannot happen to .* {said}$"):
        apply(was, event, **AGAIN)
    assert was == plan(mode)


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (Event.ADOPTED, {}),
        (Event.VOTES, {"started": True, "fallback": None}),
        (Event.TAKEN_IN, {"started": False, "fallback": None}),
        (
            Event.PROMOTED,
            {"role": Role.VOTER, "fallback": Role.NONVOTING, "existing": True, "started": False},
        ),
        (
            Event.DEMOTED,
            {
                "role": Role.NONVOTING,
                "fallback": None,
                "member_id": "",
                "initial_cluster": "",
                "started": False,
            },
        ),
        (Event.SHED, {}),
        (Event.PUT_OUT, {}),
        (Event.RESTED, {}),
        (Event.LOST, {}),
        (Event.FOUND, {"reason": ""}),
        (Event.FOUND_JOINING, {"reason": ""}),
    ],
)
def test_plan_of_the_same_life_says_what_it_said_but_for_this(
    event: Event, changed: dict[str, object]
) -> None:
    """And what the caller adds, which counts last."""
    mode = next(m for m, e in TABLE if e is event and m is not None)
    was = plan(mode)
    expected = {**vars(was), "mode": TABLE[mode, event].mode, **changed}
    assert vars(apply(was, event)) == expected
    told = {"reason": "told", "role": Role.LEARNER}
    assert vars(apply(was, event, **told)) == {**expected, **told}


@pytest.mark.parametrize("event", [Event.ALONE, Event.ADMITTED])
@pytest.mark.parametrize("mode", [Mode.MEMBER, Mode.REMOVED, Mode.LOST])
def test_new_life_knows_nothing_of_the_former_but_where_its_data_is(
    mode: Mode, event: Event
) -> None:
    """P7; a reason, a fallback or an address to move to would be those of another life."""
    made = apply(plan(mode), event, **AGAIN)
    fresh = Plan(TABLE[mode, event].mode, **AGAIN)  # type: ignore[arg-type]
    assert {**vars(made), "aside": ()} == vars(fresh)
    assert made.aside == ("/aside/etcd",)
    assert apply(plan(mode), event, **made.given()) == made


def test_unknown_field_raises() -> None:
    """What a caller adds is a field of the plan, or an error."""
    with pytest.raises(TypeError):
        apply(plan(Mode.MEMBER), Event.LOST, resaon="")
    assert "resaon" not in {field.name for field in fields(Plan)}


def reached_from(start: Mode | None) -> set[Mode]:
    """Return the modes that a server can come to."""
    found: set[Mode] = set()
    left: list[Mode | None] = [start]
    while left:
        mode = left.pop()
        fresh = {to.mode for (former, _), to in TABLE.items() if former is mode} - found
        found |= fresh
        left += fresh
    return found


@pytest.mark.parametrize("mode", STATES)
def test_every_mode_is_reached_from_every_other(mode: Mode | None) -> None:
    """There is none without a way out: not even ``removed``, or ``lost``."""
    assert reached_from(mode) == set(Mode)


def test_every_mode_but_settled_ones_is_left_by_itself() -> None:
    """No person is needed where a step was cut off, and a learner waits for what others say."""
    by_person = {Event.ADMITTED, Event.ALONE}
    for mode in (Mode.ADOPTING, Mode.LEAVING, Mode.JOINING):
        assert any(m is mode and e not in by_person for m, e in TABLE)


def test_whatever_was_cut_off_is_gone_on_with() -> None:
    """Who finds its steps half taken takes them again; a collective of one is begun anew."""
    moving = {e for (_, e), to in TABLE.items() if FileStep.ASIDE in to.steps}
    assert moving - {Event.ALONE} == set(RESUMED_BY.values())
    for mode, event in RESUMED_BY.items():
        to = TABLE[mode, event]
        assert to.mode not in RESUMED_BY or to.mode is mode, "one step between two lives"
        assert not to.fields, "twice is as once"
    assert {m for m, e in TABLE if e in RESUMED_BY.values()} == set(RESUMED_BY)


@cache
def trees() -> list[tuple[Path, ast.AST]]:
    return [(path, ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")]


def test_nobody_else_writes_a_mode() -> None:
    """Neither on a plan that is, nor by making one."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if path == OURS or not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            writes = any(k.arg == "mode" for k in node.keywords)
            if called == "Plan" or (called.endswith("replace") and writes):
                found.append(f"{path.name}:{node.lineno} {called}")
    assert not found


def test_every_event_happens_somewhere() -> None:
    """One that nobody names is a way that is not there."""
    named = {
        node.attr
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and path != OURS and ast.unparse(node.value) == "Event"
    }
    assert named >= {event.name for event in Event}
