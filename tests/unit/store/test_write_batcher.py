"""Group commit on an etcd that misbehaves: each caller's own outcome, whatever it travels with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collective.errors import (
    ClosedError,
    DeadlineError,
    DegradedCollective,
    InDoubtError,
    InputError,
    LeaseExpiredError,
    NotReachedError,
)
from collective.store.batching import BATCH_OPERATIONS
from collective.store.read_batcher import ReadBatcher
from collective.store.values import (
    Condition,
    Delete,
    DeletePrefix,
    Entry,
    Operation,
    Outcome,
    Put,
    Read,
    Transaction,
    absent,
    holds,
    present,
)
from collective.store.write_batcher import WriteBatcher
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, Trouble

SECONDS = 5.0


@pytest.fixture
def etcd() -> Iterator[FakeEtcd]:
    """An etcd in memory."""
    made = FakeEtcd()
    yield made
    made.release()


@pytest.fixture
def write_batcher(etcd: FakeEtcd) -> Iterator[WriteBatcher]:
    """A write_batcher on it."""
    made = WriteBatcher(etcd)
    yield made
    etcd.release()
    made.close()


def put(key: str, value: bytes = b"v", lease: int = 0) -> Transaction:
    return Transaction(then=(Put(key, value, lease),))


def read(write_batcher: WriteBatcher, key: str) -> bytes | None:
    (found,) = write_batcher.commit(Transaction(then=(Read(key),)), SECONDS).results
    return found.value if isinstance(found, Entry) else None


def test_writes_that_gather_are_made_as_one(etcd: FakeEtcd, write_batcher: WriteBatcher) -> None:
    """Two requests that are held, and one for all that came meanwhile."""
    etcd.hold()
    writes = [write_batcher.submit(put(f"k{n}"), SECONDS) for n in range(100)]
    etcd.release()
    revisions = {write_batcher.result(write).revision for write in writes}
    assert etcd.requests.count("/kv/txn") == len(revisions) <= 3


def test_more_than_etcd_takes_are_divided(etcd: FakeEtcd, write_batcher: WriteBatcher) -> None:
    """And all are made."""
    etcd.hold()
    writes = [write_batcher.submit(put(f"k{n}"), SECONDS) for n in range(3 * BATCH_OPERATIONS)]
    etcd.release()
    for write in writes:
        assert write_batcher.result(write).succeeded
    assert 3 <= etcd.requests.count("/kv/txn") <= 6


def test_condition_fails_for_its_own_caller_alone(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """The others in the same request are made."""
    write_batcher.commit(put("a"), SECONDS)
    etcd.hold()
    first = write_batcher.submit(put("warm"), SECONDS)
    bad = write_batcher.submit(Transaction((absent("a"),), (Put("a", b"no"),)), SECONDS)
    good = write_batcher.submit(Transaction((absent("b"),), (Put("b", b"yes"),)), SECONDS)
    etcd.release()
    assert write_batcher.result(first).succeeded
    assert not write_batcher.result(bad).succeeded
    assert write_batcher.result(good).succeeded
    assert (read(write_batcher, "a"), read(write_batcher, "b")) == (b"v", b"yes")


def test_ended_lease_fails_its_own_caller_alone(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Etcd refuses the whole request; who is to blame is found out."""
    etcd.hold()
    writes = [write_batcher.submit(put(f"k{n}", lease=99 * (n == 5)), SECONDS) for n in range(12)]
    etcd.release()
    for number, write in enumerate(writes):
        if number == 5:
            with pytest.raises(LeaseExpiredError, match="nothing was written"):
                write_batcher.result(write)
        else:
            assert write_batcher.result(write).succeeded
    assert read(write_batcher, "k5") is None


def test_writes_of_one_key_are_made_in_their_order(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Also where several requests could be under way."""
    etcd.hold()
    writes = [write_batcher.submit(put("a", str(n).encode()), SECONDS) for n in range(50)]
    etcd.release()
    revisions = [write_batcher.result(write).revision for write in writes]
    assert revisions == sorted(set(revisions))
    assert read(write_batcher, "a") == b"49"


def test_write_that_certainly_was_not_made_is_made_again(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Nobody there, nobody leading and too much to do pass in a moment."""
    etcd.plan(Trouble.NOT_REACHED, Trouble.DROPPED, Trouble.CROWDED)
    assert write_batcher.commit(put("a"), SECONDS).succeeded
    assert read(write_batcher, "a") == b"v"


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.UNHEARD, Trouble.LATE])
def test_unanswered_write_is_made_once(
    etcd: FakeEtcd, write_batcher: WriteBatcher, trouble: Trouble
) -> None:
    """It is found out whether it was made, and made again only where it never will be."""
    etcd.plan(trouble)
    outcome = write_batcher.commit(Transaction((absent("a"),), (Put("a", b"v"),)), SECONDS)
    assert outcome.succeeded
    assert read(write_batcher, "a") == b"v"
    assert not etcd.late or not etcd.deliver()


