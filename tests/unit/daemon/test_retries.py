"""Read, decide, write, again while others are faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon import retries
from collective.daemon.retries import Pace, growing, until_written, until_written_whoever_leads
from collective.errors import EtcdError, EtcdUnavailableError, RefusedError


class Attempts:
    """Fails so many times, then has a result."""

    def __init__(self, failures: int, result: object = "done") -> None:
        self.left = failures
        self.result = result
        self.made = 0

    def __call__(self) -> object | None:
        """Make one."""
        self.made += 1
        self.left -= 1
        return None if self.left >= 0 else self.result


@pytest.mark.parametrize("failures", [0, 1, 11])
def test_result_is_that_of_the_first_attempt_that_wrote(failures: int) -> None:
    """Not one more is made after it."""
    attempts = Attempts(failures)
    assert until_written("invite mgt2", attempts) == "done"
    assert attempts.made == failures + 1


@pytest.mark.parametrize("result", [False, 0, "", ()])
def test_empty_result_is_a_result(result: object) -> None:
    """None alone means that a record changed."""
    attempts = Attempts(1, result)
    assert until_written("invite mgt2", attempts) is result
    assert attempts.made == 2


def test_record_that_never_rests_is_refused_in_words() -> None:
    """After twelve attempts, and with no error of the library that counts them."""
    attempts = Attempts(1000)
    with pytest.raises(RefusedError) as caught:
        until_written("invite mgt2", attempts)
    assert caught.value.message == (
        "cannot invite mgt2: others change the same record all the time"
    )
    assert (caught.value.hint, attempts.made) == ("try again", 12)


def test_error_of_an_attempt_leaves_at_once() -> None:
    """Only a lost race is run again; what may have happened is not."""
    made: list[int] = []

    def attempt() -> None:
        made.append(1)
        raise EtcdError("no answer")

    with pytest.raises(EtcdError, match="no answer"):
        until_written("invite mgt2", attempt)
    assert len(made) == 1


def test_calls_do_not_count_each_other_s_attempts() -> None:
    """The policy is shared, its counting is not."""
    for _ in range(3):
        assert until_written("invite mgt2", Attempts(8)) == "done"


@pytest.mark.parametrize(
    "words", ["etcd: etcdserver: leader changed", "etcd: raft proposal dropped"]
)
def test_write_that_an_election_broke_off_is_made_again(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody leads a moment later; any other silence of etcd is told at once."""
    made: list[str] = []

    def attempt() -> str:
        made.append(words)
        if len(made) < 3:
            raise EtcdUnavailableError(words)
        return "done"

    monkeypatch.setattr(retries.ELECTION, "sleep", lambda seconds: None)
    assert until_written_whoever_leads("take in mgt2", attempt) == "done"
    with pytest.raises(EtcdUnavailableError, match="in time"):
        until_written_whoever_leads("take in mgt2", partial(refuse, "etcd did not answer in time"))


def refuse(words: str) -> None:
    """Fail as etcd's gateway does."""
    raise EtcdUnavailableError(words)


def asked_at(
    pace: Pace, seconds: int, seen: Callable[[float], object] = lambda _: None
) -> list[float]:
    """Return when questions are asked, looked at ten times a second."""
    return [n / 10 for n in range(seconds * 10) if pace.is_due(n / 10, seen(n / 10))]


def test_what_nobody_can_say_is_asked_less_and_less_often() -> None:
    """The first time at once, and never more seldom than the longest pause."""
    assert asked_at(Pace(0.5, 4.0), 20) == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5]


def test_what_has_changed_is_a_reason_to_ask_soon() -> None:
    """Though no sooner than after the first pause: what changes all the time is none."""
    changed = asked_at(Pace(0.5, 4.0), 10, lambda now: now >= 8.2)
    assert changed == [0.0, 0.5, 1.5, 3.5, 7.5, 8.2, 9.2]
    assert len(asked_at(Pace(0.5, 4.0), 20, lambda now: now)) == 40


def test_question_that_was_long_not_asked_is_asked_at_once() -> None:
    """Whatever was in doubt before is over."""
    pace = Pace(0.5, 4.0)
    asked_at(pace, 20)
    assert [now for now in (100.0, 100.4, 100.5, 101.0) if pace.is_due(now)] == [100.0, 100.5]


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_look_comes_a_tenth_late_at_most(since: float, took: float) -> None:
    """Or the least pause; and there is a longest one."""
    assert growing(since, since + took, 0.02, 0.25) <= max(0.02, took / 10 + 1e-6)
    assert 0.02 <= growing(since, since + took, 0.02, 0.25) <= 0.25
