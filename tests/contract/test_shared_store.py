"""What the embedders' store asks of etcd, with one body for the fake and for a real etcd.

So what is tried on the fake, which is quick and misbehaves on command, is true of a real one.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from collective.errors import (
    ClosedError,
    EtcdError,
    EtcdUnavailableError,
    InDoubtError,
    LeaseExpiredError,
    NotReachedError,
)
from collective.etcd.api import EtcdApi, Lines
from collective.etcd.binary import Etcd
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.etcd.requests import encode, prefix_end
from collective.handle import Collective
from collective.model.keyspace import EVERYTHING, STORE
from collective.store.doubt import recollected
from collective.store.leadership import Leadership
from collective.store.values import (
    Delete,
    DeletePrefix,
    Entry,
    Outcome,
    Put,
    Read,
    Transaction,
    absent,
    holds,
    present,
    unchanged,
)
from collective.store.wire import from_wire, to_wire
from collective.store.write_guard import GuardLease, WriteGuard
from tests.contract.conftest import ADDRESS, Member, new_member
from tests.harness import temporary_folder, wait_until
from tests.harness.fake_etcd import FakeEtcd, nowhere
from tests.harness.processes import reap, stopped
from tools.etcd_versions import etcds_in_use

pytestmark = pytest.mark.contract

SECONDS = 10.0
# Nodes that are defined at once, and how long that may take on a machine with much else to do.
THOUSANDS, PATIENCE = 2000, 60.0


@pytest.fixture(params=[None, *etcds_in_use()], ids=lambda e: f"etcd-{e.version_text if e else 0}")
def calls(request: pytest.FixtureRequest) -> Iterator[EtcdApi]:
    """The way to an etcd: the fake, and each real one."""
    if request.param is None:
        yield FakeEtcd()
        return
    binary = Etcd(request.param.etcd, request.param.version)
    with temporary_folder() as folder, new_member(binary, folder, "mgt1", ADDRESS) as member:
        member.start()
        made = Gateway(Path(member.layout.etcd_socket))
        yield made
        made.close()


def make(calls: EtcdApi, *transactions: Transaction) -> list[Outcome]:
    return from_wire(transactions, calls.call("/kv/txn", to_wire(transactions)))


def put(key: str, value: bytes = b"", lease: int = 0) -> Transaction:
    return Transaction(then=(Put(key, value, lease),))


def test_each_of_many_transactions_has_its_own_outcome(calls: EtcdApi) -> None:
    """Conditions that hold and that do not, reads, deletions, all in one request."""
    (first,) = make(calls, put("a", b"1"))
    outcomes = make(
        calls,
        Transaction((absent("a"),), (Put("a", b"no"),), (Read("a"),)),
        Transaction((absent("b"),), (Put("b", b"yes"),)),
        Transaction(then=(Delete("none"),)),
        put("c"),
        Transaction((present("d"), holds("d", b"")), (Read("d"),), (Put("d", b"d"), Read("e"))),
    )
    assert [outcome.succeeded for outcome in outcomes] == [False, True, True, True, False]
    assert len({outcome.revision for outcome in outcomes}) == 1
    assert outcomes[0].results == (Entry("a", b"1", first.revision, first.revision, 0),)
    assert outcomes[2].results == (0,)
    assert outcomes[4].results == (None, None)


def test_conditions_are_judged_on_what_was_before(calls: EtcdApi) -> None:
    """That is why writes that touch are never put together."""
    (outcome, other) = make(
        calls, put("a"), Transaction((present("a"),), (Put("b", b""),), (Put("c", b""),))
    )
    assert outcome.succeeded
    assert not other.succeeded


def test_conditions_on_revisions(calls: EtcdApi) -> None:
    """Zero is for a key that is not there."""
    (outcome,) = make(calls, put("a"))
    wrong, right, none = make(
        calls,
        Transaction((unchanged("a", outcome.revision + 1),), (Put("x", b""),)),
        Transaction((unchanged("a", outcome.revision),), (Put("y", b""),)),
        Transaction((unchanged("n", 0),), (Put("z", b""),)),
    )
    assert (wrong.succeeded, right.succeeded, none.succeeded) == (False, True, True)


def test_deletion_by_prefix_counts_and_leaves_the_neighbours(calls: EtcdApi) -> None:
    """Also of the whole store, which leaves the records beside it."""
    make(calls, *(put(key) for key in ("n/1", "n/2", "n", "n0")))
    calls.call("/kv/txn", {"success": [{"request_put": {"key": encode(EVERYTHING + "v1/x")}}]})
    (outcome,) = make(calls, Transaction(then=(DeletePrefix("n/"),)))
    assert outcome.results == (2,)
    (outcome,) = make(calls, Transaction(then=(DeletePrefix(""),)))
    assert outcome.results == (2,)
    assert [kv.key for kv in calls.range(EVERYTHING)[1]] == [EVERYTHING + "v1/x"]


def test_whole_request_is_refused_for_one_ended_lease(calls: EtcdApi) -> None:
    """Nothing of it is made: so it can be divided and made again."""
    with pytest.raises(EtcdError, match="requested lease not found") as caught:
        make(calls, put("a"), put("b", lease=12345))
    assert not isinstance(caught.value, EtcdUnavailableError)
    assert calls.range(STORE)[1] == []


def test_key_that_is_written_twice_is_refused(calls: EtcdApi) -> None:
    """Though by two transactions."""
    with pytest.raises(EtcdError, match="duplicate key"):
        make(calls, put("a"), put("a"))


def test_pages_are_of_one_revision(calls: EtcdApi) -> None:
    """With the cluster's id, and whether there is more."""
    make(calls, *(put(f"k{number}") for number in range(5)))
    end = prefix_end(STORE)
    first = calls.page(STORE, end, 3)
    assert (len(first.kvs), first.more) == (3, True)
    rest = calls.page(STORE + "k3", end, 3, first.revision)
    assert (len(rest.kvs), rest.more) == (2, False)
    assert first.cluster == rest.cluster != 0
    assert calls.newest() == (first.cluster, first.revision)


