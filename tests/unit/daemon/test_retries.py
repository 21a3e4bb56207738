"""Read, decide, write, again while others are faster."""

from __future__ import annotations

from functools import partial

import pytest

from collective.daemon.retries import unless_leader_changed, until_written
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


def test_attempt_that_a_new_leader_broke_off_is_made_again() -> None:
    """Whether it was written is open; any other silence of etcd is told."""

    def refuse(words: str) -> None:
        raise EtcdUnavailableError(words)

    changed = partial(refuse, "etcd: etcdserver: leader changed")
    assert unless_leader_changed(changed) is None
    assert unless_leader_changed(lambda: "done") == "done"
    with pytest.raises(EtcdUnavailableError, match="in time"):
        unless_leader_changed(partial(refuse, "etcd did not answer in time"))
