"""Read, decide, write, again while others are faster."""

from __future__ import annotations

from functools import partial

import pytest

from collective.daemon import retries
from collective.daemon.retries import until_written, until_written_whoever_leads
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