def test_lease_is_prolonged_until_it_is_revoked(calls: EtcdApi) -> None:
    """And takes its keys with it."""
    lease = calls.grant_lease(60)
    make(calls, put("a", lease=lease))
    assert calls.prolong_lease(lease)
    calls.call("/lease/revoke", {"ID": str(lease)})
    assert not calls.prolong_lease(lease)
    assert calls.range(STORE)[1] == []


def test_watch_begins_with_its_cluster_and_tells_all_keys_in_order(calls: EtcdApi) -> None:
    """The values of an event are those that a read has."""
    (outcome,) = make(calls, put("a", b"1"))
    streams: list[Lines] = []
    results = calls.watch("", outcome.revision, SECONDS, streams.append)
    created = next(results)
    assert created["created"]
    assert int(created["header"]["cluster_id"]) == calls.page(STORE, prefix_end(STORE), 1).cluster
    make(calls, put("b", b"2"), Transaction(then=(Delete("a"),)))
    events: list[dict[str, Any]] = []
    while len(events) < 3:
        events += next(results)["events"]
    assert [event.get("type", "PUT") for event in events] == ["PUT", "PUT", "DELETE"]
    assert [int(e["kv"]["mod_revision"]) - outcome.revision for e in events] == [0, 1, 1]
    streams[0].close()
    with pytest.raises((EtcdUnavailableError, StopIteration)):
        next(results)


def test_handle_sees_what_it_wrote_and_what_others_write(calls: EtcdApi) -> None:
    """The whole way, threads and all."""
    handle = Collective("mgt1", calls, nowhere())
    try:
        handle.wait_until_ready(SECONDS)
        heard: list[bytes | None] = []
        handle.store.watch("n/", lambda event: heard.append(event.value))
        handle.store.put("n/1", b"1")
        assert handle.store.get("n/1") == b"1"
        make(calls, put("n/2", b"2"))
        handle.store.delete("n/1")
        wait_until(lambda: heard == [b"1", b"2", None], SECONDS, "all is told")
        with handle.lock("config") as hold:
            handle.store.put("n/3", b"3", when=(hold.fence,))
        lease = handle.store.lease(60)
        calls.call("/lease/revoke", {"ID": str(lease.id)})
        with pytest.raises(LeaseExpiredError, match="nothing was written"):
            handle.store.put("n/4", b"4", lease=lease)
    finally:
        handle.close()


def test_direct_gateway_says_what_became_of_a_call(member: Member) -> None:
    """Nobody there, nobody who answers, and somebody who answers late."""
    path = Path(member.layout.etcd_socket)
    gateway = Gateway(path)
    gateway.newest()
    member.process.stop(SECONDS)
    with pytest.raises(NotReachedError, match="does not run here"):
        gateway.newest()
    member.start()
    gateway.newest()
    with stopped(member.pid), within(0.2), pytest.raises(EtcdUnavailableError, match="in time"):
        gateway.newest()
    with pytest.raises(EtcdError) as caught:
        gateway.call("/kv/range", {"key": "?"})
    assert not isinstance(caught.value, EtcdUnavailableError)
    gateway.close()


@pytest.mark.parametrize("lost", [True, False], ids=["never made", "made"])
def test_doubt_is_ended_on_every_etcd(calls: EtcdApi, lost: bool) -> None:
    """With its outcome out of the history, and nothing that comes later."""
    guard = WriteGuard(calls, GuardLease(calls, "mgt1"), "0")
    guard.make([put("a", b"1")])
    late = [Transaction((present("a"),), (Put("b", b"late"), Delete("a"), Read("a")))]
    body = Swallowing(calls, lost)
    guard._calls = body
    with pytest.raises(EtcdUnavailableError):
        guard.make(late)
    guard._calls = calls
    at = guard.end_doubt(late)
    assert (at is None) is lost
    make(calls, put("b", b"newer"))
    if at is not None:
        assert recollected(calls, late[0], at).results[:2] == (None, 1)
    assert not calls.call("/kv/txn", body.swallowed).get("succeeded", False)
    assert calls.range(STORE + "b")[1][0].value == b"newer"
    assert guard.make([put("c")])[0].succeeded


