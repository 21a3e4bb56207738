"""The promises over thousands of random histories, and that the histories would find a bug.

COLLECTIVE_HISTORIES=20000 runs more of those with a seed; for hours of ever new ones see
``python -m tests.simulation.drive``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.drive import drive
from tests.simulation.history import TOTALS, History

Recorder = Callable[[str, object], None]
HISTORIES = int(os.environ.get("COLLECTIVE_HISTORIES", "1500"))
ENOUGH_FOR_A_BUG = 5000
RENAMED = 100
_OFTEN = (
    "admitted",
    "certificate changed",
    "demote done",
    "remove done",
    "restarted",
    "shut out",
    "voter removed",
)
_SELDOM = ("added", "learner removed", "promoted", "readdressed")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep what the product warns of, in thousands of histories, out of the report."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.peers(3)
def test_histories_by_seed_break_no_promise(
    record_property: Callable[[str, object], None],
) -> None:
    """Commands, duties, crashes, cuts, lost and late calls; and in the end all is well."""
    TOTALS.clear()
    assert drive(1, lambda count: count >= HISTORIES) == HISTORIES
    for what, count in TOTALS.items():
        record_property(what, count)
    # A history in which nothing happens breaks nothing: see that things happen.
    for what in _OFTEN:
        assert TOTALS[what] > HISTORIES // 10, what
    # Each of these needs restarts of several servers in turn, which are cut off here, too.
    for what in _SELDOM:
        assert TOTALS[what] > HISTORIES // 30, what


def test_histories_that_hypothesis_makes_up_break_no_promise() -> None:
    """Fewer, since it takes longer, but one that breaks something is made small."""
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=150,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_histories_with_a_join_by_another_name_break_no_promise() -> None:
    """The sponsor of the first join goes on when its server is a member by another name."""
    assert drive(1, lambda count: count >= RENAMED, renamed=True) == RENAMED


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_bug_that_is_planted_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check, compare and duty is there for a reason, which the histories know."""
    bug.plant(monkeypatch)
    with pytest.raises(AssertionError, match="|".join(bug.promise)):
        drive(bug.first, lambda count: count >= ENOUGH_FOR_A_BUG, bug.renamed)
