"""The face of the store: what a thread has seen, and what ends with a handle."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from collective.errors import (
    ClosedError,
    CollectiveError,
    DeadlineError,
    InputError,
    LeaseExpiredError,
    NotReadyError,
)
from collective.etcd.transport import is_readable
from collective.handle import Collective
from collective.model.keyspace import STORE
from collective.store.leases import Lease
from collective.store.store import Store
from collective.store.values import Moment, Put, unchanged
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd, nowhere

SECONDS = 10.0


@pytest.fixture
def etcd() -> FakeEtcd:
    """An etcd in memory."""
    return FakeEtcd()


@pytest.fixture
def handle(etcd: FakeEtcd) -> Iterator[Collective]:
    """A handle on it."""
    made = Collective("mgt1", etcd, nowhere())
    made.wait_until_ready(SECONDS)
    yield made
    etcd.alive = True
    made.close()


def deaf(etcd: FakeEtcd, handle: Collective) -> None:
    """Have the handle hear of nothing that is written from now on."""
    etcd.deaf = True
    etcd.break_streams()
    wait_until(lambda: not handle.store.is_following, SECONDS, "it hears nothing")


def test_thread_waits_for_what_it_wrote_and_others_do_not(
    etcd: FakeEtcd, handle: Collective
) -> None:
    """And it is told why, where that does not come."""
    deaf(etcd, handle)
    handle.store.put("a", b"1")
    with pytest.raises(DeadlineError, match="did not hear of"):
        handle.store.get("a", seconds=0.1)
    read: list[bytes | None] = []
    other = threading.Thread(target=lambda: read.append(handle.store.get("a", seconds=0.1)))
    other.start()
    other.join()
    assert read == [None]
    etcd.deaf = False
    assert handle.store.get("a", seconds=SECONDS) == b"1"


def test_answer_of_another_cluster_is_waited_for(etcd: FakeEtcd, handle: Collective) -> None:
    """A thread that has heard of it reads nothing older, though that has a higher revision."""
    store = handle.store
    for number in range(10):
        store.put("a", str(number).encode())
    store.note(Moment(8, 2))
    with pytest.raises(DeadlineError):
        store.get("a", seconds=0.1)
    etcd.become_another_cluster({(STORE + "a").encode(): b"theirs"})
    assert store.get("a", seconds=SECONDS) == b"theirs"
    store.note(Moment(7, 99))
    assert store.get("a") == b"theirs", "that cluster is over"


def test_what_was_seen_of_another_cluster_is_not_waited_for(
    etcd: FakeEtcd, handle: Collective
) -> None:
    """The server joined a collective whose revisions are lower."""
    for number in range(20):
        handle.store.put("a", str(number).encode())
    etcd.become_another_cluster({(STORE + "a").encode(): b"theirs"})
    wait_until(lambda: handle.store.revision == 2, SECONDS, "the other cluster")
    assert handle.store.get("a", seconds=0.5) == b"theirs"
    with handle.store.watch("a") as watch:
        revision = handle.store.put("a", b"ours")
        assert watch.next_event(SECONDS).value == b"ours"
    assert handle.store.get("a", at_least=revision, seconds=0.5) == b"ours"


def test_leases_and_sessions_end_with_their_handle(etcd: FakeEtcd, handle: Collective) -> None:
    """Nobody prolongs them behind its back."""
    lease, session = handle.store.lease(60), handle.session(60)
    handle.store.put("a", b"", lease=lease)
    handle.close()
    assert etcd._leases == {}
    assert not lease.is_held
    assert not session.is_held
    with pytest.raises(LeaseExpiredError):
        lease.check()
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name == "lease"], SECONDS, "its threads"
    )


def test_end_of_a_handle_wakes_who_waits_for_a_revision(handle: Collective) -> None:
    """However long it would have waited."""
    found: list[type[BaseException]] = []

    def wait() -> None:
        try:
            handle.store.get("a", at_least=1 << 40, seconds=float("inf"))
        except CollectiveError as error:
            found.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.1)
    handle.close()
    thread.join(SECONDS)
    assert found == [ClosedError]


def test_end_that_fails_half_way_is_made_all_the_same(
    etcd: FakeEtcd, handle: Collective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or leases would be kept alive for ever."""
    lease = handle.store.lease(60)

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(handle._call_manager, "close", fail)
    with pytest.raises(KeyboardInterrupt):
        handle.close()
    assert lease.id not in etcd._leases


