"""Decoded JSON against the fields of a dataclass."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.model.typed import fields_of


class Kind(enum.Enum):
    """Not a kind of field that is checked."""

    ONE = "one"


@dataclass(frozen=True)
class Thing:
    """One field of each kind."""

    text: str
    maybe: str | None
    count: int
    time: float
    flag: bool
    names: tuple[str, ...]
    kind: Kind
    note: str = "none"
    more: tuple[str, ...] = ()


RAW: dict[str, Any] = {
    "text": "a",
    "maybe": None,
    "count": 1,
    "time": 2.5,
    "flag": True,
    "names": ["x", "y"],
    "kind": "one",
}


def test_values_are_passed_on_and_lists_become_tuples() -> None:
    """A field of a kind that is not known is left for the caller to convert."""
    assert fields_of(Thing, RAW) == {**RAW, "names": ("x", "y")}


def test_what_the_dataclass_has_not_is_left_out() -> None:
    """A later release may write more."""
    assert fields_of(Thing, {**RAW, "format": 1, "new": {}}) == fields_of(Thing, RAW)


@pytest.mark.parametrize("name", list(RAW))
def test_missing_field_without_a_default_is_a_key_error(name: str) -> None:
    """Also one that may be null: null is a value."""
    with pytest.raises(KeyError, match=name):
        fields_of(Thing, {k: v for k, v in RAW.items() if k != name})


def test_field_with_a_default_is_taken_where_it_is() -> None:
    """And left to the dataclass where it is not."""
    assert Thing(**fields_of(Thing, RAW)).note == "none"
    values = fields_of(Thing, {**RAW, "note": "some", "more": ["z"]})
    assert (values["note"], values["more"]) == ("some", ("z",))


@pytest.mark.parametrize(
    ("name", "value"),
    [("maybe", "b"), ("count", -1), ("count", 1 << 70), ("time", 3), ("names", [])],
)
def test_value_of_its_kind_is_taken(name: str, value: object) -> None:
    """A whole number is a time too: JSON knows one kind of number."""
    expected = tuple(value) if isinstance(value, list) else value
    assert fields_of(Thing, {**RAW, name: value})[name] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", None),
        ("text", 1),
        ("text", ["a"]),
        ("maybe", 1),
        ("count", True),
        ("count", 1.0),
        ("count", "1"),
        ("count", None),
        ("time", True),
        ("time", "2.5"),
        ("time", math.inf),
        ("time", -math.inf),
        ("time", math.nan),
        ("flag", 1),
        ("flag", "true"),
        ("flag", None),
        ("names", "xy"),
        ("names", {"x": 1}),
        ("names", ["x", 1]),
        ("names", [None]),
        ("names", None),
        ("note", None),
        ("more", "z"),
    ],
)
def test_value_of_another_kind_is_a_type_error(name: str, value: object) -> None:
    """Nothing is converted by guess; the error names the field and not the value."""
    with pytest.raises(TypeError, match=f"^{name} is no "):
        fields_of(Thing, {**RAW, name: value})


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from([*RAW, "note", "more"]), JSON))
def test_what_is_returned_fits_the_annotations(changes: dict[str, Any]) -> None:
    """For any JSON: an error that callers translate, or values of the right kinds."""
    try:
        thing = Thing(**fields_of(Thing, {**RAW, **changes}))
    except TypeError:
        return
    assert [type(thing.text), type(thing.count), type(thing.flag)] == [str, int, bool]
    assert thing.maybe is None or isinstance(thing.maybe, str)
    assert math.isfinite(thing.time)
    assert all(isinstance(name, str) for name in (*thing.names, *thing.more, thing.note))
    assert (type(thing.names), type(thing.more)) == (tuple, tuple)
