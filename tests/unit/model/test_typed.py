"""Decoded JSON against the fields of a dataclass, and back."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.model.typed import PASSING_OVER, UnfitError, fields_of, plain


class Kind(enum.Enum):
    """Whose values are what JSON holds."""

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
    """And what stands for a value of an enum becomes that."""
    assert fields_of(Thing, RAW) == {**RAW, "names": ("x", "y"), "kind": Kind.ONE}


def test_thing_is_written_as_it_was_read() -> None:
    """There is one way in and one out."""
    assert plain(Thing(**fields_of(Thing, RAW))) == {**RAW, "note": "none", "more": []}


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
        ("kind", "two"),
        ("kind", None),
        ("kind", []),
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


# Kinds that are made of others ------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """What is in another one."""

    name: str
    size: Annotated[int, lambda value: value > 0, lambda value: value < 10] = 1


@dataclass(frozen=True)
class Whole:
    """One field of each kind that is made of others."""

    part: Part
    parts: tuple[Part, ...]
    some: Annotated[tuple[Part, ...], PASSING_OVER] = ()
    places: Mapping[str, str] | None = None
    maybe: Annotated[tuple[Kind, ...], lambda value: len(value) < 3] | None = None
    free: object = None


WHOLE: dict[str, Any] = {
    "part": {"name": "a", "size": 2},
    "parts": [{"name": "b", "size": 1}],
    "some": [],
    "places": {"x": "y"},
    "maybe": ["one", "one"],
    "free": [1, {}],
}


def test_whole_is_read_and_written() -> None:
    """Down to its parts; what has no kind is passed on."""
    whole = Whole(**fields_of(Whole, WHOLE))
    assert whole == Whole(
        Part("a", 2), (Part("b"),), (), {"x": "y"}, (Kind.ONE, Kind.ONE), [1, {}]
    )
    assert plain(whole) == WHOLE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("part", None),
        ("part", []),
        ("part", {}),
        ("part", {"name": 1}),
        ("part", {"name": "a", "size": 0}),
        ("part", {"name": "a", "size": 10}),
        ("part", {"name": "a", "size": "1"}),
        ("parts", {}),
        ("parts", [None]),
        ("parts", [{"name": "a"}, {}]),
        ("places", []),
        ("places", {"x": 1}),
        ("maybe", ["one"] * 3),
        ("maybe", ["two"]),
        ("maybe", "one"),
    ],
)
def test_whole_with_a_part_that_does_not_fit_is_refused(name: str, value: object) -> None:
    """The error names the field, wherever in it the trouble is."""
    with pytest.raises(UnfitError, match=f"^{name} is no ") as caught:
        fields_of(Whole, {**WHOLE, name: value})
    assert caught.value.args[0] == name


@pytest.mark.parametrize("value", [None, 5, "abc", {}, [None, 5, [], {}, {"name": 1}]])
def test_parts_that_do_not_fit_are_left_out_where_the_kind_says_so(value: object) -> None:
    """For the sake of those that do."""
    assert fields_of(Whole, {**WHOLE, "some": value})["some"] == ()
    if isinstance(value, list):
        more = [*value, {"name": "a"}, *value]
        assert fields_of(Whole, {**WHOLE, "some": more})["some"] == (Part("a"),)


@given(st.dictionaries(st.sampled_from(list(WHOLE)), st.recursive(JSON, st.lists, max_leaves=5)))
def test_any_json_is_refused_or_fits(changes: dict[str, Any]) -> None:
    """No other error leaves."""
    try:
        whole = Whole(**fields_of(Whole, {**WHOLE, **changes}))
    except UnfitError:
        return
    assert isinstance(whole.part, Part)
    assert all(isinstance(part, Part) for part in (*whole.parts, *whole.some))