def test_time_that_is_up_before_sending_writes_nothing(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Told apart from one that was sent; on a busy machine it may be known by then why."""
    etcd.hold()
    sent = write_batcher.submit(put("a"), 2.0)
    wait_until(lambda: sent.sent, SECONDS, "the write is sent")
    with pytest.raises((DeadlineError, DegradedCollective), match="nothing was written"):
        write_batcher.commit(put("a", b"behind the other one"), 0.05)
    # What goes out first asks for the guard: where that was not answered, nothing was written.
    with pytest.raises((InDoubtError, DegradedCollective)) as told:
        write_batcher.result(sent)
    etcd.release()
    found = read(write_batcher, "a")
    assert found in ((None, b"v") if isinstance(told.value, InDoubtError) else (None,))


def test_nobody_there_until_the_deadline_says_so(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Nothing was written, and why."""
    etcd.alive = False
    with pytest.raises(NotReachedError, match="nothing was written: etcd does not run"):
        write_batcher.commit(put("a"), 1.0)
    etcd.alive = True
    assert read(write_batcher, "a") is None


def test_no_leader_until_the_deadline_says_so(etcd: FakeEtcd, write_batcher: WriteBatcher) -> None:
    """It is a QuorumError, as for the commands."""
    etcd.plan(*[Trouble.DROPPED] * 100)
    with pytest.raises(DegradedCollective, match="nothing was written: there is no quorum"):
        write_batcher.commit(put("a"), 1.0)


def test_close_sees_through_what_was_sent_and_refuses_the_rest(etcd: FakeEtcd) -> None:
    """And nothing comes in any more."""
    write_batcher = WriteBatcher(etcd, lanes=1)
    etcd.hold()
    sent = write_batcher.submit(put("a"), SECONDS)
    wait_until(lambda: sent.sent, SECONDS, "the write is sent")
    waiting = write_batcher.submit(put("b"), SECONDS)
    closer = threading.Thread(target=write_batcher.close)
    closer.start()
    with pytest.raises(ClosedError, match="nothing was written"):
        write_batcher.result(waiting)
    etcd.release()
    closer.join()
    assert write_batcher.result(sent).succeeded
    with pytest.raises(ClosedError):
        write_batcher.submit(put("c"), SECONDS)


def test_many_callers_lose_no_update(etcd: FakeEtcd, write_batcher: WriteBatcher) -> None:
    """Each counts up by compare-and-set until it did; the sum is right."""
    callers, times = 8, 25

    def count_up() -> None:
        for _ in range(times):
            while True:
                now = read(write_batcher, "n")
                condition = absent("n") if now is None else holds("n", now)
                value = str(int(now or b"0") + 1).encode()
                if write_batcher.commit(
                    Transaction((condition,), (Put("n", value),)), 5.0
                ).succeeded:
                    break

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(count_up) for _ in range(callers)]:
            done.result()
    assert read(write_batcher, "n") == str(callers * times).encode()


# Against a plain dictionary --------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "d/1", "d/2"])
VALUES = st.sampled_from([b"", b"1", b"2"])
CONDITIONS = st.one_of(
    st.builds(absent, KEYS), st.builds(present, KEYS), st.builds(holds, KEYS, VALUES)
)
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, VALUES), st.builds(Delete, KEYS), st.builds(Read, KEYS)
)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """Anything that etcd takes."""
    if draw(st.integers(0, 9)) == 0:
        return Transaction(then=(DeletePrefix("d/"),))

    def branch() -> tuple[Operation, ...]:
        drawn: list[Operation] = draw(st.lists(OPERATIONS, max_size=3))
        return tuple({operation.key: operation for operation in drawn}.values())  # type: ignore[union-attr]

    when: Sequence[Condition] = draw(st.lists(CONDITIONS, max_size=2))
    return Transaction(tuple(when), branch(), branch())


