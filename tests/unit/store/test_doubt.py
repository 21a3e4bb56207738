"""The end of doubt: whether a write was made is said once, and is true from then on.

A put that was sent to an etcd which was paused arrived 60 s later and overwrote a newer value that
had been acknowledged (tikv/pd 10746).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collective.errors import EtcdError, InDoubtError, LeaseExpiredError
from collective.etcd.requests import encode
from collective.handle import Collective
from collective.model.keyspace import GUARDS, STORE
from collective.store.store import Store
from collective.store.values import (
    Delete,
    DeletePrefix,
    Entry,
    Put,
    Read,
    Transaction,
    absent,
    present,
)
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, Trouble, nowhere

SECONDS = 10.0
SHORT = 0.1


class Shared(FakeEtcd):
    """One that two handles are connected to."""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def etcd() -> Shared:
    """An etcd in memory."""
    return Shared()


@pytest.fixture
def store(etcd: Shared) -> Iterator[Store]:
    """The store of a handle on it that has written something."""
    with Collective("mgt1", etcd, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        handle.store.put("before", b"")
        yield handle.store
        etcd.calm()
        etcd.release()


def doubted(etcd: FakeEtcd, write: Callable[[], object]) -> InDoubtError:
    """Make a write while no answer comes to anything, and return its error."""
    etcd.plan(*[Trouble.LATE] * 1000)
    with pytest.raises(InDoubtError, match="may have been made or not") as caught:
        write()
    return caught.value


def stored(etcd: FakeEtcd, key: str) -> bytes | None:
    found = etcd.range(STORE + key)[1]
    return found[0].value if found else None


def test_write_that_is_settled_as_not_made_never_overwrites_a_newer_one(
    etcd: Shared, store: Store
) -> None:
    """It arrives when somebody else has written, and does nothing (tikv/pd 10746)."""
    error = doubted(etcd, lambda: store.put("a", b"old", seconds=SHORT))
    etcd.calm()
    assert error.settle(SECONDS) is False
    with Collective("mgt2", etcd, nowhere()) as other:
        other.wait_until_ready(SECONDS)
        other.store.put("a", b"new")
    while etcd.late:
        etcd.deliver()
    assert stored(etcd, "a") == b"new"
    assert error.settle() is False, "it says the same for ever"


def test_write_that_came_late_is_settled_as_made(etcd: Shared, store: Store) -> None:
    """With its outcome, and though it was overwritten since."""
    error = doubted(etcd, lambda: store.put("a", b"1", if_revision=0, seconds=SHORT))
    assert etcd.deliver()
    etcd.calm()
    store.put("a", b"2")
    assert error.settle(SECONDS) is True
    outcome = store.settle(error)
    assert outcome is not None
    assert outcome.succeeded
    assert 0 < outcome.revision < etcd.newest()[1]


def test_write_whose_condition_failed_is_settled_as_not_made(etcd: Shared, store: Store) -> None:
    """The request was carried out: what its condition found, etcd's history says."""
    store.put("a", b"1")
    error = doubted(etcd, lambda: store.put("a", b"2", if_revision=0, seconds=SHORT))
    assert etcd.deliver()
    etcd.calm()
    store.delete("a")
    assert error.settle(SECONDS) is False
    outcome = store.settle(error)
    assert outcome is not None, "its otherwise, if it had any, was done"
    assert not outcome.succeeded


def test_settling_tells_what_the_answer_would_have_told(etcd: Shared, store: Store) -> None:
    """Reads, and how much was deleted, out of the history."""
    for key in ("a", "b", "d/1", "d/2"):
        store.put(key, key.encode())

    def write() -> object:
        then = (Put("n", b""), Delete("a"), Delete("none"), DeletePrefix("d/"), Read("b"))
        return store.txn((present("a"), absent("none")), then, seconds=SHORT)

    error = doubted(etcd, write)
    assert etcd.deliver()
    etcd.calm()
    store.put("b", b"later")
    outcome = store.settle(error)
    assert outcome is not None
    assert outcome.results[:4] == (None, 1, 0, 2)
    assert isinstance(outcome.results[4], Entry)
    assert (outcome.results[4].key, outcome.results[4].value) == ("b", b"b")


def test_doubt_that_etcd_does_not_end_in_time_can_be_ended_later(
    etcd: Shared, store: Store
) -> None:
    """As often as one likes to ask."""
    error = doubted(etcd, lambda: store.put("a", b"1", seconds=SHORT))
    with pytest.raises(InDoubtError, match="has not answered since") as again:
        error.settle(0.0)
    etcd.calm()
    assert again.value.settle(SECONDS) is False


