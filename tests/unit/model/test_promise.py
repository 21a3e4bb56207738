"""What is remembered of members' logs, and its file."""

from __future__ import annotations

import pytest

from collective.model.high_water_mark import HighWaterMark, from_json, newest, to_json

A, B = HighWaterMark("aa", 3, 50), HighWaterMark("aa", 3, 51)
OTHER = HighWaterMark("bb", 1, 1)
LATER = HighWaterMark("aa", 4, 9)


@pytest.mark.parametrize(
    ("known", "heard", "kept"),
    [
        (None, A, A),
        (A, B, B),
        (B, A, B),
        (A, A, A),
        (B, OTHER, OTHER),
        (B, HighWaterMark("aa", 4, 9), HighWaterMark("aa", 4, 9)),
    ],
)
def test_larger_promise_of_the_newest_member_is_kept(
    known: HighWaterMark | None, heard: HighWaterMark, kept: HighWaterMark
) -> None:
    """A server that was taken in again is another member, and begins anew."""
    assert newest(known, heard) == kept


def test_promises_come_back_as_they_were() -> None:
    """Of the same collective; another's are nothing."""
    text = to_json({"mgt1": A, "mgt2": OTHER}, "token")
    assert from_json(text, "token") == {"mgt1": A, "mgt2": OTHER}
    assert from_json(text, "another") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 2, "collective": "t", "promises": {}}',
        '{"format": 1, "collective": "t", "promises": {"a": [1]}}',
        '{"format": 1, "collective": "t", "promises": {"a": ["x", "y", "z"]}}',
        '{"format": 1, "collective": "t", "promises": 3}',
    ],
)
def test_memory_that_cannot_be_read_is_none(text: str) -> None:
    """It is a help and not the truth: a broken one holds nobody up."""
    assert from_json(text, "t") == {}