def test_load_writes_what_came_before_the_bad_one_and_says_how_many(
    etcd: FakeEtcd, handle: Collective
) -> None:
    """Also what was not sent yet, and what this thread then reads is all of that."""
    items = [(f"k{n}", b"v") for n in range(300)]
    with pytest.raises(InputError, match=r"bad key.*; 300 keys were loaded"):
        handle.store.load([*items, ("bad key", b""), ("later", b"")])
    assert len(handle.store.range("k").entries) == len(items)
    assert handle.store.get("later") is None


def test_deleting_everything_has_to_be_meant(handle: Collective) -> None:
    """And a star is a key like others."""
    handle.store.load([("*", b""), ("**", b""), ("a", b"")])
    with pytest.raises(InputError, match="would delete the whole store"):
        handle.store.delete_prefix("")
    with pytest.raises(InputError, match="not both"):
        handle.store.delete_prefix("a", everything=True)
    assert handle.store.delete_prefix("*") == 2
    assert handle.store.delete_prefix("", everything=True) == 1


@pytest.mark.parametrize("revision", [True, 1.0, "1", None])
def test_revision_that_is_none_is_refused(handle: Collective, revision: Any) -> None:
    """Before it fails the writes of others that it would travel with."""
    with pytest.raises(InputError, match="a condition on a is for"):
        handle.store.put("a", b"", when=(unchanged("a", revision),))


def test_before_the_first_answer_reads_are_refused_and_writes_wait(etcd: FakeEtcd) -> None:
    """The error says what stands in the way."""
    etcd.alive = False
    handle = Collective("mgt1", etcd, nowhere())
    with pytest.raises(NotReadyError, match="etcd does not run here"):
        handle.wait_until_ready(0.3)
    with pytest.raises(NotReadyError):
        handle.store.get("a")
    with pytest.raises(NotReadyError):
        handle.store.watch()
    with pytest.raises(NotReadyError):
        handle.members()
    etcd.alive = True
    handle.store.put("a", b"1")
    assert handle.store.get("a") == b"1"
    handle.close()


def test_handle_is_closed_from_a_callback_of_its_own(handle: Collective) -> None:
    """Nothing waits for itself."""
    closed = threading.Event()

    def close(_: object) -> None:
        handle.close()
        closed.set()

    handle.store.watch("a", close)
    handle.store.put("a", b"1")
    assert closed.wait(SECONDS)
    with pytest.raises(ClosedError):
        handle.store.put("a", b"2")


def test_watch_and_then_read_have_all_there_is(etcd: FakeEtcd, handle: Collective) -> None:
    """Though another thread of the handle wrote later than what was not heard of here."""
    other = Collective("mgt2", SharedCalls(etcd), nowhere())
    other.wait_until_ready(SECONDS)
    deaf(etcd, handle)
    other.store.put("p/x", b"1")
    thread = threading.Thread(target=lambda: handle.store.put("q", b"2"))
    thread.start()
    thread.join()
    watch = handle.store.watch("p/")
    there = {entry.key for entry in handle.store.range("p/").entries}
    etcd.deaf = False
    told = {watch.next_event(SECONDS).key} if not there else set()
    assert there | told == {"p/x"}
    other.close()


def test_watch_that_cannot_be_told_leaves_the_others_alone(handle: Collective) -> None:
    """Whatever its reader's wake-up raises."""

    def broken() -> None:
        if armed:
            raise RuntimeError("the loop is closed")

    armed: list[bool] = []
    first, second = handle.store.watch("a"), handle.store.watch("a")
    first.when_woken(broken)
    armed.append(True)
    handle.store.put("a", b"1")
    assert second.next_event(SECONDS).value == b"1"


