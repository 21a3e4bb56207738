"""Who gets which node: a table of situations, and what must hold in all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.policy.assigning import Decision, Seat, Situation, decide

GRACE = 10.0
ONE = {"mgt1": 1, "mgt2": 2, "mgt3": 3}


def held(node: str, manager: str, *candidates: str, session: int = 0) -> Seat:
    return Seat(node, manager, session or ONE[manager], candidates)


def situation(
    *seats: Seat,
    present: dict[str, int] | None = None,
    gone: dict[int, float] | None = None,
    now: float = 0.0,
    level: bool = False,
) -> Situation:
    by_node = {seat.node: seat for seat in seats}
    return Situation(by_node, ONE if present is None else present, gone or {}, now, GRACE, level)


def managers(decision: Decision) -> dict[str, str]:
    return {seat.node: seat.manager for seat in decision.changed}


def test_new_nodes_are_spread_evenly() -> None:
    """Each goes to whoever has the least."""
    decision = decide(situation(*(Seat(f"n{n}") for n in range(9))))
    assert Counter(managers(decision).values()) == {"mgt1": 3, "mgt2": 3, "mgt3": 3}


def test_node_that_is_held_stays() -> None:
    """However uneven that is, and though others have nothing."""
    assert decide(situation(*(held(f"n{n}", "mgt1") for n in range(9)))).changed == ()


def test_lost_manager_keeps_its_nodes_for_the_grace_time() -> None:
    """It is looked at again when that is over, and then they are spread."""
    seats = [held(f"n{n}", "mgt1") for n in range(4)]
    left = {"mgt2": 2, "mgt3": 3}
    early = decide(situation(*seats, present=left, gone={1: 5.0}, now=12.0))
    assert early == Decision((), 3.0)
    late = decide(situation(*seats, present=left, gone={1: 5.0}, now=15.0))
    assert Counter(managers(late).values()) == {"mgt2": 2, "mgt3": 2}
    assert all(seat.session == left[seat.manager] for seat in late.changed)


def test_manager_in_another_life_gets_its_nodes_back_at_once() -> None:
    """Its session tells the two lives apart; the grace time is not waited for."""
    decision = decide(situation(held("n1", "mgt1"), present={"mgt1": 9, "mgt2": 2}, gone={1: 0.0}))
    assert decision.changed == (Seat("n1", "mgt1", 9),)


def test_manager_that_is_no_candidate_any_more_is_asked_to_leave() -> None:
    """It keeps the node until it has left; and if nobody else may have it."""
    seat = held("n1", "mgt1", "mgt2")
    assert decide(situation(seat)).changed == (replace(seat, leaving=True),)
    assert decide(situation(replace(seat, leaving=True))).changed == ()
    assert decide(situation(seat, present={"mgt1": 1})).changed == ()


def test_node_without_a_candidate_that_is_there_has_nobody() -> None:
    """It is no error: one may come."""
    assert decide(situation(Seat("n1", candidates=("mgt9",)))) == Decision((), None)


def test_levelling_moves_as_few_as_possible_and_by_asking() -> None:
    """Nine on one of three: six have to go, and nobody gets them before they are given up."""
    seats = [held(f"n{n}", "mgt1") for n in range(9)]
    decision = decide(situation(*seats, level=True))
    assert len(decision.changed) == 6
    assert all(seat.leaving and seat.manager == "mgt1" for seat in decision.changed)


def test_levelling_keeps_to_the_candidates() -> None:
    """Though it cannot become level then."""
    seats = [held(f"n{n}", "mgt1", "mgt1", "mgt2") for n in range(4)]
    decision = decide(situation(*seats, level=True))
    assert len(decision.changed) == 2
    assert decide(situation(*(held(f"n{n}", "mgt1", "mgt1") for n in range(4)), level=True)) == (
        Decision((), None)
    )


@pytest.mark.parametrize("manager", ["", "mgt1"])
def test_removed_node_goes_when_nobody_has_it(manager: str) -> None:
    """At once, or after its manager has given it up, or after the grace time."""
    seat = Seat("n1", manager, ONE.get(manager, 0), leaving=True, removed=True)
    decision = decide(situation(seat))
    assert [s.is_over for s in decision.changed] == ([] if manager else [True])
    gone = decide(situation(seat, present={"mgt2": 2}, gone={1: 0.0}, now=GRACE))
    assert [s.is_over for s in gone.changed] == [True]


NAMES = st.sampled_from(["mgt1", "mgt2", "mgt3", "mgt4"])
SEATS = st.builds(
    Seat,
    st.just("n"),
    st.one_of(st.just(""), NAMES),
    st.integers(1, 4),
    st.lists(NAMES, max_size=3, unique=True).map(tuple),
    st.booleans(),
    st.booleans(),
)


@given(
    st.lists(SEATS, max_size=30),
    st.dictionaries(NAMES, st.integers(1, 4), max_size=4),
    st.dictionaries(st.integers(1, 4), st.floats(0, 20), max_size=4),
    st.floats(0, 40),
    st.booleans(),
)
def test_no_decision_breaks_the_safety_properties(
    drawn: list[Seat],
    present: dict[str, int],
    gone: dict[int, float],
    now: float,
    level: bool,
) -> None:
    """Whatever was seen; and what was decided leaves nothing to decide but to wait."""
    seats = [replace(seat, node=f"n{number}") for number, seat in enumerate(drawn)]
    seen = situation(*seats, present=present, gone=gone, now=now, level=level)
    decision = decide(seen)
    for seat in decision.changed:
        old = seen.seats[seat.node]
        was_held = bool(old.manager) and present.get(old.manager) == old.session
        if was_held:
            assert replace(seat, leaving=False) == replace(old, leaving=False)
        elif seat.manager:
            assert present[seat.manager] == seat.session
            assert seat.allows(seat.manager)
            assert not seat.removed
            back = old.manager in present and old.allows(old.manager)
            waited = now - gone.get(old.session, now) >= GRACE - 1e-6
            assert not old.manager or back or waited
    after = {**seen.seats, **{seat.node: seat for seat in decision.changed}}
    left = {node: seat for node, seat in after.items() if not seat.is_over}
    assert decide(replace(seen, seats=left, level=False)).changed == ()
