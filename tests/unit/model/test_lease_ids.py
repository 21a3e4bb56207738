"""Whose a lease is, by its id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collective.model.lease_ids import COLLECTIVE, is_of, new_lease_id

NAMES = ("mgt1", "mgt2", "mgt11", COLLECTIVE)


def test_lease_is_its_owner_s_and_nobody_else_s() -> None:
    """The collective's own are no server's either."""
    for owner in NAMES:
        made = new_lease_id(owner)
        assert [name for name in NAMES if is_of(name, made)] == [owner]


def test_ids_differ_and_are_what_etcd_takes() -> None:
    """Positive, and of 63 bits."""
    made = {new_lease_id("mgt1") for _ in range(1000)}
    assert len(made) == 1000
    assert all(0 < number < 1 << 63 for number in made)


@given(st.integers(-(1 << 70), 1 << 70))
def test_number_outside_of_63_bits_is_nobody_s(number: int) -> None:
    """Whatever its low bits say: etcd would read another number."""
    if not 0 < number < 1 << 63:
        assert not any(is_of(name, number) for name in NAMES)