class Swallowing(FakeEtcd):
    """An etcd of which no answer is heard; it is asked, or not."""

    def __init__(self, calls: EtcdApi, lost: bool) -> None:
        super().__init__()
        self._calls, self._lost = calls, lost
        self.swallowed: Mapping[str, Any] = {}

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call, whose answer is lost."""
        self.swallowed = body
        if not self._lost:
            self._calls.call(path, body)
        raise EtcdUnavailableError("etcd did not answer in time")


def test_write_to_a_paused_etcd_is_settled_and_comes_never_again(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put arrived 60 s after it was sent, and overwrote a newer value (tikv/pd 10746)."""
    # As where it was paused right after it answered.
    monkeypatch.setattr(Leadership, "missing", lambda *_: None)
    gateway = Gateway(Path(member.layout.etcd_socket))
    with Collective("mgt1", gateway, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        handle.store.put("k", b"before")
        with stopped(member.pid):
            with pytest.raises(InDoubtError) as caught:
                handle.store.put("k", b"old", seconds=0.3)
            with pytest.raises(InDoubtError, match="has not answered since"):
                caught.value.settle(0.2)
        made = caught.value.settle(SECONDS)
        assert handle.store.get("k", linearizable=True) == (b"old" if made else b"before")
        handle.store.put("k", b"newer")
        assert caught.value.settle() is made
        assert handle.store.get("k", linearizable=True) == b"newer"


def test_child_process_leaves_its_parents_handle_alone(member: Member) -> None:
    """It would read answers that are not its own, and end locks that are its parent's."""
    path = Path(member.layout.etcd_socket)
    with Collective("mgt1", Gateway(path), nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        hold, lease = handle.lock("a").acquire(), handle.store.lease(60)
        watch = handle.store.watch()
        handle.store.put("k", b"1")

        def child() -> None:
            for call in (
                lambda: handle.store.get("k"),
                lambda: handle.store.put("k", b"child"),
                lambda: handle.leader(),
                lambda: handle.check_quorum(),
                lambda: handle.store.lease(60),
                lambda: watch.next_event(SECONDS),
            ):
                # The watch may have an event of its parent.
                with pytest.raises(ClosedError, match="is another process's"):
                    [call() for _ in range(2)]
            lease.close()
            hold.release()
            handle.close()

        assert in_child(child) == ""
        # Each answer is that to its own question, and what was held is held.
        for number in range(20):
            revision, entry = handle.store.put("k", b"%d" % number), handle.store.entry("k")
            assert entry is not None
            assert (entry.value, entry.revision) == (b"%d" % number, revision)
        assert hold.is_held
        handle.store.put("bound", b"", lease=lease, when=(hold.fence,))


def in_child(work: Callable[[], object]) -> str:
    """Run something in a child process; return what went wrong, as it printed it."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            work()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(0)
    os.close(writing)
    reap(process, SECONDS)
    with open(reading, "rb") as told:
        return told.read().decode()


def test_calls_of_many_threads_do_not_mix(member: Member) -> None:
    """Each has the answer to its own question."""
    gateway = Gateway(Path(member.layout.etcd_socket))
    wrong: list[str] = []

    def work(me: int) -> None:
        for number in range(50):
            key = f"k{me}.{number}"
            make(gateway, put(key, key.encode()))
            (outcome,) = make(gateway, Transaction(then=(Read(key),)))
            found = outcome.results[0]
            if not isinstance(found, Entry) or found.value != key.encode():
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gateway.close()
    assert wrong == []


def test_transaction_of_thousands_is_one_revision_and_one_batch(calls: EtcdApi) -> None:
    """With as many conditions: a reader sees all of it, or nothing."""
    handle = Collective("mgt1", calls, nowhere())
    try:
        handle.wait_until_ready(SECONDS)
        with handle.store.watch("n/") as watch:
            puts = [Put(f"n/{number}", b"v" * 300) for number in range(THOUSANDS)]
            outcome = handle.store.txn([absent("n/0")], puts, seconds=PATIENCE)
            assert outcome.succeeded
            batch = watch.next_batch(PATIENCE)
        assert len(batch) == THOUSANDS
        assert {event.revision for event in batch} == {outcome.revision}
        assert not handle.store.txn([absent("n/0")], puts, seconds=PATIENCE).succeeded
        unchanged_all = [unchanged(each.key, outcome.revision) for each in puts]
        deletions = [Delete(each.key) for each in puts]
        assert handle.store.txn(unchanged_all, deletions, seconds=PATIENCE).succeeded
        assert handle.store.range("n/").entries == []
    finally:
        handle.close()
