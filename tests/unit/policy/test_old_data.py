"""On which data etcd may start, as a table."""

from __future__ import annotations

import pytest

from collective.model.high_water_mark import HighWaterMark
from collective.policy.old_data import objection

OURS, OTHER = "00000000000000aa", "00000000000000bb"


def at(index: int, term: int = 3, member_id: str = OURS) -> HighWaterMark:
    return HighWaterMark(member_id, term, index)


@pytest.mark.parametrize(
    ("found", "known", "good"),
    [
        # Nobody remembers anything: the first start after an upgrade.
        (at(50), {}, True),
        (at(50), {"mgt1": at(50)}, True),
        (at(50), {"mgt1": at(49), "mgt2": at(10, 1)}, True),
        (at(50), {"mgt1": at(51)}, False),
        (at(50), {"mgt1": at(49), "mgt2": at(51)}, False),
        # As long, but without the newer leader's entries: it has forgotten a vote.
        (at(50, 3), {"mgt1": at(50, 4)}, False),
        (at(50, 5), {"mgt1": at(49, 4)}, True),
        # What is remembered of a former life under the same name says nothing.
        (at(50), {"mgt1": at(900, 9, OTHER)}, True),
        # An empty log that does not even say whose it is.
        (HighWaterMark("", 0, 0), {"mgt1": at(1)}, False),
        (HighWaterMark("", 0, 0), {}, True),
        (at(50, member_id=OTHER), {}, False),
        (at(50, member_id=OTHER), {"mgt1": at(10, member_id=OTHER)}, False),
    ],
)
def test_data_is_judged(found: HighWaterMark, known: dict[str, HighWaterMark], good: bool) -> None:
    """Older than anybody remembers, or another's: etcd must not start."""
    assert (objection("mgt1", OURS, found, known) is None) is good


def test_any_data_is_ours_where_nobody_noted_the_member() -> None:
    """Without a memory there is nothing to compare with."""
    assert objection("mgt1", "", at(50, member_id=OTHER), {}) is None


def test_objection_gives_the_numbers() -> None:
    """Both ends, and the one who remembers the most."""
    text = objection("mgt1", OURS, at(50, 3), {"mgt2": at(60, 4), "mgt3": at(70, 4)})
    assert text == (
        "the data of mgt1 is old: its log ends at entry 50 of term 3, mgt3 remembers entry 70 of "
        "term 4"
    )
    assert OTHER in str(objection("mgt1", OURS, at(1, member_id=OTHER), {}))
