"""The lives of a server as one table: what it is, what happens, what it is then.

It does nothing: ``daemon.lifecycle.lives`` takes the steps and writes the plan.

Invariants:
  * Nobody else writes the mode of a plan.
  * A pair that is not in the table is an error of ours: it raises, and changes nothing.
  * The steps of a change come before its mode is written, and can be repeated: a server that was
    cut off among them is at its next start what it was, and takes them again (``RESUMED_BY``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from collective.model.changes import TransitionError
from collective.model.plan import Mode, Plan
from collective.model.records import Role


class Event(enum.Enum):
    """What makes another one of a server; the value is for people."""

    ALONE = "as a collective of one"
    ADMITTED = "by join"
    ADOPTED = "when its former data is aside"
    VOTES = "when it votes"
    TAKEN_IN = "when it is taken in without a vote"
    PROMOTED = "by promote"
    DEMOTED = "when it is not to vote any more"
    SHED = "when the data of its etcd is aside"
    PUT_OUT = "when it is deleted or given up"
    RESTED = "when its data is aside"
    LOST = "if its data is gone, old or another's"
    FOUND = "at a start with its data back"
    FOUND_JOINING = "at a start with the data of one that did not vote back"


class FileStep(enum.Enum):
    """What is done in the folders of a server; the value is for people."""

    PREPARE = "another certificate is prepared"
    ASIDE = "the data of etcd is moved aside"
    INSTALL = "a prepared certificate takes the place of the former one, which is moved aside"


@dataclass(frozen=True)
class Transition:
    """One change.

    Attributes:
        mode: what the server is then.
        steps: what is done before that is written, in this order.
        fields: what else the plan says then, whatever it said before.
        new_life: whether all of the plan is new but for what is aside.
    """

    mode: Mode
    steps: tuple[FileStep, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    new_life: bool = False


_REPLACE = (FileStep.ASIDE, FileStep.INSTALL)
_LEARNER = {"role": Role.VOTER, "fallback": Role.NONVOTING, "existing": True, "started": False}
_NO_ETCD = {"role": Role.NONVOTING, "member_id": "", "initial_cluster": "", "started": False}

_TO = {
    Event.ALONE: Transition(Mode.MEMBER, (FileStep.PREPARE, *_REPLACE), new_life=True),
    Event.ADMITTED: Transition(Mode.ADOPTING, new_life=True),
    Event.ADOPTED: Transition(Mode.JOINING, _REPLACE),
    Event.VOTES: Transition(Mode.MEMBER, fields={"started": True, "fallback": None}),
    Event.TAKEN_IN: Transition(Mode.NONVOTING, fields={"started": False, "fallback": None}),
    Event.PROMOTED: Transition(Mode.JOINING, fields=_LEARNER),
    Event.DEMOTED: Transition(Mode.NONVOTING, fields={**_NO_ETCD, "fallback": None}),
    Event.SHED: Transition(Mode.NONVOTING, (FileStep.ASIDE,)),
    Event.PUT_OUT: Transition(Mode.LEAVING, (FileStep.PREPARE,)),
    Event.RESTED: Transition(Mode.REMOVED, _REPLACE),
    Event.LOST: Transition(Mode.LOST),
    Event.FOUND: Transition(Mode.MEMBER, fields={"reason": ""}),
    Event.FOUND_JOINING: Transition(Mode.JOINING, fields={"reason": ""}),
}

#: What may happen to a server, by what it is; None for one without a state file.
_EVENTS: Mapping[Mode | None, tuple[Event, ...]] = {
    None: (Event.ALONE, Event.LOST),
    Mode.MEMBER: (Event.ADMITTED, Event.DEMOTED, Event.PUT_OUT, Event.LOST, Event.ALONE),
    Mode.NONVOTING: (Event.PROMOTED, Event.ADMITTED, Event.PUT_OUT, Event.SHED, Event.LOST),
    Mode.ADOPTING: (Event.ADOPTED, Event.ADMITTED),
    Mode.JOINING: (
        Event.VOTES,
        Event.TAKEN_IN,
        Event.ADMITTED,
        Event.DEMOTED,
        Event.PUT_OUT,
        Event.LOST,
    ),
    Mode.LEAVING: (Event.RESTED,),
    Mode.REMOVED: (Event.ADMITTED, Event.ALONE),
    Mode.LOST: (Event.FOUND, Event.FOUND_JOINING, Event.ADMITTED, Event.ALONE, Event.LOST),
}

TABLE: Mapping[tuple[Mode | None, Event], Transition] = {
    (mode, event): _TO[event] for mode, events in _EVENTS.items() for event in events
}

#: How the next start goes on with what was cut off, by what the state file says.
RESUMED_BY: Mapping[Mode, Event] = {
    Mode.ADOPTING: Event.ADOPTED,
    Mode.LEAVING: Event.RESTED,
    Mode.NONVOTING: Event.SHED,
}


def transition(plan: Plan | None, event: Event) -> Transition:
    """Return the line of the table for what a server is, and an event.

    Raises:
        TransitionError: there is none for this pair.
    """
    mode = None if plan is None else plan.mode
    found = TABLE.get((mode, event))
    if found is None:
        was = "without a state file" if mode is None else mode.value
        raise TransitionError(f"{event.name} cannot happen to a server that is {was}")
    return found


def apply(plan: Plan | None, event: Event, **fields: Any) -> Plan:
    """Return what a server is after an event.

    Args:
        plan: what it is, None for one without a state file.
        event: what happens.
        fields: what else the plan says then; of a new life all of it but the mode.

    Raises:
        TransitionError: that cannot happen to it.
    """
    to = transition(plan, event)
    if plan is None or to.new_life:
        aside = () if plan is None else plan.aside
        return Plan(mode=to.mode, **{"aside": aside, **to.fields, **fields})
    return replace(plan, mode=to.mode, **{**to.fields, **fields})
