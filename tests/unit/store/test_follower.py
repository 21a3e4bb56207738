"""Cache, follower and watches on an etcd whose streams break, compact and change cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collective.errors import ClosedError, DeadlineError, SlowReaderError
from collective.etcd.follower import Follower, next_limit
from collective.etcd.requests import encode
from collective.model.keyspace import STORE
from collective.store.cache import Cache
from collective.store.filling import follower_of
from collective.store.runner import Runner
from collective.store.values import Entry, Event, Moment
from collective.store.watching import Hub, Watch
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd

SECONDS = 5.0


@dataclass
class Reader:
    """All that reads from one etcd."""

    etcd: FakeEtcd
    cache: Cache
    follower: Follower
    hub: Hub

    def write(self, puts: dict[str, bytes], deletes: tuple[str, ...] = ()) -> int:
        """Write to etcd as one, and return the revision."""
        steps = [{"request_put": {"key": k(key), "value": encode(v)}} for key, v in puts.items()]
        steps += [{"request_delete_range": {"key": k(key)}} for key in deletes]
        answer = self.etcd.call("/kv/txn", {"success": steps})
        return int(answer["header"]["revision"])

    def watch(self, prefix: str = "", initial: bool = False, limit: int = 1000) -> Watch:
        """Open a watch."""
        watch = Watch(self.hub, prefix, limit)
        self.cache.locked(lambda at, entries: self.hub.open(watch, at, entries, initial))
        return watch

    def settle(self) -> None:
        """Wait until the cache has all that etcd has."""
        revision = int(self.etcd.call("/kv/range", {"key": encode("x")})["header"]["revision"])
        assert self.cache.reach(Moment(0, revision), SECONDS)

    def values(self) -> dict[str, bytes]:
        """What etcd holds."""
        _, kvs = self.etcd.range(STORE)
        return {kv.key.removeprefix(STORE): kv.value for kv in kvs}


def k(key: str) -> str:
    return encode(STORE + key)


def make_reader() -> Reader:
    etcd, runner = FakeEtcd(), Runner("callback")
    hub = Hub(runner)
    cache = Cache(hub.publish)
    follower = follower_of(etcd, {STORE: cache})
    follower.start()
    assert cache.reach(Moment(0, 1), SECONDS)
    return Reader(etcd, cache, follower, hub)


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader that has read everything once."""
    made = make_reader()
    yield made
    made.follower.stop()


def held(cache: Cache) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in cache.snapshot()[1]}


def test_write_appears_at_its_revision(reader: Reader) -> None:
    """And a snapshot says at which revision it is."""
    revision = reader.write({"a": b"1", "b": b"2"})
    assert reader.cache.reach(Moment(0, revision), SECONDS)
    at, entries = reader.cache.snapshot()
    assert at == revision
    assert entries == [
        Entry("a", b"1", revision, revision, 0),
        Entry("b", b"2", revision, revision, 0),
    ]


def test_snapshot_has_a_prefix_and_no_neighbour(reader: Reader) -> None:
    """In the order of the keys."""
    reader.write(dict.fromkeys(("n/2", "n/10", "n", "n0", "m/1", "n/1"), b""))
    reader.settle()
    assert [entry.key for entry in reader.cache.snapshot("n/")[1]] == ["n/1", "n/10", "n/2"]
    reader.write({"n/11": b""}, ("n/10",))
    reader.settle()
    assert [entry.key for entry in reader.cache.snapshot("n/")[1]] == ["n/1", "n/11", "n/2"]


def test_records_beside_the_store_bring_the_cache_on(reader: Reader) -> None:
    """Whoever waits for a revision of the collective's own records waits in vain otherwise."""
    answer = reader.etcd.call(
        "/kv/txn", {"success": [{"request_put": {"key": encode("collective/v1/members/mgt1")}}]}
    )
    assert reader.cache.reach(Moment(0, int(answer["header"]["revision"])), SECONDS)
    assert held(reader.cache) == {}


