"""The faces for asyncio on an etcd in memory: what a cancelled task leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from collective import aio
from collective.etcd.requests import encode
from collective.handle import Collective
from collective.membership import Change, MemberChange
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import MEMBERS
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
