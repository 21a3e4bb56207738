"""Which moment is later, and what is waited for, over changes of the cluster."""

from __future__ import annotations

import pytest

from collective.store.timeline import Timeline
from collective.store.values import NEVER, Moment

MORE_THAN_ANY = 1 << 63


def timeline(*moves: tuple[int, int]) -> Timeline:
    """Return one that was at these moments, one after the other."""
    made = Timeline()
    for cluster, revision in moves:
        made.move_to(cluster, revision)
    return made


@pytest.mark.parametrize(
    ("moment", "lacking"),
    [
        (NEVER, False),
        (Moment(2, 5), False),
        (Moment(2, 6), True),
        # Of whichever cluster this server is in.
        (Moment(0, 5), False),
        (Moment(0, 6), True),
        # Of the one that it was in before, and of one that nobody here knows.
        (Moment(1, 99), False),
        (Moment(3, 1), True),
    ],
)
def test_what_is_yet_to_come(moment: Moment, lacking: bool) -> None:
    """It was in cluster 1, and is in cluster 2 at revision 5."""
    assert timeline((1, 10), (2, 5)).lacks(moment) is lacking


def test_cluster_that_comes_back_is_no_former_one() -> None:
    """Its revisions count again."""
    at = timeline((1, 10), (2, 5), (1, 100))
    assert at.lacks(Moment(1, 101))
    assert not at.lacks(Moment(2, 99))


def test_cluster_that_was_skipped_is_over() -> None:
    """Somebody heard of it, and this server never held anything of it."""
    at = timeline((1, 10))
    assert at.lacks(Moment(5, 1))
    at.move_to(6, 1)
    assert not at.lacks(Moment(5, 1))


@pytest.mark.parametrize(
    ("at_least", "seen", "wanted"),
    [
        (0, NEVER, Moment(2, 0)),
        (7, NEVER, Moment(2, 7)),
        (3, Moment(2, 4), Moment(2, 4)),
        (7, Moment(2, 4), Moment(2, 7)),
        (7, Moment(1, 99), Moment(2, 7)),
        (7, Moment(3, 1), Moment(3, 1)),
    ],
)
def test_what_an_answer_must_have(at_least: int, seen: Moment, wanted: Moment) -> None:
    """Of a cluster to come what was seen is all that counts."""
    assert timeline((1, 10), (2, 5)).wanted(at_least, seen) == wanted


@pytest.mark.parametrize(
    ("heard", "seen", "later"),
    [
        (Moment(2, 4), Moment(2, 3), Moment(2, 4)),
        (Moment(2, 3), Moment(2, 4), Moment(2, 4)),
        (Moment(2, 3), Moment(1, 99), Moment(2, 3)),
        (Moment(3, 1), Moment(2, 4), Moment(3, 1)),
        (Moment(1, 99), Moment(2, 4), Moment(2, 4)),
        (Moment(1, 99), NEVER, NEVER),
    ],
)
def test_which_is_later(heard: Moment, seen: Moment, later: Moment) -> None:
    """An answer that was under way during a join is of the former cluster, and says nothing."""
    assert timeline((1, 10), (2, 5)).later(heard, seen) == later


@pytest.mark.parametrize(
    ("seen", "enough"),
    [(Moment(2, 9), 9), (Moment(1, 99), 0), (NEVER, 0)],
)
def test_from_which_revision_on_all_is_here(seen: Moment, enough: int) -> None:
    """Of a former cluster nothing is missing."""
    assert timeline((1, 10), (2, 5)).enough_for(seen) == enough


def test_no_revision_is_enough_for_a_cluster_to_come() -> None:
    """Whoever has seen something there has to look closer."""
    assert timeline((1, 10), (2, 5)).enough_for(Moment(3, 1)) > MORE_THAN_ANY