def test_key_that_nobody_of_us_wrote_breaks_nothing(reader: Reader) -> None:
    """Somebody put it there by hand, with etcdctl."""
    alien = encode(STORE.encode() + "schlüssel".encode())
    reader.etcd.call("/kv/txn", {"success": [{"request_put": {"key": alien}}]})
    reader.write({"a": b"1"})
    reader.settle()
    assert held(reader.cache) == {"a": b"1"}
    reader.etcd.compact()
    reader.etcd.break_streams()
    reader.write({"b": b"2"})
    reader.settle()
    assert held(reader.cache) == {"a": b"1", "b": b"2"}


def test_break_loses_and_repeats_nothing(reader: Reader) -> None:
    """What was written while no stream was open comes once."""
    watch = reader.watch()
    for number in range(20):
        reader.write({"a": str(number).encode()})
        reader.etcd.break_streams()
    reader.settle()
    assert [watch.next_event(SECONDS).value for _ in range(20)] == [
        str(number).encode() for number in range(20)
    ]
    assert watch.take() == []


def test_stream_that_ends_with_an_error_loses_and_repeats_nothing(reader: Reader) -> None:
    """That is how etcd ends: what it told last is no reason to read everything again."""
    watch = reader.watch()
    for number in range(20):
        reader.write({"a": str(number).encode()})
        reader.etcd.break_streams("error reading from server: EOF")
    reader.settle()
    assert [watch.next_event(SECONDS).value for _ in range(20)] == [
        str(number).encode() for number in range(20)
    ]
    assert watch.take() == []


def test_compaction_is_bridged_by_the_difference(reader: Reader) -> None:
    """What is gone, what is new and what changed, each once; what did not change, not at all."""
    reader.write({"gone": b"1", "same": b"2", "changed": b"3"})
    reader.settle()
    watch = reader.watch()
    reader.etcd.alive = False
    reader.etcd.break_streams()
    wait_until(lambda: not reader.follower.is_following, SECONDS, "the stream is broken")
    with reader.etcd.in_secret():
        reader.write({"changed": b"4", "new": b"5"}, ("gone",))
    reader.etcd.compact()
    reader.etcd.alive = True
    reader.settle()
    batch = watch.take_batch()
    told = {(e.key, e.value, e.previous.value if e.previous else None) for e in batch}
    assert told == {("gone", None, b"1"), ("changed", b"4", b"3"), ("new", b"5", None)}


def test_another_cluster_replaces_all_though_its_revision_is_lower(reader: Reader) -> None:
    """A server that joins another collective: watches hear how that differs."""
    for number in range(10):
        reader.write({"ours": str(number).encode()})
    reader.settle()
    watch = reader.watch()
    reader.etcd.become_another_cluster({(STORE + "theirs").encode(): b"1"})
    wait_until(lambda: held(reader.cache) == {"theirs": b"1"}, SECONDS, "the other's keys")
    assert {(event.key, event.value) for event in watch.take()} == {
        ("ours", None),
        ("theirs", b"1"),
    }
    assert reader.cache.revision == 2


def test_moment_of_a_cluster_to_come_is_waited_for_and_a_former_one_is_not() -> None:
    """A lower revision of the cluster that answers now is later than all of the one before."""
    cache = Cache(lambda events: None)
    cache.replace(1, 10, ())
    told: list[str] = []
    next_one, former = Moment(2, 3), Moment(1, 99)
    assert cache.timeline.lacks(next_one)
    assert cache.timeline.lacks(former)
    cache.when_reached(next_one, lambda: told.append("next"))
    forget = cache.when_reached(Moment(2, 4), lambda: told.append("forgotten"))
    assert not cache.reach(next_one, 0.0)
    forget()
    forget()
    cache.replace(2, 3, ())
    assert cache.reach(next_one, 0.0)
    assert cache.reach(former, 0.0)
    assert cache.timeline.lacks(Moment(2, 4))
    assert cache.timeline.lacks(Moment(0, 4))
    cache.apply(4, ())
    assert told == ["next"]


def test_initial_tells_what_is_there_and_goes_on_behind_it(reader: Reader) -> None:
    """No gap and no overlap between the two."""
    reader.write({"n/1": b"1", "n/2": b"2", "m": b"no"})
    reader.settle()
    watch = reader.watch("n/", initial=True)
    reader.write({"n/1": b"3"})
    events = [watch.next_event(SECONDS) for _ in range(3)]
    assert [(event.key, event.value) for event in events] == [
        ("n/1", b"1"),
        ("n/2", b"2"),
        ("n/1", b"3"),
    ]


