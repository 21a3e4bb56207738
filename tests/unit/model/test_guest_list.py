"""The hash of a guest list: what a token knows the collective by."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.model.guest_list import collective_id, guest_list_hash
from collective.policy.membership import quorum

ONE, TWO, THREE = "11" * 32, "22" * 32, "33" * 32
FINGERPRINTS = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=5)


def test_hash_never_changes() -> None:
    """Tokens that are on their way hold it: written out, and once more from its parts."""
    assert guest_list_hash([ONE, TWO, THREE]).hex() == (
        "e79f07f9d8199e40ba3879255d9997f32b832981214ca33f1f1ac44e1af834e4"
    )
    assert guest_list_hash([ONE]).hex() == (
        "4619c9ca8dc8028bc9d85d16bb2410297863073d1cf3eb6896b9563ac2d63754"
    )
    octets = b"collective guest list v1\0" + b"\x11" * 32 + b"\x22" * 32
    assert guest_list_hash([ONE, TWO]) == hashlib.sha256(octets).digest()


@given(FINGERPRINTS, st.randoms())
def test_order_and_repetition_do_not_count(guests: list[str], random: Random) -> None:
    """A list is a set of servers."""
    shuffled = [*guests, *guests[:2]]
    random.shuffle(shuffled)
    assert guest_list_hash(shuffled) == guest_list_hash(guests)
    assert guest_list_hash(f.upper() for f in guests) == guest_list_hash(guests)


@given(FINGERPRINTS, FINGERPRINTS)
def test_two_lists_have_one_hash_only_if_they_are_one(one: list[str], two: list[str]) -> None:
    """A server more, or less, or another one, is another list."""
    assert (guest_list_hash(one) == guest_list_hash(two)) == (set(one) == set(two))


@pytest.mark.parametrize("guest", ["x", "1", "zz" * 32, "é" * 64])
def test_what_is_no_hexadecimal_text_is_refused(guest: str) -> None:
    """It is not passed over: the hash would be that of another list."""
    with pytest.raises(ValueError, match="hexadecimal"):
        guest_list_hash([ONE, guest])


def test_majorities_of_one_list_have_a_guest_in_common() -> None:
    """So one that has the claim is in any majority that is asked."""
    for guests in range(1, 10):
        assert 2 * quorum(guests) > guests
        assert 2 * (quorum(guests) - 1) <= guests


def test_collective_is_told_apart_by_a_hash_of_its_token() -> None:
    """The token of the cluster itself is told to members alone."""
    assert collective_id("ab") == hashlib.sha256(b"collective id v1\0ab").hexdigest()
    assert collective_id("ab") != collective_id("ac")
    assert "ab" * 16 not in collective_id("ab" * 16)
