"""Locks, elections, assignments and calls from asyncio, on real daemons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from collective import aio
from collective.errors import (
    ClosedError,
    CollectiveError,
    ConflictError,
    DeadlineError,
    HandlerError,
    InDoubtError,
    NoServiceError,
    RefusedError,
)
from tests.harness import Cluster, Server

pytestmark = pytest.mark.integration

SECONDS = 20.0
# A loop that something blocks stands still for as long as that waits; a busy machine stops it,
# too, but not for seconds.
_BLOCKED_SECONDS = 2.0
MakeCluster = Callable[..., Cluster]


def play(work: Coroutine[object, object, None]) -> None:
    """Run a test in a loop that must go on turning."""

    async def watched() -> None:
        loop, worst = asyncio.get_running_loop(), 0.0
        task = asyncio.ensure_future(work)
        while not task.done():
            begun = loop.time()
            await asyncio.wait([task], timeout=0.01)
            worst = max(worst, loop.time() - begun - 0.01)
        task.result()
        assert worst < _BLOCKED_SECONDS, f"the loop stood still for {worst:.2f} s"

    asyncio.run(watched())


@asynccontextmanager
async def connected(*servers: Server) -> AsyncIterator[list[aio.Collective]]:
    """Return handles, closed in the end."""
    handles = [await aio.connect(server.root, seconds=SECONDS) for server in servers]
    try:
        yield handles
    finally:
        for handle in handles:
            await handle.close()


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    for _ in range(int(SECONDS / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


def test_tasks_hold_a_lock_one_at_a_time(cluster: Cluster) -> None:
    """With a fence and a token each; who is cancelled leaves the queue and holds nothing."""
    (mgt1,) = cluster.add_running(1)

    async def lock() -> None:
        async with connected(mgt1) as (handle,):
            inside, tokens = 0, list[int]()

            async def take() -> None:
                nonlocal inside
                async with handle.lock("one") as hold:
                    inside += 1
                    assert inside == 1
                    tokens.append(hold.token)
                    await handle.store.put("by", b"", when=[hold.fence])
                    inside -= 1

            await asyncio.gather(*(take() for _ in range(8)))
            assert len(set(tokens)) == 8
            assert tokens == sorted(tokens)
            held = await handle.lock("one").acquire()
            lock = handle.lock("one")
            assert await lock.try_acquire() is None
            waiting = asyncio.ensure_future(handle.lock("one").acquire())
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await held.release()
            assert not held.is_held
            with pytest.raises(ConflictError):
                await handle.store.put("by", b"late", when=[held.fence])
            async with handle.lock("one") as last:
                assert last.is_held
            async with lock:
                with pytest.raises(RefusedError, match="held already"):
                    await lock.__aenter__()
            with pytest.raises(DeadlineError):
                async with lock:
                    await handle.lock("one").acquire(0.1)

    play(lock())


def test_tasks_elect(cluster: Cluster) -> None:
    """An election tells each change in the loop; a session that is closed ends its locks."""
    (mgt1,) = cluster.add_running(1)

    async def meet() -> None:
        async with connected(mgt1) as (handle,):
            told: list[str | None] = []
            election = handle.election("lead")
            watch = election.on_change(lambda who: told.append(who.value if who else None))
            first = await election.campaign("first")
            second = asyncio.ensure_future(handle.election("lead").campaign("second"))
            await until(lambda: len(election.candidates()) == 2, "both stand")
            await first.release()
            async with await second as hold:
                assert hold.is_held
                leader = election.leader()
                assert leader is not None
                assert leader.value == "second"
            await until(lambda: told[-1:] == [None], "all is told")
            assert told == ["first", "second", None]
            watch.close()
            session = await handle.session(3)
            mine = await handle.lock("mine", session).acquire()
            await handle.close_session(session)
            assert not mine.is_held
            assert handle.in_collective is False

    play(meet())


def test_coroutine_is_awaited_before_its_nodes_go_to_another(make_cluster: MakeCluster) -> None:
    """The other manager gets them when ``lost`` has come to its end."""
    cluster = make_cluster(2)
    nodes = [f"n{number}" for number in range(10)]

    async def move() -> None:
        async with connected(*cluster.servers.values()) as (one, two):
            events: list[str] = []
            changes = one.on_member_change(lambda change: events.append(change.member.name))
            group, other = await one.assignments(grace=1.0), await two.assignments(grace=1.0)
            have: dict[str, set[str]] = {"mgt1": set(), "mgt2": set()}

            async def lose(nodes: list[str]) -> None:
                await asyncio.sleep(0.3)
                have["mgt1"].difference_update(nodes)

            def gain(nodes: list[str]) -> None:
                assert not have["mgt1"].intersection(nodes), "two managers at one time"
                have["mgt2"].update(nodes)

            async def gain_first(nodes: list[str]) -> None:
                have["mgt1"].update(nodes)

            await group.define(nodes)
            manager = group.manage(gain_first, lose)
            await until(lambda: manager.nodes == set(nodes), "mgt1 has all")
            rival = other.manage(gain, have["mgt2"].difference_update)
            await until(lambda: len(other.managers()) == 2, "both are there")
            await group.rebalance()
            await until(lambda: len(rival.nodes) == 5, "they share")
            await manager.close()
            await until(lambda: rival.nodes == set(nodes), "mgt2 has all")
            await until(lambda: group.manager_of("n3") == "mgt2", "mgt1 has heard of it")
            assert len(other.nodes_of("mgt2")) == 10
            await group.remove(["n3"])
            await until(lambda: "n3" not in rival.nodes, "it is gone")
            await rival.close()
            changes.close()
            for each in (group, other):
                await each.close()

    play(move())


def test_tasks_call_each_other(make_cluster: MakeCluster) -> None:
    """Many at a time, both ways, cancelled, closed and failing; and coroutines serve."""
    cluster = make_cluster(2)

    async def call() -> None:
        async with connected(*cluster.servers.values()) as (one, two):

            async def echo(call: aio.ServedCall) -> None:
                async for message in call:
                    await call.send(message.upper() + call.caller.name.encode())

            async def swallow(call: aio.ServedCall) -> bytes:
                size = 0
                while (message := await call.receive()) is not None:
                    size += len(message)
                return str(size).encode()

            async def refuse(call: aio.ServedCall) -> None:
                raise RefusedError("not today")

            async def hang(call: aio.ServedCall) -> None:
                await asyncio.sleep(3600.0)

            for handler in (echo, swallow, refuse, hang):
                two.serve(handler.__name__, handler)
            answers = await asyncio.gather(*(one.ask("mgt2", "echo", b"a") for _ in range(40)))
            assert set(answers) == {b"Amgt1"}
            async with await one.call("mgt2", "swallow", seconds=60.0) as sink:
                for _ in range(20):
                    await sink.send(bytes(1 << 20))
                await sink.finish()
                assert await sink.receive() == str(20 << 20).encode()
                assert await sink.receive() is None
            with pytest.raises(HandlerError, match="not today"):
                await one.ask("mgt2", "refuse")
            with pytest.raises(NoServiceError):
                await one.ask("mgt2", "nothing")
            with pytest.raises(InDoubtError, match="did not end"):
                await one.ask("mgt2", "hang", seconds=2.0)
            async with await one.call("mgt2", "hang", seconds=60.0) as waits:
                with pytest.raises(DeadlineError):
                    await waits.receive(0.1)
                waiting = asyncio.ensure_future(waits.receive())
                await asyncio.sleep(0.1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                last = asyncio.ensure_future(waits.receive())
                await asyncio.sleep(0.1)
            with pytest.raises(ClosedError):
                await last
            with pytest.raises(ClosedError):
                await waits.send(b"")
            # Nobody reads: who sends waits, and a task that is cancelled there ends the call.
            async with await one.call("mgt2", "hang", seconds=60.0) as full:
                sending = asyncio.ensure_future(flood(full))
                await asyncio.sleep(1.0)
                assert not sending.done()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                with pytest.raises(CollectiveError):
                    await full.send(b"more")

    play(call())


def test_closing_from_a_thread_leaves_the_loop_in_order(make_cluster: MakeCluster) -> None:
    """Of a service, or of a call, while tasks wait in it; and what fails there is told."""
    cluster = make_cluster(2)

    async def close() -> None:
        async with connected(*cluster.servers.values()) as (one, two):
            full = asyncio.Event()

            async def give(call: aio.ServedCall) -> None:
                full.set()
                await flood(call)

            async def fail(call: aio.ServedCall) -> None:
                raise RuntimeError("of the handler")

            async def leave(call: aio.ServedCall) -> None:
                leaked.append(asyncio.ensure_future(call.receive()))
                await asyncio.sleep(0.1)

            def answer(call: aio.ServedCall) -> bytes:
                return b"at once"

            leaked: list[asyncio.Future[bytes | None]] = []
            giving = two.serve("give", give)
            for handler in (fail, leave, answer):
                two.serve(handler.__name__, handler)
            call = await one.call("mgt2", "give", seconds=60.0)
            await full.wait()
            await asyncio.sleep(0.5)
            # Its handler waits in a send, in this very loop.
            giving.close()
            with pytest.raises(InDoubtError):
                async for _ in call:
                    pass
            with pytest.raises(HandlerError, match="the handler raised an error"):
                await one.ask("mgt2", "fail")
            assert await one.ask("mgt2", "answer") == b"at once"
            async with await one.call("mgt2", "leave", seconds=60.0) as left:
                assert await left.receive() is None
            with pytest.raises(ClosedError):
                await leaked[0]
            waiting = await one.call("mgt2", "leave", seconds=60.0)
            task = asyncio.ensure_future(waiting.receive())
            await asyncio.sleep(0)
            await asyncio.to_thread(waiting.sync.close)
            with pytest.raises(ClosedError):
                await task
            await asyncio.gather(*leaked, return_exceptions=True)

    play(close())


async def flood(call: aio.Call) -> None:
    """Send without an end."""
    while True:
        await call.send(bytes(1 << 20))
