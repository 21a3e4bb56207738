"""The faces for asyncio on an etcd in memory: what a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from collective import aio
from collective.errors import ClosedError, RefusedError
from collective.etcd.requests import encode
from collective.handle import Collective
from collective.membership import Change, MemberChange
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import MEMBERS
from collective.store.values import Put
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, nowhere

SECONDS = 10.0


@pytest.fixture
def etcd() -> Iterator[FakeEtcd]:
    """An etcd in memory."""
    made = FakeEtcd()
    yield made
    made.release()


@pytest.fixture
def handle(etcd: FakeEtcd) -> Iterator[aio.Collective]:
    """A handle for tasks on it."""
    made = Collective("mgt1", etcd, nowhere())
    made.wait_until_ready(SECONDS)
    yield aio.Collective(made)
    etcd.release()
    made.close()


def test_lease_that_nobody_waits_for_is_ended(etcd: FakeEtcd, handle: aio.Collective) -> None:
    """Or a thread would keep it alive until the handle is closed."""

    async def work() -> None:
        etcd.hold()
        opening = asyncio.create_task(handle.store.lease(60))
        await asyncio.sleep(0.1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        etcd.release()

    asyncio.run(work())
    wait_until(
        lambda: "/lease/revoke" in etcd.requests and not etcd._leases, SECONDS, "it is ended"
    )


def test_load_that_nobody_waits_for_sends_nothing_more(
    etcd: FakeEtcd, handle: aio.Collective
) -> None:
    """What was sent is written, and that is all."""
    given, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[tuple[str, bytes]]:
        for number in range(1000):
            if number == 500:
                given.set()
                go_on.wait(SECONDS)
            yield f"k{number}", b""

    async def work() -> None:
        loading = asyncio.create_task(handle.store.load(items()))
        await asyncio.to_thread(given.wait, SECONDS)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(work())
    go_on.set()
    wait_until(lambda: not _loads(), SECONDS, "it has ended")
    assert len(etcd.range("collective/store/k")[1]) <= 600


def _loads() -> bool:
    return any(thread.name == "aio" for thread in threading.enumerate())


def test_coroutine_is_told_of_members_in_order(etcd: FakeEtcd, handle: aio.Collective) -> None:
    """Each to its end before the next."""
    told: list[str] = []

    async def hear(change: MemberChange) -> None:
        assert change.change is Change.JOINED
        told.append(f"begin {change.member.name}")
        await asyncio.sleep(0.05)
        told.append(f"end {change.member.name}")

    async def work() -> None:
        watch = handle.on_member_change(hear)
        for name in ("mgt2", "mgt3"):
            record = MemberRecord(name, "1", Role.VOTER, "10.0.0.1", 1, 2, (), 0)
            put = {"key": encode(MEMBERS + name), "value": encode(to_json(record))}
            etcd.call("/kv/txn", {"success": [{"request_put": put}]})
        while len(told) < 4:
            await asyncio.sleep(0.01)
        watch.close()

    asyncio.run(asyncio.wait_for(work(), SECONDS))
    assert told == ["begin mgt2", "end mgt2", "begin mgt3", "end mgt3"]


def test_batch_of_a_watch_is_one_transaction(handle: aio.Collective) -> None:
    """Whole, however the reader is woken; single events and batches are not mixed."""

    async def work() -> None:
        async with handle.store.watch("n/") as watch:
            puts = [Put(f"n/{number}", b"") for number in range(50)]
            waiting = asyncio.create_task(watch.next_batch())
            outcome = await handle.store.txn((), puts)
            await handle.store.put("n/0", b"later")
            batch = await asyncio.wait_for(waiting, SECONDS)
            assert [event.key for event in batch] == [put.key for put in puts]
            assert {event.revision for event in batch} == {outcome.revision}
            assert [e.value for e in await watch.next_batch()] == [b"later"]
            await handle.store.txn((), puts)
            await anext(watch)
            with pytest.raises(RefusedError):
                await watch.next_batch()
        with pytest.raises(ClosedError):
            await watch.next_batch()

    asyncio.run(work())