class Model:
    """What a dictionary would hold, if all were made one after the other."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def make(self, transaction: Transaction) -> tuple[bool, list[object]]:
        """Make one, and return what its caller should be told."""
        succeeded = all(self._holds(condition) for condition in transaction.when)
        branch = transaction.then if succeeded else transaction.otherwise
        return succeeded, [self._do(operation) for operation in branch]

    def _holds(self, condition: Condition) -> bool:
        found = self.values.get(condition.key)
        if isinstance(condition.wanted, bytes):
            return found == condition.wanted
        return (found is None) != condition.differs

    def _do(self, operation: Operation) -> object:
        match operation:
            case Put(key, value):
                self.values[key] = value
                return None
            case Delete(key):
                return int(self.values.pop(key, None) is not None)
            case DeletePrefix(prefix):
                gone = [key for key in self.values if key.startswith(prefix)]
                for key in gone:
                    del self.values[key]
                return len(gone)
            case Read(key):
                return self.values.get(key)


def _told(outcome: Outcome) -> tuple[bool, list[object]]:
    results = [r.value if isinstance(r, Entry) else r for r in outcome.results]
    return outcome.succeeded, list(results)


@settings(deadline=None)
@given(
    st.lists(transactions(), max_size=25),
    st.lists(st.sampled_from([Trouble.NOT_REACHED, Trouble.DROPPED]), max_size=2),
)
def test_outcomes_are_those_of_one_after_the_other(
    wanted: list[Transaction], troubles: list[Trouble]
) -> None:
    """Whatever travels together, and though some of it is made again."""
    etcd, model = FakeEtcd(), Model()
    write_batcher = WriteBatcher(etcd)
    etcd.plan(*troubles)
    etcd.hold()
    try:
        writes = [write_batcher.submit(transaction, SECONDS) for transaction in wanted]
        etcd.release()
        for write in writes:
            assert _told(write_batcher.result(write)) == model.make(write.transaction)
        for key in ("a", "b", "c", "d/1", "d/2"):
            assert read(write_batcher, key) == model.values.get(key)
    finally:
        etcd.release()
        write_batcher.close()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(transactions(), min_size=1, max_size=15),
    st.lists(st.sampled_from(list(Trouble)), max_size=4),
    st.lists(st.integers(0, 15), max_size=4),
)
def test_whatever_is_not_answered_is_made_once(
    wanted: list[Transaction], troubles: list[Trouble], deliveries: list[int]
) -> None:
    """With the outcome that it has in its turn, though its answer be lost or it come late."""
    etcd, model = FakeEtcd(), Model()
    write_batcher = WriteBatcher(etcd)
    try:
        for number, transaction in enumerate(wanted):
            etcd.plan(*([troubles.pop()] if troubles else []))
            assert _told(write_batcher.commit(transaction, SECONDS)) == model.make(transaction)
            if number in deliveries and etcd.late:
                assert not etcd.deliver()
        while etcd.late:
            assert not etcd.deliver()
        for key in ("a", "b", "c", "d/1", "d/2"):
            assert read(write_batcher, key) == model.values.get(key)
    finally:
        write_batcher.close()


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_time_that_is_none_is_refused(write_batcher: WriteBatcher, seconds: float) -> None:
    """Nothing is queued."""
    with pytest.raises(InputError, match="cannot wait"):
        write_batcher.commit(put("a"), seconds)


def test_endless_time_is_good(write_batcher: WriteBatcher) -> None:
    """It is cut to what locks and sockets can wait for."""
    assert write_batcher.commit(put("a"), float("inf")).succeeded


# Without a leader --------------------------------------------------------------------------------


def refused_in(write: Callable[[], object]) -> float:
    """Return how long it took to refuse something."""
    begun = monotonic()
    with pytest.raises(DegradedCollective, match=r"no quorum.*knows no leader"):
        write()
    return monotonic() - begun


def test_write_without_a_leader_is_refused_at_once_and_not_sent(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """Two of three are dead: it took all of its time, and was in doubt then."""
    etcd.leads = False
    refused_in(lambda: write_batcher.commit(put("a"), 60.0))
    assert refused_in(lambda: write_batcher.commit(put("a"), 60.0)) < 0.3, "it is known by now"
    assert etcd.requests.count("/kv/txn") == 0
    etcd.leads = True
    assert write_batcher.commit(put("a"), SECONDS).succeeded


def test_moment_without_a_leader_is_waited_for(
    etcd: FakeEtcd, write_batcher: WriteBatcher
) -> None:
    """An election is under way: nobody is told."""
    etcd.leads = False
    write = write_batcher.submit(put("a"), SECONDS)
    wait_until(lambda: "/maintenance/status" in etcd.requests, SECONDS, "it is asked for")
    etcd.leads = True
    assert write_batcher.result(write).succeeded


def test_write_to_a_stopped_etcd_is_not_sent(etcd: FakeEtcd, write_batcher: WriteBatcher) -> None:
    """It does not even say who leads: so nothing is in doubt."""
    etcd.stop()
    with pytest.raises(DeadlineError, match="nothing was written"):
        write_batcher.commit(put("a"), 0.3)
    etcd.release()
    assert read(write_batcher, "a") is None


def test_question_without_a_leader_is_answered_at_once(etcd: FakeEtcd) -> None:
    """That there is no quorum."""
    reads = ReadBatcher(etcd)
    reads.newest(SECONDS)
    reads = ReadBatcher(etcd)
    etcd.leads = False
    refused_in(lambda: reads.newest(60.0))
    assert refused_in(lambda: reads.newest(60.0)) < 0.3
    etcd.leads = True
    assert reads.newest(SECONDS).revision
    reads.close()
