"""The forecast: its numbers agree with what is refused, and its lines say what they mean."""

from __future__ import annotations

import json

import pytest

from collective.errors import ProtocolError
from collective.policy import forecast
from collective.policy.forecast import Forecast
from collective.policy.membership import Observed, Strength
from tests.unit.policy.test_membership import subsets, view_of

TWO = "quorum 2, still none may be lost; a third voter is wanted"


@pytest.mark.parametrize(
    ("told", "lines"),
    [
        (
            forecast.with_voter(Strength(1, 1), "mgt2"),
            ("now: 1 voter, quorum 1, none may be lost", f"with mgt2: 2 voters, {TWO}"),
        ),
        (
            forecast.with_voter(Strength(2, 2), "mgt3"),
            (
                "now: 2 voters, quorum 2, none may be lost; a third voter is wanted",
                "with mgt3: 3 voters, quorum 2, 1 more may be lost",
            ),
        ),
        (
            forecast.with_voter(Strength(3, 2), "mgt4"),
            (
                "now: 3 voters, quorum 2, 2 answer, none may be lost",
                "with mgt4: 4 voters, quorum 3, 3 answer, still none may be lost",
            ),
        ),
        (
            forecast.with_nonvoting(Strength(5, 5), "mgt6"),
            (
                "now: 5 voters, quorum 3, 2 more may be lost",
                "with mgt6, which does not vote: 5 voters, quorum 3, 2 more may be lost",
            ),
        ),
        (
            forecast.without_voter(Strength(3, 2), "mgt3", answers=False),
            (
                "now: 3 voters, quorum 2, 2 answer, none may be lost",
                "without mgt3: 2 voters, quorum 2, none may be lost; a third voter is wanted",
            ),
        ),
        (
            forecast.demoted(Strength(3, 2), "mgt2", answers=True),
            (
                "now: 3 voters, quorum 2, 2 answer, none may be lost",
                "without the vote of mgt2: 2 voters, quorum 2, 1 answers, no quorum",
            ),
        ),
        (
            forecast.without_nonvoting(Strength(1, 1), "mgt2"),
            (
                "now: 1 voter, quorum 1, none may be lost",
                "without mgt2: 1 voter, quorum 1, none may be lost",
            ),
        ),
    ],
)
def test_forecast_has_one_short_line_for_before_and_one_for_after(
    told: Forecast, lines: tuple[str, str]
) -> None:
    """Voters, quorum, how many more may be lost; two voters are told to want a third."""
    assert told.lines() == lines
    assert told.lines(done=True) == (lines[0].replace("now:", "before:", 1), lines[1])
    assert told.to_document()["lines"] == list(lines)


@pytest.mark.parametrize("voters", range(2, 8))
def test_forecast_of_a_deletion_has_the_numbers_that_decide_on_it(voters: int) -> None:
    """For every set of voters that answers: the strength that P1 is judged on."""
    view = view_of(voters)
    for answering in subsets([f"m{n}" for n in range(1, voters + 1)]):
        observed = Observed("m1", view, frozenset(view.voters), answering)
        for name in view.voters:
            told = forecast.without_voter(observed.strength(), name, name in answering)
            assert told.after == observed.strength(without=name)
            assert told.after == forecast.demoted(told.before, name, name in answering).after


def test_forecast_crosses_a_door() -> None:
    """The numbers do; the words are those of the server that prints them."""
    told = forecast.with_voter(Strength(4, 3), "mgt5")
    assert Forecast.from_wire(json.loads(json.dumps(told.to_wire())), told.what) == told


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"before": {"voters": 1, "answering": 1}},
        {"before": {"voters": 1, "answering": 2}, "after": {"voters": 1, "answering": 1}},
        {"before": {"voters": 1, "answering": -1}, "after": {"voters": 1, "answering": 1}},
        {"before": {"voters": 1e9, "answering": 1}, "after": {"voters": 1, "answering": 1}},
        {"before": {"voters": "1", "answering": 1}, "after": {"voters": 1, "answering": 1}},
    ],
)
def test_broken_forecast_is_a_protocol_error(raw: object) -> None:
    """Another server sent it."""
    with pytest.raises(ProtocolError):
        Forecast.from_wire(raw, "with mgt2")
