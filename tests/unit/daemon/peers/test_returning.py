"""What a member that was off believes of what it missed."""

from __future__ import annotations

import pytest

from collective.daemon.peers.returning import believed


@pytest.mark.parametrize(
    ("reports", "revoked"),
    [
        ([], ""),
        ([""], ""),
        (["a"], "a"),
        (["ab", ""], "ab"),
        (["a", "a", "b"], "a"),
        (["ab", "ab", "", ""], "ab"),
        (["ab", "", "", ""], ""),
    ],
)
def test_revocation_is_believed_when_half_of_the_answers_have_it(
    reports: list[str], revoked: str
) -> None:
    """One deleted server can neither hide its deletion from the list nor put others on it."""
    assert believed(frozenset(report) for report in reports) == frozenset(revoked)
