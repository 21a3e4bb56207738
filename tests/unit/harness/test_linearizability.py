"""The checker of histories, on histories that are known to be good, and known to be bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.linearizability import (
    FOREVER,
    Done,
    Kind,
    Value,
    broken_keys,
    is_linearizable,
)


def put(value: bytes, called: float, answered: float = FOREVER) -> Done:
    return Done("k", Kind.PUT, called, answered, value)


def get(value: Value, called: float, answered: float) -> Done:
    return Done("k", Kind.GET, called, answered, value)


def cas(
    expected: Value, value: bytes, succeeded: bool, called: float, answered: float = FOREVER
) -> Done:
    return Done("k", Kind.COMPARE_AND_SET, called, answered, value, expected, succeeded)


def delete(succeeded: bool, called: float, answered: float = FOREVER) -> Done:
    return Done("k", Kind.DELETE, called, answered, succeeded=succeeded)


GOOD = {
    "nothing": [],
    "one after the other": [get(None, 0, 1), put(b"1", 2, 3), get(b"1", 4, 5)],
    "a read beside a write sees the old": [put(b"1", 0, 9), get(None, 1, 2)],
    "a read beside a write sees the new": [put(b"1", 0, 9), get(b"1", 1, 2)],
    "two writes beside each other": [put(b"1", 0, 5), put(b"2", 0, 5), get(b"1", 6, 7)],
    "one of two wins": [cas(None, b"1", True, 0, 5), cas(None, b"2", False, 0, 5)],
    "in doubt, and it happened": [put(b"1", 0), get(b"1", 1, 2)],
    "in doubt, and it never happened": [put(b"1", 0), get(None, 1, 2)],
    "in doubt, and it happened late": [put(b"1", 0), get(None, 1, 2), get(b"1", 3, 4)],
    "in doubt, and it had no effect": [put(b"1", 0, 1), cas(b"2", b"3", True, 2)],
    "deleted": [put(b"1", 0, 1), delete(True, 2, 3), delete(False, 4, 5), get(None, 6, 7)],
    "a chain": [cas(None, b"1", True, 0, 9), cas(b"1", b"2", True, 0, 9), get(b"2", 10, 11)],
}
BAD = {
    "a stale read": [put(b"1", 0, 1), put(b"2", 2, 3), get(b"1", 4, 5)],
    "a lost write": [put(b"1", 0, 1), get(None, 2, 3)],
    "read what nobody wrote": [put(b"1", 0, 1), get(b"2", 2, 3)],
    "read before it was written": [get(b"1", 0, 1), put(b"1", 2, 3)],
    "two win": [cas(None, b"1", True, 0, 5), cas(None, b"2", True, 0, 5)],
    "a lost update": [
        put(b"0", 0, 1),
        cas(b"0", b"1", True, 2, 9),
        cas(b"0", b"2", True, 2, 9),
    ],
    "the new, then the old": [put(b"1", 0, 9), get(b"1", 1, 2), get(None, 3, 4)],
    "in doubt, seen, and gone": [put(b"1", 0), get(b"1", 1, 2), get(None, 3, 4)],
    "two readers disagree": [
        put(b"1", 0, 9),
        put(b"2", 0, 9),
        get(b"1", 1, 2),
        get(b"2", 3, 4),
        get(b"1", 5, 6),
    ],
    "deleted twice": [put(b"1", 0, 1), delete(True, 2, 3), delete(True, 4, 5)],
    "it should have failed": [put(b"1", 0, 1), cas(b"2", b"3", True, 2, 3)],
    "it should not have failed": [put(b"1", 0, 1), cas(b"1", b"3", False, 2, 3)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_good_history_is_explained(history: list[Done]) -> None:
    """In any order in which it is given."""
    assert is_linearizable(history)
    assert is_linearizable(history[::-1])


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_bad_history_is_not(history: list[Done]) -> None:
    """In any order in which it is given."""
    assert not is_linearizable(history)
    assert not is_linearizable(history[::-1])


def test_keys_are_independent_and_the_broken_ones_are_named() -> None:
    """Each has a register of its own."""
    good = [put(b"1", 0, 1), get(b"1", 2, 3)]
    bad = [Done("b", Kind.PUT, 0, 1, b"1"), Done("b", Kind.GET, 2, 3, None)]
    assert broken_keys([*good, *bad]) == ["b"]


MOMENTS = st.lists(
    st.tuples(
        st.sampled_from(list(Kind)),
        st.sampled_from([b"1", b"2", b"3"]),
        st.sampled_from([None, b"1", b"2"]),
        st.floats(0, 3),
        st.floats(0, 3),
        st.booleans(),
    ),
    max_size=40,
)


def _told(
    moments: list[tuple[Kind, bytes, Value, float, float, bool]],
) -> tuple[list[Done], list[Value]]:
    """Return what clients were told by a register, each call with a time before and after it.

    And what was stored after each of them.
    """
    stored: Value = None
    history, states = [], []
    for moment, (kind, value, expected, before, after, silent) in enumerate(moments):
        succeeded, told = True, value
        if kind is Kind.GET:
            told = stored or b""
        elif kind is Kind.PUT:
            stored = value
        elif kind is Kind.DELETE:
            succeeded, stored = stored is not None, None
        else:
            succeeded = stored == expected
            stored = value if succeeded else stored
        answered = FOREVER if silent else moment + after
        shown: Value = (told or None) if kind is Kind.GET else value
        history.append(Done("k", kind, moment - before, answered, shown, expected, succeeded))
        states.append(stored)
    return history, states


@given(MOMENTS)
def test_what_a_register_tells_is_always_explained(
    moments: list[tuple[Kind, bytes, Value, float, float, bool]],
) -> None:
    """However much the calls overlap, and whatever was left in doubt."""
    assert is_linearizable(_told(moments)[0])


@given(MOMENTS, st.integers(0, 3))
def test_value_that_nobody_wrote_is_always_found(
    moments: list[tuple[Kind, bytes, Value, float, float, bool]], at: int
) -> None:
    """One read more is enough to break the best history."""
    history, _ = _told(moments)
    assert not is_linearizable([*history, get(b"never", at, at + 1)])


@given(MOMENTS.filter(bool))
def test_read_after_all_else_has_to_be_the_last_state(
    moments: list[tuple[Kind, bytes, Value, float, float, bool]],
) -> None:
    """Without overlap and doubt there is one order alone."""
    clear = [(kind, value, expected, 0.0, 0.5, False) for kind, value, expected, *_ in moments]
    history, states = _told(clear)
    end = float(len(history))
    for value in (None, b"1", b"2", b"3"):
        assert is_linearizable([*history, get(value, end, end + 1)]) is (value == states[-1])