def test_what_was_written_before_a_watch_is_not_told(reader: Reader) -> None:
    """Though the cache hears of it only then."""
    reader.etcd.alive = False
    reader.etcd.break_streams()
    wait_until(lambda: not reader.follower.is_following, SECONDS, "the stream is broken")
    with reader.etcd.in_secret():
        reader.write({"a": b"1"})
        before = reader.write({"a": b"2"})
    watch = Watch(reader.hub, "", 10)
    reader.cache.locked(lambda at, entries: reader.hub.open(watch, at, entries, False, before))
    reader.etcd.alive = True
    reader.settle()
    reader.write({"a": b"3"})
    assert watch.next_event(SECONDS).value == b"3"


def test_what_changed_at_once_is_one_batch(reader: Reader) -> None:
    """What is there at the beginning, and then what each transaction wrote."""
    reader.write({"a": b"1"})
    reader.write({"b": b"2"})
    reader.settle()
    watch = reader.watch(initial=True)
    reader.write({"a": b"3", "c": b"4"}, ("b",))
    reader.write({"a": b"5"})
    batches = [watch.next_batch(SECONDS) for _ in range(3)]
    assert [{e.key: e.value for e in batch} for batch in batches] == [
        {"a": b"1", "b": b"2"},
        {"a": b"3", "b": None, "c": b"4"},
        {"a": b"5"},
    ]
    assert watch.take_batch() == []
    reader.write({"a": b"6", "b": b"7"})
    reader.write({"c": b"8"})
    assert watch.next_event(SECONDS).value == b"6"
    assert [[e.value for e in watch.next_batch(SECONDS)] for _ in range(2)] == [[b"7"], [b"8"]]


def test_slow_reader_is_told_and_nobody_else_suffers(reader: Reader) -> None:
    """Its events are dropped; the other has them all."""
    slow, quick = reader.watch(limit=5), reader.watch()
    for number in range(10):
        reader.write({"a": str(number).encode()})
        reader.settle()
    with pytest.raises(SlowReaderError, match="it was not read") as caught:
        slow.next_event(SECONDS)
    assert "initial=True" in str(caught.value.hint)
    assert len(quick.take()) == 10


def test_watch_without_events_says_so_in_time_and_goes_on(reader: Reader) -> None:
    """A deadline ends the wait, not the watch."""
    watch = reader.watch("a")
    with pytest.raises(DeadlineError, match="nothing changed below 'a'"):
        watch.next_event(0.01)
    reader.write({"a": b"1"})
    assert watch.next_event(SECONDS).value == b"1"


def test_closed_watch_ends_its_reader(reader: Reader) -> None:
    """Also one that waits."""
    watch = reader.watch()
    read: list[Event] = []
    thread = threading.Thread(target=lambda: read.extend(watch))
    thread.start()
    reader.write({"a": b"1"})
    wait_until(lambda: len(read) == 1, SECONDS, "the event")
    watch.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    with pytest.raises(ClosedError):
        watch.next_event(0.0)


def test_callbacks_that_raise_or_never_return_harm_nobody(reader: Reader) -> None:
    """A hundred of each, and one that is well."""
    forever = threading.Event()
    told: list[Event] = []

    def raises(event: Event) -> None:
        raise ValueError(event.key)

    try:
        for number in range(100):
            reader.hub.call(reader.watch("a"), lambda _: forever.wait(), None)
            if number < 10:
                reader.hub.call(reader.watch("a"), raises, None)
        reader.hub.call(reader.watch("a"), told.append, None)
        for number in range(3):
            reader.write({"a": str(number).encode()})
        wait_until(lambda: len(told) == 3, 20.0, "the one that is well hears all")
    finally:
        forever.set()


