"""Taking in and joining exclude each other on one server."""

from __future__ import annotations

import pytest

from collective.daemon.lifecycle.gate import Gate
from collective.errors import RefusedError


def test_many_servers_are_taken_in_at_once() -> None:
    """Sponsors are in nobody's way."""
    gate = Gate()
    with gate.sponsoring("mgt1"), gate.sponsoring("mgt1"):
        pass
    with gate.joining("mgt1"):
        pass


def test_server_that_joins_takes_nobody_in() -> None:
    """It will soon be no member of what it would take the other into."""
    gate = Gate()
    with (
        gate.joining("mgt1"),
        pytest.raises(RefusedError, match="mgt1 is itself joining") as caught,
        gate.sponsoring("mgt1"),
    ):
        pytest.fail("it was let in")
    assert "ask another member" in str(caught.value.hint)
    with gate.sponsoring("mgt1"):
        pass


def test_server_that_takes_one_in_does_not_join() -> None:
    """Not before the last one of those that it takes in is done."""
    gate = Gate()
    with gate.sponsoring("mgt1"):
        with gate.sponsoring("mgt1"):
            pass
        with (
            pytest.raises(RefusedError, match="cannot join: mgt1 is taking another server in"),
            gate.joining("mgt1"),
        ):
            pytest.fail("it was let in")
    with gate.joining("mgt1"):
        pass


def test_second_join_is_refused_and_leaves_the_first_its_place() -> None:
    """The refused one must not open the gate when it goes."""
    gate = Gate()
    with gate.joining("mgt1"):
        for _ in range(2):
            with pytest.raises(RefusedError, match="another join"), gate.joining("mgt1"):
                pytest.fail("it was let in")
        with pytest.raises(RefusedError), gate.sponsoring("mgt1"):
            pytest.fail("it was let in")


def test_refused_sponsor_is_not_counted() -> None:
    """A join that comes after it is not refused for it."""
    gate = Gate()
    with gate.joining("mgt1"), pytest.raises(RefusedError), gate.sponsoring("mgt1"):
        pytest.fail("it was let in")
    with gate.joining("mgt1"):
        pass


@pytest.mark.parametrize("first", ["sponsoring", "joining"])
@pytest.mark.parametrize("second", ["sponsoring", "joining"])
@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_gate_is_released_on_any_error(
    first: str, second: str, problem: type[BaseException]
) -> None:
    """Whatever ends the one, the next may come."""
    gate = Gate()
    with pytest.raises(problem), getattr(gate, first)("mgt1"):
        raise problem
    with getattr(gate, second)("mgt1"):
        pass
