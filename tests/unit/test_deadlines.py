"""Calls x states: whatever etcd does, a call of the API ends when its time is up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import monotonic

import pytest

from collective.aio import Assignments, Collective, Election, Holding, Lock, Manager, Store
from collective.errors import CollectiveError, DegradedCollective
from collective.handle import Collective as Threaded
from tests.harness.api_table import CALLS, CLASSES, public, tried
from tests.harness.fake_etcd import FakeEtcd, Trouble, nowhere
from tests.harness.stopwatch import Stopwatch

SECONDS = 10.0
GIVEN, GRACE = 0.4, 0.3
# A machine that is busy just then is no fault of the call: it is tried again by itself.
TRIES = 4
AT_A_TIME = 8


class Etcd(FakeEtcd):
    """One that several handles are connected to."""

    def close(self) -> None:
        """Do nothing."""


def die(etcd: FakeEtcd) -> None:
    """Have nobody there."""
    etcd.alive = False
    etcd.break_streams()


def lose_the_leader(etcd: FakeEtcd) -> None:
    """Have nobody lead, and the watches end."""
    etcd.leads = False


def lose_answers(etcd: FakeEtcd) -> None:
    """Have each write come late, if ever, and the next attempts too."""
    etcd.plan(*[Trouble.LATE] * 100_000)


STATES: dict[str, Callable[[FakeEtcd], object]] = {
    "stopped": FakeEtcd.stop,
    "frozen": FakeEtcd.hold,
    "leaderless": lose_the_leader,
    "dead": die,
    "unheard": lose_answers,
}


@contextmanager
def handles() -> Iterator[tuple[Etcd, Callable[[], Threaded]]]:
    """An etcd in memory, and what connects to it; all is well again in the end."""
    etcd = Etcd()
    with ExitStack() as stack:

        def connect() -> Threaded:
            handle = Threaded("mgt1", etcd, nowhere())
            stack.callback(handle.close, 1.0)
            handle.wait_until_ready(SECONDS)
            return handle

        def heal() -> None:
            etcd.calm()
            etcd.alive = etcd.leads = True
            etcd.release()

        try:
            yield etcd, connect
        finally:
            heal()


def test_every_public_call_is_in_the_table() -> None:
    """One that is added to a class has to be added there, with how long it may take."""
    assert {name for cls in CLASSES for name in public(cls)} == set(CALLS)


def test_calls_for_asyncio_are_those_of_threads() -> None:
    """So that the table is about them too; what is theirs alone is named here."""
    known = {name.partition(".")[2] for name in CALLS} | {"close_lease", "close_session", "token"}
    classes = (Collective, Store, Lock, Election, Holding, Assignments, Manager)
    for cls in classes:
        ours = {name.partition(".")[2] for name in public(cls)} - {"newest"}
        assert ours <= known, cls


def overshoots(names: list[str], state: str) -> dict[str, float]:
    """Make calls in a state of etcd; return by how much each was late, those in time left out."""
    late: dict[str, float] = {}
    with handles() as (etcd, connect):
        shared = connect()
        shared.store.put("a", b"")
        runs = {name: CALLS[name][0](shared, connect) for name in names}
        STATES[state](etcd)

        def run(name: str) -> None:
            most = CALLS[name][1]
            watch = Stopwatch()
            tried(runs[name], GIVEN)
            over = watch.seconds - (GIVEN if most is None else most)
            if over > GRACE:
                late[name] = over

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for done in [pool.submit(run, name) for name in names]:
                done.result()
    return late


@pytest.mark.parametrize("state", STATES)
def test_every_call_ends_when_its_time_is_up(state: str) -> None:
    """Its seconds, and three tenths."""
    late = overshoots(list(CALLS), state)
    for _ in range(TRIES):
        late = {n: over for name in late for n, over in overshoots([name], state).items()}
    assert late == {}


def test_locks_of_one_handle_are_waited_for_side_by_side() -> None:
    """Six threads that wanted one for a second each had to wait for 5, 10, ... 30 s."""
    with handles() as (etcd, connect):
        handle = connect()
        etcd.stop()
        taken: list[float] = []

        def acquire(number: int) -> None:
            begun = monotonic()
            with pytest.raises(DegradedCollective, match=f"lock {number} is not held"):
                handle.lock(str(number)).acquire(1.0)
            taken.append(monotonic() - begun)

        threads = [threading.Thread(target=acquire, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 6
        assert max(taken) < 1.0 + 4 * GRACE, "not one after the other"


@pytest.mark.parametrize("state", ["leaderless", "dead", "stopped"])
def test_lock_is_waited_for_while_etcd_is_away(state: str) -> None:
    """Who has the patience for 40 s does not give up after 5."""
    with handles() as (etcd, connect):
        handle = connect()
        STATES[state](etcd)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(handle.lock("config").acquire, 40.0)
            with pytest.raises(CollectiveError):
                handle.store.put("a", b"", seconds=1.0)
            assert not waiting.done()
            etcd.alive = etcd.leads = True
            etcd.release()
            assert waiting.result().is_held
