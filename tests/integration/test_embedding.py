"""The API for software on the servers, on real daemons: members, quorum, store, over failures."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Queue

import pytest

import collective
from collective import aio
from collective.daemon.lifecycle.server import CollectiveServer
from collective.errors import (
    ClosedError,
    CollectiveError,
    ConflictError,
    DaemonError,
    DegradedCollective,
    EtcdError,
    InDoubtError,
    InputError,
    LeaseExpiredError,
    NotReachedError,
    RefusedError,
    RemovedError,
)
from tests.harness import Cluster, Server, wait_until
from tests.harness.processes import reap
from tests.integration.test_nonvoting import join_nonvoting, wait_for_role

pytestmark = pytest.mark.integration

SECONDS = 20.0
MakeCluster = Callable[..., Cluster]
Connect = Callable[[Server], collective.Collective]


def until_written(store: collective.Store, key: str, value: bytes) -> int:
    """Write as an embedder has to who knows that once more does no harm."""

    def written() -> int | None:
        try:
            return store.put(key, value, seconds=2.0)
        except (InDoubtError, DegradedCollective, NotReachedError):
            return None

    return wait_until(written, SECONDS, f"{key} is written") or 0


def test_members_share_what_one_of_them_writes(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Whichever it is; with the members, the leader and the quorum as each of them sees them."""
    servers = list(make_cluster(3).servers.values())
    handles = [connect(server) for server in servers]
    for number, writer in enumerate(handles):
        revision = writer.store.put(f"from/{writer.name}", b"1")
        for reader in handles:
            assert reader.store.get(f"from/{writer.name}", at_least=revision) == b"1"
            assert len(reader.store.range("from/").entries) == number + 1
    for handle in handles:
        assert [member.name for member in handle.members()] == ["mgt1", "mgt2", "mgt3"]
        assert all(member.votes for member in handle.members())
        assert handle.leader() == "mgt1"
        assert handle.quorum
        assert handle.in_collective
        assert handle.member("mgt2").address == servers[1].address
        assert len(handle.member("mgt2").fingerprints) == 1
        with pytest.raises(InputError, match=r"mgt9 is no member.*mgt1, mgt2, mgt3"):
            handle.member("mgt9")


def test_membership_changes_are_told_in_order(cluster: Cluster, connect: Connect) -> None:
    """A join, a promotion to voter, a deletion; and the name of each."""
    (mgt1,) = cluster.add_running(1)
    told: list[tuple[str, str, bool]] = []
    watch = connect(mgt1).on_member_change(
        lambda change: told.append((change.change.value, change.member.name, change.member.votes)),
        initial=True,
    )
    (mgt2,) = cluster.add_running(1)
    cluster.join(mgt2, mgt1)
    mgt1.run("delete", "--force", "mgt2", check=True)
    wait_until(lambda: ("left", "mgt2", True) in told, SECONDS, "the deletion is told")
    assert told[0] == ("joined", "mgt1", True)
    assert told[1] == ("joined", "mgt2", False)
    assert ("changed", "mgt2", True) in told[2:]
    assert told[-1] == ("left", "mgt2", True)
    watch.close()


