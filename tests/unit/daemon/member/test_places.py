"""What one member without a vote takes of a voter at a time."""

from __future__ import annotations

import threading

import pytest

from collective.daemon.member.places import Places
from collective.daemon.nonvoting.line_queue import LineQueue
from collective.errors import RefusedError
from tests.harness import wait_until

SECONDS = 20.0


def test_member_has_its_places_and_takes_nobody_else_s() -> None:
    """Refused is who has had his share; another member has his own."""
    places = Places(2, "watches")
    for _ in range(2):
        places.enter("mgt4")
    with pytest.raises(RefusedError, match="mgt4 has 2 watches here"):
        places.enter("mgt4")
    places.enter("mgt5")
    places.leave("mgt4")
    places.enter("mgt4")


def test_who_waits_gets_the_place_that_is_given_back() -> None:
    """And it is given back also where the block fails."""
    places, entered = Places(1, "readings"), threading.Event()

    def fail() -> None:
        with places.taken("mgt4", 0.0):
            thread.start()
            assert not entered.is_set()
            raise ValueError("x")

    def wait() -> None:
        with places.taken("mgt4", SECONDS):
            entered.set()

    thread = threading.Thread(target=wait)
    with pytest.raises(ValueError, match="x"):
        fail()
    assert entered.wait(SECONDS)
    thread.join(SECONDS)
    assert not places._taken


def test_lines_come_in_order_and_only_so_many_bytes_wait() -> None:
    """A line that is larger than all room passes alone."""
    lines: LineQueue[bytes] = LineQueue(10)
    assert lines.get(0.0) is None
    assert lines.put(b"x" * 50, 50, 0.0)
    assert not lines.put(b"", 1, 0.0)
    assert lines.get(0.0) == b"x" * 50
    for line in (b"12345", b"67890"):
        assert lines.put(line, len(line), 0.0)
    assert not lines.put(b"1", 1, 0.0)
    assert [lines.get(0.0), lines.get(0.0)] == [b"12345", b"67890"]


def test_writer_waits_for_room_until_the_queue_is_closed() -> None:
    """It is not left to wait for somebody who has gone."""
    lines: LineQueue[bytes] = LineQueue(1)
    assert lines.put(b"a", 1, 0.0)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(lines.put(b"b", 1, SECONDS)))
    thread.start()
    lines.close()
    wait_until(lambda: done == [False], SECONDS, "it is told")
    thread.join(SECONDS)
    assert lines.get(0.0) is None