def test_callback_that_ends_its_thread_ends_nothing_else(reader: Reader) -> None:
    """``sys.exit`` in a callback is an error like another."""
    watch, told = reader.watch(), threading.Event()

    def leave(event: Event) -> None:
        if event.key == "a":
            raise SystemExit(1)
        told.set()

    reader.hub.call(watch, leave, None)
    reader.write({"a": b"1"})
    reader.write({"b": b"2"})
    assert told.wait(SECONDS)


def test_machine_without_threads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be begun is done with the next piece of work."""
    runner, done = Runner("callback"), threading.Semaphore(0)

    def work() -> bool:
        done.release()
        return False

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        runner.line(work).wake()
    runner.line(work).wake()
    assert done.acquire(timeout=SECONDS)
    assert done.acquire(timeout=SECONDS)
    runner.close()


def test_callback_closes_its_own_watch(reader: Reader) -> None:
    """It hears nothing more, though more was there."""
    told: list[Event] = []
    watch = reader.watch()

    def once(event: Event) -> None:
        told.append(event)
        watch.close()

    reader.write({"a": b"1", "b": b"2", "c": b"3"})
    reader.settle()
    reader.hub.call(watch, once, None)
    wait_until(lambda: len(told) == 1, SECONDS, "the first event")
    reader.write({"d": b"4"})
    reader.settle()
    assert len(told) == 1


def test_pages_grow_to_a_megabyte_and_shrink_for_large_values() -> None:
    """The next page is as large as the last one suggests."""
    small = [{"key": encode("x" * 20), "value": encode("v" * 30)}] * 128
    large = [{"key": encode("x" * 20), "value": encode("v" * 500_000)}] * 3
    assert next_limit(small) == 8 * 128
    assert next_limit(large) == 2
    assert next_limit([]) == 16


def test_one_large_transaction_ends_no_reader_that_is_quick(reader: Reader) -> None:
    """What it has not had the time to read does not count."""
    watch = reader.watch(limit=5)
    reader.write({f"k{number}": b"" for number in range(50)})
    reader.settle()
    assert len(watch.take(100)) == 50
    assert watch.error is None


def test_page_that_is_too_large_is_asked_for_in_parts(reader: Reader) -> None:
    """What it takes is found out."""
    reader.write({f"k{number}": b"v" * 1000 for number in range(60)})
    reader.settle()
    reader.etcd.most_keys = 3
    reader.etcd.compact()
    reader.etcd.alive = False
    reader.etcd.break_streams()
    wait_until(lambda: not reader.follower.is_following, SECONDS, "the stream is broken")
    with reader.etcd.in_secret():
        reader.write({"last": b""})
    reader.etcd.compact()
    reader.etcd.alive = True
    reader.settle()
    assert len(held(reader.cache)) == 61


# Against a plain dictionary --------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "n/1", "n/2"])
STEPS = st.one_of(
    st.tuples(st.just("put"), st.dictionaries(KEYS, st.binary(max_size=2), min_size=1)),
    st.tuples(st.just("delete"), KEYS),
    st.just(("break",)),
    st.just(("compact",)),
    st.just(("settle",)),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_what_is_told_adds_up_to_what_is_stored(steps: list[tuple[object, ...]]) -> None:
    """A dictionary that only takes the events is, in the end, what etcd holds.

    Each event continues from the one before it, and the cache is never ahead of what was told.
    """
    reader = make_reader()
    watch = reader.watch(limit=10**6)
    told: dict[str, Entry] = {}
    try:
        for kind, *arguments in steps:
            if kind == "put":
                reader.write(arguments[0])  # type: ignore[arg-type]
            elif kind == "delete":
                reader.write({}, (str(arguments[0]),))
            elif kind == "break":
                reader.etcd.break_streams()
            elif kind == "compact":
                reader.etcd.compact()
                reader.etcd.break_streams()
            else:
                reader.settle()
        reader.settle()
        last = 0
        for event in watch.take(10**6):
            assert event.previous == told.get(event.key)
            assert event.revision >= last or event.entry is None
            last = max(last, event.revision)
            if event.entry is None:
                del told[event.key]
            else:
                told[event.key] = event.entry
        assert {key: entry.value for key, entry in told.items()} == reader.values()
        assert held(reader.cache) == reader.values()
    finally:
        reader.follower.stop()