def test_later_write_of_the_same_key_waits_for_the_end_of_the_doubt(
    etcd: Shared, store: Store
) -> None:
    """So that it is not overtaken by what came before it."""
    doubted(etcd, lambda: store.put("a", b"1", seconds=SHORT))
    etcd.calm()
    store.put("a", b"2")
    while etcd.late:
        etcd.deliver()
    assert stored(etcd, "a") == b"2"


def test_load_in_doubt_is_settled_whole(etcd: Shared, store: Store) -> None:
    """All of its requests that were not answered."""
    items = [(f"k{number}", b"") for number in range(300)]
    error = doubted(etcd, lambda: store.load(items, seconds=SHORT))
    assert "keys were loaded" in error.message
    etcd.calm()
    assert error.settle(SECONDS) is False
    while etcd.late:
        etcd.deliver()
    assert etcd.range(STORE + "k")[1] == []


def test_closed_handle_leaves_nothing_that_comes_late(etcd: Shared, store: Store) -> None:
    """Its guards end with their lease; what was in doubt nobody can say any more."""
    handle = Collective("mgt9", etcd, nowhere())
    handle.wait_until_ready(SECONDS)
    error = doubted(etcd, lambda: handle.store.put("a", b"1", seconds=SHORT))
    handle.close()
    etcd.calm()
    with pytest.raises(InDoubtError, match="not known whether a write was made"):
        error.settle()
    assert etcd.range(GUARDS + "mgt9/")[1] == []
    while etcd.late:
        with pytest.raises(EtcdError, match="requested lease not found"):
            etcd.deliver()
    assert stored(etcd, "a") is None


def test_guard_that_was_taken_away_costs_no_write(etcd: Shared, store: Store) -> None:
    """By hand, or since the lease ended while the machine was asleep."""
    for key in etcd.range(GUARDS)[1]:
        body = {"success": [{"request_delete_range": {"key": encode(key.key)}}]}
        etcd.call("/kv/txn", body)
    store.put("a", b"1")
    for lease in list(etcd._leases):
        etcd.expire(lease)
    store.put("a", b"2")
    assert stored(etcd, "a") == b"2"


def test_ended_lease_of_a_caller_is_told_from_that_of_the_guard(
    etcd: Shared, store: Store
) -> None:
    """The one fails its caller; the other is opened anew."""
    with store.lease(60) as lease:
        for each in list(etcd._leases):
            etcd.expire(each)
        with pytest.raises(LeaseExpiredError):
            store.put("a", b"1", lease=lease)
    store.put("a", b"2")
    assert stored(etcd, "a") == b"2"


class Full(Shared):
    """One whose database is full: it takes nothing that needs room."""

    full = False

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call, see ``EtcdApi``."""
        if self.full and (path == "/lease/grant" or "request_put" in str(body)):
            raise EtcdError("etcd: etcdserver: mvcc: database space exceeded")
        return super().call(path, body)


def test_deletion_that_makes_room_is_made_where_there_is_none() -> None:
    """A guard needs room; without one the deletion is made all the same."""
    etcd = Full()
    with Collective("mgt1", etcd, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        handle.store.put("a", b"")
        handle.store.put("b", b"")
        etcd.full = True
        with pytest.raises(EtcdError, match="its database is full"):
            handle.store.put("c", b"")
        assert handle.store.delete("a")
        assert handle.store.delete_prefix("b") == 1
        etcd.full = False


def test_what_is_no_write_cannot_be_settled() -> None:
    """The error of a call to another server, or one that came from another process."""
    error = InDoubtError("a call broke off")
    with pytest.raises(InDoubtError, match="a call broke off"):
        error.settle()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), max_size=6), st.booleans())
def test_whatever_comes_late_in_whatever_order_what_was_said_stays_true(
    order: list[int], condition: bool
) -> None:
    """A request and the attempts to end its doubt arrive in any order, before and after."""
    etcd = Shared()
    with Collective("mgt1", etcd, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        handle.store.put("before", b"")
        etcd.plan(*[Trouble.LATE] * 1000)
        when = (absent("a"),) if condition else ()
        batcher = handle.store.write_batcher
        write = batcher.submit(Transaction(when, (Put("a", b"1"),)), SECONDS)
        wait_until(lambda: etcd.late >= 2, SECONDS, "something is on its way")
        batcher.give_up(write)
        with pytest.raises(InDoubtError) as caught:
            batcher.result(write)
        for index in order:
            if etcd.late:
                etcd.deliver(index % etcd.late)
        etcd.calm()
        made = caught.value.settle(SECONDS)
        before = stored(etcd, "a")
        assert made is (before == b"1")
        while etcd.late:
            etcd.deliver(etcd.late - 1)
        assert stored(etcd, "a") == before
