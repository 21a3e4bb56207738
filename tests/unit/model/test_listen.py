"""Sets of addresses to listen on."""

from __future__ import annotations

import pytest

from collective.model.listen import covers, together


@pytest.mark.parametrize(
    ("listen", "address", "expected"),
    [
        (("10.0.0.1",), "10.0.0.1", True),
        (("10.0.0.1",), "10.0.0.2", False),
        (("0.0.0.0",), "10.0.0.2", True),
        (("0.0.0.0",), "fd00::1", False),
        (("::",), "fd00::1", True),
        (("::",), "10.0.0.1", True),
        ((), "10.0.0.1", False),
    ],
)
def test_address_is_covered_by_itself_or_by_all(
    listen: tuple[str, ...], address: str, expected: bool
) -> None:
    """``::`` takes IPv4 as well, as both of our doors open it."""
    assert covers(listen, address) is expected


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ((("10.0.0.1",), ("10.0.0.2",)), ("10.0.0.1", "10.0.0.2")),
        ((("10.0.0.1",), ("10.0.0.1",)), ("10.0.0.1",)),
        ((("0.0.0.0",), ("10.0.0.2", "fd00::1")), ("0.0.0.0", "fd00::1")),
        ((("0.0.0.0",), ("::",)), ("::",)),
    ],
)
def test_sets_go_together_without_a_clash(
    sets: tuple[tuple[str, ...], ...], expected: tuple[str, ...]
) -> None:
    """An address and all of its family cannot be bound to one port side by side."""
    assert together(*sets) == expected