def test_writer_and_watcher_go_on_over_killed_daemons(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Every acknowledged write is there, and told once, whoever is killed in between."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    writer, reader = connect(mgt1).store, connect(mgt2).store
    watch = reader.watch("n/")
    acknowledged = []
    for number, victim in enumerate([mgt3, mgt1, mgt2, mgt1]):
        for part in range(20):
            key = f"n/{number}-{part}"
            until_written(writer, key, b"")
            acknowledged.append(key)
        victim.kill()
        victim.start()
        for handle_server in (mgt1, mgt2, mgt3):
            handle_server.wait_for_quorum()
    last = until_written(writer, "n/last", b"")
    assert reader.get("n/last", at_least=last, seconds=SECONDS) == b""
    found = {entry.key for entry in reader.range("n/", linearizable=True).entries}
    assert found == {*acknowledged, "n/last"}
    told = [event.key for event in watch.take(10_000)]
    assert list(dict.fromkeys(told)) == [*acknowledged, "n/last"]


def test_without_a_quorum_reads_go_on_and_writes_say_what_they_are(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Neither hangs, and no callback is lost when it comes back."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    handle = connect(mgt1)
    handle.store.put("a", b"1")
    mgt2.kill()
    mgt3.kill()
    assert handle.store.get("a") == b"1"
    wait_until(lambda: not handle.quorum, SECONDS, "the quorum is missed")
    with pytest.raises(DegradedCollective, match="there is no quorum"):
        handle.check_quorum(0.5)
    with pytest.raises(DegradedCollective):
        handle.store.get("a", linearizable=True, seconds=0.5)
    wait_until(lambda: handle.leader() is None, SECONDS, "etcd knows no leader")
    for refused in (handle.check_quorum, partial(handle.store.put, "a", b"2")):
        begun = time.monotonic()
        with pytest.raises(DegradedCollective, match="knows no leader"):
            refused(seconds=SECONDS)
        assert time.monotonic() - begun < SECONDS / 2, "it is not waited for in vain"
    mgt2.start()
    wait_until(lambda: handle.quorum, SECONDS, "the quorum is back")
    assert handle.store.get("a", linearizable=True) == b"1", "it was never sent"


def test_nonvoting_server_has_the_same_store_over_promotion_and_demotion(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """One handle, whoever the etcd behind it is; nothing is missed or told twice.

    Its leases live on, and no other server without a vote can end them.
    """
    cluster = make_cluster(1)
    mgt1 = cluster["mgt1"]
    mgt2 = join_nonvoting(cluster, mgt1)
    here, there = connect(mgt2), connect(mgt1)
    assert not here.member("mgt2").votes
    assert here.leader() == "mgt1"
    assert here.quorum
    watch = here.store.watch("n/")
    revision = here.store.put("n/0", b"0")
    assert there.store.get("n/0", at_least=revision) == b"0"
    with pytest.raises(ConflictError):
        here.store.put("n/0", b"no", if_revision=revision - 1)
    lease, hold = here.store.lease(60), here.lock("l").acquire()
    mgt1.run("promote", "mgt2", check=True)
    wait_for_role(mgt2, "voter", mgt1)
    until_written(here.store, "n/1", b"1")
    mgt1.run("demote", "mgt2", check=True)
    wait_for_role(mgt2, "nonvoting", mgt1)
    until_written(here.store, "n/2", b"2")
    last = until_written(there.store, "n/3", b"3")
    here.store.get("n/3", at_least=last, seconds=SECONDS)
    told = [event.value for event in watch.take()]
    assert list(dict.fromkeys(told)) == [b"0", b"1", b"2", b"3"]
    assert hold.is_held
    here.store.put("bound", b"", lease=lease, when=[hold.fence])
    lease.close()
    assert here.store.get("bound", linearizable=True) is None


def test_server_that_joins_finds_the_collectives_store(cluster: Cluster, connect: Connect) -> None:
    """What it had as a collective of one is gone from its handle, and set aside on its disk."""
    mgt1, mgt2 = cluster.add_running(2)
    one, two = connect(mgt1), connect(mgt2)
    one.store.put("theirs", b"1")
    two.store.put("own", b"2")
    cluster.join(mgt2, mgt1)
    wait_until(lambda: two.store.get("theirs") == b"1", SECONDS, "the collective's store")
    assert two.store.get("own") is None
    assert [member.name for member in two.members()] == ["mgt1", "mgt2"]


def test_lease_ends_its_keys_when_it_is_closed_or_lost(cluster: Cluster, connect: Connect) -> None:
    """And who holds it knows in time."""
    (mgt1,) = cluster.add_running(1)
    store = connect(mgt1).store
    with store.lease(10) as lease:
        store.put("here", b"", lease=lease)
        assert lease.is_held
    wait_until(lambda: store.get("here") is None, SECONDS, "its key goes with the lease")
    with pytest.raises(LeaseExpiredError, match="has ended"):
        store.put("here", b"", lease=lease)
    lost = threading.Event()
    short = store.lease(2)
    short.when_lost(lost.set)
    store.put("there", b"", lease=short)
    mgt1.pause()
    try:
        assert lost.wait(SECONDS)
        assert not short.is_held
    finally:
        mgt1.resume()
    wait_until(lambda: store.get("there") is None, SECONDS, "its key goes with the lease")


def test_tree_is_loaded_and_exported(cluster: Cluster, connect: Connect) -> None:
    """With progress, from a generator; the last one of a key counts."""
    (mgt1,) = cluster.add_running(1)
    store = connect(mgt1).store
    progress: list[tuple[int, int]] = []
    items = ((f"n/{number % 900}", str(number).encode()) for number in range(1000))
    loaded = store.load(items, progress=lambda keys, size: progress.append((keys, size)))
    assert loaded >= 900
    assert progress[-1][0] == loaded
    tree = {entry.key: entry.value for entry in store.export("n/")}
    assert tree == {f"n/{n}": str(n + 900 if n < 100 else n).encode() for n in range(900)}
    assert store.delete_prefix("n/") == 900
    assert list(store.export("n/")) == []


def test_use_at_the_wrong_time_is_refused(cluster: Cluster) -> None:
    """Without a daemon, before the first answer, after close, and after a deletion."""
    (mgt1,) = cluster.add_running(1)
    handle = collective.connect(mgt1.root)
    watch = handle.store.watch()
    handle.close()
    handle.close()
    for use in (
        lambda: handle.store.get("a"),
        lambda: handle.store.put("a", b""),
        lambda: handle.store.range(),
        lambda: handle.store.watch(),
        lambda: handle.store.lease(5),
        lambda: handle.members(),
        lambda: handle.check_quorum(),
        lambda: handle.leader(),
        lambda: watch.next_event(1.0),
    ):
        with pytest.raises(ClosedError):
            use()
    mgt1.stop()
    with pytest.raises(DaemonError, match="does not run here"):
        collective.connect(mgt1.root, seconds=0.2)


def test_deleted_server_says_so(make_cluster: MakeCluster) -> None:
    """To whoever connects, as to whoever types ``show``."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    with collective.connect(mgt2.root, seconds=SECONDS) as handle:
        mgt1.run("delete", "--force", "mgt2", check=True)
        wait_until(lambda: mgt2.is_removed, SECONDS, "mgt2 rests")
        with pytest.raises(DegradedCollective, match="mgt2 was deleted from its collective"):
            handle.check_quorum()
        assert not handle.quorum
        with pytest.raises(DegradedCollective, match="mgt2 was deleted from its collective"):
            asyncio.run(aio.Collective(handle).check_quorum())
    with pytest.raises(RemovedError, match="was deleted"):
        collective.connect(mgt2.root)


def test_embedded_server_is_a_server(make_cluster: MakeCluster) -> None:
    """Inside this process it goes on where ``collectived`` was, and keeps it out meanwhile."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt2.stop()
    with collective.Server(mgt2.root) as server, server.connect(seconds=SECONDS) as handle:
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
        handle.store.put("a", b"1")
        assert handle.name == "mgt2"
        refused = mgt2.run_daemon()
        assert refused.code == RefusedError.exit_code
        child = os.fork()
        if not child:
            # As a child that leaves the blocks of its parent.
            try:
                handle.close()
                server.stop()
            finally:
                os._exit(0)
        reap(child, SECONDS)
        handle.check_quorum()
        handle.store.put("b", b"2")
    with pytest.raises(ClosedError):
        server.connect()
    mgt2.start()
    with collective.connect(mgt2.root, seconds=SECONDS) as handle:
        assert handle.store.get("a", linearizable=True, seconds=SECONDS) == b"1"


def test_embedded_server_is_started_once_and_stopped_wholly(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a failed start nor an early end nor a child keeps the folders from the next one."""
    mgt1 = cluster.add()
    etcd = cluster.etcd
    mgt1.configure(etcd="/nonexistent/etcd")
    for _ in range(2):
        with pytest.raises(EtcdError, match="/nonexistent/etcd"):
            collective.Server(mgt1.root)
    mgt1.configure(etcd=str(etcd))
    server = collective.Server(mgt1.root)
    server.start()
    with pytest.raises(RefusedError, match="started already"):
        server.start()
    with pytest.raises(RefusedError, match="started already"), server:
        pass
    server.connect(seconds=SECONDS).close()
    parent, child = os.getpid(), os.fork()
    if not child:
        while os.getppid() == parent:
            threading.Event().wait(0.2)
        os._exit(0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(CollectiveServer, "end_life", _impatient)
            with pytest.raises(KeyboardInterrupt):
                server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError), socket.socket() as dialling:
            dialling.connect((mgt1.address, mgt1.port))
        with pytest.raises(ClosedError, match="make another one"):
            server.start()
        with collective.Server(mgt1.root) as again, again.connect(seconds=SECONDS) as handle:
            assert handle.store.put("a", b"1", seconds=SECONDS)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _impatient(server: CollectiveServer, hand_over: bool) -> None:
    raise KeyboardInterrupt


def test_tasks_write_watch_and_ask_side_by_side(cluster: Cluster) -> None:
    """Hundreds at a time, and the loop goes on turning."""
    (mgt1,) = cluster.add_running(1)

    async def play() -> None:
        async with await aio.connect(mgt1.root) as handle:
            store = handle.store
            async with store.watch("n/") as watch:
                revisions = await asyncio.gather(
                    *(store.put(f"n/{number}", b"") for number in range(300)),
                )
                told = [await anext(watch) for _ in range(300)]
            assert {event.key for event in told} == {f"n/{number}" for number in range(300)}
            assert await store.get("n/7", at_least=max(revisions)) == b""
            assert all(await asyncio.gather(*(handle.quorum() for _ in range(100))))
            await store.put("mine", b"1")
            assert await store.get("mine") == b"1"
            assert await store.compare_and_set("mine", b"1", b"2")
            assert not await store.compare_and_set("mine", b"1", b"3")
            with pytest.raises(ConflictError):
                await store.put("mine", b"4", if_revision=1)
            counts = [store.update("count", _count_up) for _ in range(20)]
            await asyncio.gather(*counts)
            assert await store.get("count", linearizable=True) == b"20"
            mgt1.pause()
            try:
                begun = asyncio.get_running_loop().time()
                with pytest.raises(CollectiveError):
                    await store.put("late", b"", seconds=0.3)
                with pytest.raises(DegradedCollective):
                    await handle.check_quorum(0.3)
                assert asyncio.get_running_loop().time() - begun < 5.0
            finally:
                mgt1.resume()
        with pytest.raises(ClosedError):
            await store.get("mine")

    asyncio.run(play())


def _count_up(value: bytes | None) -> bytes:
    return str(int(value or b"0") + 1).encode()


def test_who_is_there_is_known_to_all(cluster: Cluster, connect: Connect) -> None:
    """A killed server is not, a stopped one at once; a server without a vote counts as well."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    mgt4 = join_nonvoting(cluster, mgt1)
    handle = connect(mgt1)

    def there() -> list[str]:
        return [member.name for member in handle.members() if member.online]

    wait_until(lambda: there() == ["mgt1", "mgt2", "mgt3", "mgt4"], SECONDS, "all are there")
    mgt2.kill()
    mgt4.kill()
    wait_until(lambda: there() == ["mgt1", "mgt3"], 3 * SECONDS, "two are killed")
    mgt2.start()
    wait_until(lambda: "mgt2" in there(), SECONDS, "one is back")
    mgt3.stop()
    wait_until(lambda: "mgt3" not in there(), SECONDS, "one was stopped")


def test_lost_quorum_is_told_and_its_return(cluster: Cluster, connect: Connect) -> None:
    """With the age of the last proof; a write is refused unsent then."""
    mgt1, mgt2 = cluster.grow(2)
    handle = connect(mgt1)
    told: Queue[bool] = Queue()
    handle.on_quorum_change(lambda state: told.put(state.holds), initial=True)
    assert told.get(timeout=SECONDS) is True
    mgt2.kill()
    assert told.get(timeout=SECONDS) is False
    before = handle.last_quorum
    assert (before.holds, before.age > 0) == (False, True)
    with pytest.raises(DegradedCollective):
        handle.store.put("a", b"")
    mgt2.start()
    assert told.get(timeout=2 * SECONDS) is True
    assert handle.last_quorum.age < SECONDS
