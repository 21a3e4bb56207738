"""Tests of collective.model.duration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InputError
from collective.model.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("30m", 1800),
        ("1h", 3600),
        ("2d", 172800),
        ("1h30m", 5400),
        ("1d1h1m1s", 90061),
        ("007s", 7),
    ],
)
def test_duration_with_units_gives_seconds(text: str, seconds: float) -> None:
    """Every unit counts, alone and after larger ones."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "h", "1", "1h30", "1m1h", "1h1h", "1 h", " 1h", "1H", "1w", "-1h", "+1h", "1.5h", "1_0s",
     "٣s", "²s", "1h\n", "9999999999s", "9" * 5000 + "s"],
)  # fmt: skip
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    """Whatever has no clear meaning is refused, and shown short."""
    with pytest.raises(InputError, match="expected a duration like") as caught:
        parse_duration(text)
    assert len(caught.value.message) < 150


def test_number_without_unit_is_refused_with_a_hint() -> None:
    """The unit is not guessed."""
    with pytest.raises(InputError) as caught:
        parse_duration("90")
    assert caught.value.hint == "write 90s for seconds"


@given(st.text(alphabet="0123456789dhms", max_size=12))
def test_any_text_gives_a_duration_or_an_input_error(text: str) -> None:
    """Nothing else comes out."""
    try:
        seconds = parse_duration(text)
    except InputError:
        return
    assert 0 <= seconds < float("inf")
