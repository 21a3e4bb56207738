"""Who is behind: what was committed, when it was known, and what each must have by then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.daemon.member.commits import GRACE_SECONDS, Commits, is_behind
from collective.protocol.messages import ServerStatus

STATUS = ServerStatus("mgt2", "1", "3.5.16", "2", "1", 1, 100, 100, 1, False, "", ())


def commits_of(*marks: tuple[float, int]) -> Commits:
    commits = Commits()
    for when, index in marks:
        commits.note(index, when)
    return commits


@pytest.mark.parametrize(
    ("marks", "when", "owed"),
    [
        ((), 100.0, 0),
        (((1.0, 5),), 1.0 + GRACE_SECONDS - 0.01, 0),
        (((1.0, 5),), 1.0 + GRACE_SECONDS, 5),
        (((1.0, 5), (2.0, 9)), 2.0 + GRACE_SECONDS - 0.01, 5),
        (((1.0, 5), (2.0, 9)), 2.0 + GRACE_SECONDS, 9),
        (((1.0, 5), (2.0, 4)), 9.0, 5),
        (((1.0, 5), (1.001, 7)), 9.0, 5),
        (((1.0, 5), (50.0, 7)), 50.0, 5),
    ],
)
def test_member_owes_what_was_known_a_while_before(
    marks: tuple[tuple[float, int], ...], when: float, owed: int
) -> None:
    """Never what was committed just now; what is old is owed for ever."""
    assert commits_of(*marks).owed(when) == owed


def test_idle_collective_owes_nothing_new() -> None:
    """Where nothing is written a member that is as far as the rest is not behind, however long."""
    commits = commits_of((1.0, 100))
    for when in range(2, 1000):
        commits.note(100, float(when))
    assert not is_behind(STATUS, commits.owed(1000.0))


def test_commits_keep_few_marks() -> None:
    """Ten thousand writes a second for an hour are no reason to remember them."""
    commits = commits_of(*((n / 100, n) for n in range(1, 20_000)))
    assert len(commits._marks) < 250
    assert commits.owed(200.0) == max(i for t, i in commits._marks if t <= 200.0 - GRACE_SECONDS)


@pytest.mark.parametrize(
    ("status", "behind"),
    [
        (STATUS, True),
        (replace(STATUS, applied=101), False),
        (replace(STATUS, index=500), True),
        (replace(STATUS, nonvoting=True), False),
        (replace(STATUS, learner=True), False),
        (replace(STATUS, leader=""), False),
        (replace(STATUS, member_id=""), False),
    ],
)
def test_only_a_voter_that_says_it_is_well_can_be_behind(
    status: ServerStatus, behind: bool
) -> None:
    """What it has applied counts, not what it has heard of; others do not count anyway."""
    assert is_behind(status, 101) is behind
