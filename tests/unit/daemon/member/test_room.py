"""Servers without a vote never fill the store."""

from __future__ import annotations

import pytest

from collective.daemon.member.room import MOST_BYTES, Room
from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd.arguments import QUOTA_BYTES


def test_write_is_refused_above_three_quarters_of_what_etcd_takes() -> None:
    """At the quota nobody writes any more, and who filled it cannot be deleted."""
    assert MOST_BYTES == QUOTA_BYTES * 3 // 4
    Room().check(lambda: MOST_BYTES)
    with pytest.raises(EtcdError, match="no room for servers without a vote: 1536 MiB") as caught:
        Room().check(lambda: MOST_BYTES + 1)
    assert not isinstance(caught.value, EtcdUnavailableError), "nothing was written, for sure"


def test_size_is_looked_at_once_a_second() -> None:
    """However many write."""
    now, sizes = [0.0], iter([1, 99, 1])
    room = Room(10, lambda: now[0])
    for _ in range(50):
        room.check(lambda: next(sizes))
    now[0] = 1.0
    for _ in range(50):
        with pytest.raises(EtcdError):
            room.check(lambda: next(sizes))
    now[0] = 2.5
    room.check(lambda: next(sizes))


def test_etcd_that_does_not_tell_its_size_is_left_to_answer_the_write() -> None:
    """What it last said counts meanwhile."""

    def silent() -> int:
        raise EtcdUnavailableError("no answer")

    now = [0.0]
    room = Room(10, lambda: now[0])
    room.check(silent)
    now[0] = 1.0
    with pytest.raises(EtcdError, match="no room"):
        room.check(lambda: 11)
    now[0] = 2.0
    with pytest.raises(EtcdError, match="no room"):
        room.check(silent)
