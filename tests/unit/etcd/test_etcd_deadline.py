"""For whom a deadline counts, and how long."""

from __future__ import annotations

import contextvars

import pytest

from collective.etcd.deadline import DEFAULT_SECONDS, seconds_allowed, within


def test_deadline_is_that_of_the_innermost_block() -> None:
    """It ends with its block, and none is ever zero, which would mean "for ever"."""
    assert seconds_allowed() == DEFAULT_SECONDS
    with within(3):
        with within(-1):
            assert 0 < seconds_allowed() < 0.01
        assert seconds_allowed() == 3
    assert seconds_allowed() == DEFAULT_SECONDS


def test_deadline_ends_with_an_error() -> None:
    """A call that failed leaves no deadline behind."""
    with pytest.raises(ZeroDivisionError), within(3):
        _ = 1 / 0
    assert seconds_allowed() == DEFAULT_SECONDS


def test_deadline_is_each_thread_s_own() -> None:
    """Another thread's block does not count here."""
    with within(3):
        fresh = contextvars.Context()
        assert fresh.run(seconds_allowed) == DEFAULT_SECONDS