class SharedCalls(FakeEtcd):
    """The same etcd, for another handle."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self.__dict__ = etcd.__dict__

    def close(self) -> None:
        """Leave it to the other one."""


class Babbling(FakeEtcd):
    """An etcd whose answers to writes are cut, or another's, though they were made."""

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call."""
        answer = super().call(path, body)
        return {"header": answer["header"]} if path == "/kv/txn" else answer


def test_answer_that_is_none_is_found_out_about() -> None:
    """The write was made, and must not be said not to be, nor be made again."""
    etcd = Babbling()
    with Collective("mgt1", etcd, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        revision = handle.store.put("a", b"1", if_revision=0)
        assert [kv.mod_revision for kv in etcd.range(STORE)[1]] == [revision]


def test_socket_is_looked_at_beyond_a_thousand_open_files() -> None:
    """Where select(2) would know no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3000, hard))
    here, there = socket.socketpair()
    try:
        number = fcntl.fcntl(here.fileno(), fcntl.F_DUPFD, 2000)
        with socket.socket(fileno=number) as high:
            assert not is_readable(high)
            there.send(b"x")
            assert is_readable(high)
    finally:
        here.close()
        there.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Leases of keys that are written again -----------------------------------------------------------


@pytest.fixture
def leased() -> Iterator[tuple[Collective, FakeEtcd, int]]:
    """A handle, its etcd, and the lease that the key a has."""
    etcd = FakeEtcd()
    with Collective("mgt1", etcd, nowhere()) as handle:
        handle.wait_until_ready(SECONDS)
        with handle.store.lease(60) as lease:
            handle.store.put("a", b"1", lease=lease)
            assert handle.store.get("a") == b"1"
            yield handle, etcd, lease.id


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.put("a", b"2"),
        lambda store: store.put("a", b"2", if_revision=store.entry("a").revision),
        lambda store: store.put_json("a", 2),
        lambda store: store.compare_and_set("a", b"1", b"2"),
        lambda store: store.update("a", lambda value: b"2"),
    ],
    ids=["put", "put if_revision", "put_json", "compare_and_set", "update"],
)
def test_key_that_is_written_again_keeps_its_lease(
    leased: tuple[Collective, FakeEtcd, int], write: Callable[[Store], object]
) -> None:
    """Unless the caller gives another one, or 0 for none."""
    handle, etcd, lease = leased
    write(handle.store)
    assert [(kv.value, kv.lease) for kv in etcd.range(STORE)[1]] == [(b"2", lease)]
    handle.store.put("a", b"3", lease=0)
    assert [(kv.value, kv.lease) for kv in etcd.range(STORE)[1]] == [(b"3", 0)]


def test_lease_that_ended_unheard_of_hinders_no_write(
    leased: tuple[Collective, FakeEtcd, int],
) -> None:
    """The key went with it: it is written as one that is not there."""
    handle, etcd, lease = leased
    etcd.deaf = True
    etcd.break_streams()
    wait_until(lambda: not handle.store.is_following, SECONDS, "nothing is heard")
    etcd.expire(lease)
    handle.store.put("a", b"2")
    assert [(kv.value, kv.lease) for kv in etcd.range(STORE)[1]] == [(b"2", 0)]
    etcd.deaf = False


def test_lease_is_given_as_itself_or_by_its_id() -> None:
    """Both wherever a lease is taken; each failed in a way of its own at one of these places."""
    etcd = FakeEtcd()
    with (
        Collective("mgt1", etcd, nowhere()) as handle,
        handle.store.lease(60) as lease,
    ):
        handle.wait_until_ready(SECONDS)
        both: list[Lease | int] = [lease, lease.id]
        for number, given in enumerate(both):
            handle.store.put(f"p{number}", b"", lease=given)
            handle.store.compare_and_set(f"c{number}", None, b"", lease=given)
            handle.store.txn(then=[Put(f"t{number}", b"", given)])  # type: ignore[arg-type]
        assert {kv.lease for kv in etcd.range(STORE)[1]} == {lease.id}


@pytest.mark.parametrize("given", ["5", 1.5, True, -1, 1 << 63, object()])
def test_what_is_no_lease_is_refused(given: Any) -> None:
    """By its own text, which names the key."""
    with pytest.raises(InputError, match="the lease for a is"):
        Put("a", b"", given)
