"""What a server knows of the store, from its memory to the newest view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon.member.records_view import RecordsView
from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd.api import EtcdApi, Lines, Page
from collective.etcd.follower import Follower
from collective.etcd.requests import PutRequest, encode
from collective.model.view import PREFIX, Item, View
from tests.harness.fake_etcd import FakeEtcd

SECONDS = 5.0
KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=2))), min_size=1, max_size=8
)


class Told(FakeEtcd):
    """An etcd that is at the revisions it was made with, one after the other.

    Each group is one reading and what follows from it, until it has been compacted.
    """

    def __init__(self, *groups: list[int]) -> None:
        super().__init__()
        self._groups = iter(groups)
        self._following: list[int] = []

    def page(self, begin: str | bytes, end: str, limit: int, revision: int = 0) -> Page:
        """Return the first revision of the next group."""
        group = next(self._groups, None)
        if group is None:
            raise EtcdUnavailableError("etcd does not answer")
        first, *self._following = group
        return Page(1, first, (), False)

    def watch(
        self,
        prefix: str,
        revision: int,
        read_seconds: float,
        opened: Callable[[Lines], None] = lambda stream: None,
    ) -> Iterator[dict[str, Any]]:
        """Yield that something has gone, at each of the others."""
        for at in self._following:
            kv = {"key": encode(PREFIX + "x"), "mod_revision": str(at)}
            yield {"header": {"cluster_id": "1"}, "events": [{"type": "DELETE", "kv": kv}]}
        raise EtcdError("compacted")


def seen_from(etcd: EtcdApi, remembered: View, last: int) -> list[int]:
    """Follow an etcd up to a revision and return every revision that a listener saw."""
    seen: list[View] = []
    records_view = RecordsView(etcd, [seen.append], remembered)
    assert records_view.view is remembered
    records_view.start()
    assert records_view.wait_until(lambda view: view.revision == last, SECONDS)
    records_view.stop()
    assert records_view.view == View(last)
    return [view.revision for view in seen]


def test_whoever_is_called_finds_the_new_view() -> None:
    """A worker that looked at the former one would sleep over what it was woken for."""
    found: list[int] = []
    records_view = RecordsView(Told([1, 2, 3]), [], View(0))
    records_view.when_taken(lambda: found.append(records_view.view.revision))
    records_view.start()
    assert records_view.wait_until(lambda view: view.revision == 3, SECONDS)
    records_view.stop()
    assert found[:2] == [1, 2]


@pytest.mark.parametrize("remembered", [0, 2, 3, 4, 900])
def test_first_view_of_the_store_counts_whatever_was_remembered(remembered: int) -> None:
    """A memory of a higher revision, such as of a former life, does not hide the truth."""
    assert seen_from(Told([3]), View(remembered), 3) == [3]


def test_later_views_follow_the_first() -> None:
    """Also where each of them is older than what was remembered."""
    assert seen_from(Told([3, 4, 7]), View(900), 7) == [3, 4, 7]


def test_older_read_after_a_gap_is_passed_over() -> None:
    """Once the store has told, no view goes back: a local read may be behind."""
    assert seen_from(Told([3, 6], [4, 5], [6, 8]), View(0), 8) == [3, 6, 6, 8]


def test_memory_is_kept_while_the_store_says_nothing() -> None:
    """Without etcd the doors are opened and closed on what was known."""
    seen: list[View] = []
    records_view = RecordsView(Told(), [seen.append], View(5))
    records_view.start()
    assert not records_view.wait_for(6, 0.3)
    assert records_view.wait_for(5, 0.0)
    records_view.stop()
    assert (records_view.view, seen) == (View(5), [])


def test_etcd_replaces_what_a_majority_has_told_as_soon_as_it_knows_as_much() -> None:
    """The others tell the members and who is revoked, not the turn nor whom each etcd lets in."""
    etcd = FakeEtcd()
    records_view = RecordsView(etcd, [], View(0))
    told = View(4, {PREFIX + "told": Item(b"4", 4)})
    records_view.take(told)
    records_view.start()
    for number in range(2, 4):
        assert etcd.transact({}, [PutRequest(PREFIX + "x", str(number))]) == (True, number)
        etcd.break_streams()
        assert records_view.view == told
    assert etcd.transact({}, [PutRequest(PREFIX + "y", "4")]) == (True, 4)
    assert records_view.wait_until(lambda view: view != told, SECONDS)
    assert records_view.view == View(4, {PREFIX + "x": Item(b"3", 3), PREFIX + "y": Item(b"4", 4)})
    records_view.stop()


# Events -----------------------------------------------------------------------------------------


def taken(view: View, events: list[dict[str, Any]]) -> View:
    """Return the view after a batch of events."""
    records_view = RecordsView(FakeEtcd(), [], view)
    kvs = [
        {"key": encode(key), "value": encode(item.value), "mod_revision": str(item.mod_revision)}
        for key, item in view.items.items()
    ]
    records_view.replace(1, view.revision, kvs)
    Follower(FakeEtcd(), {PREFIX: records_view})._take(events)
    return records_view.view


def event(key: str, value: bytes | None, revision: int) -> dict[str, Any]:
    """Return an event as the gateway writes it: PUT has no type, empty values are left out."""
    kv = {"key": encode(PREFIX + key), "mod_revision": str(revision)}
    if value is None:
        return {"type": "DELETE", "kv": kv}
    return {"kv": {**kv, "value": encode(value)} if value else kv}


@given(st.dictionaries(KEYS, st.binary(max_size=2)), STEPS)
def test_events_change_a_view_as_they_would_a_dict(
    start: dict[str, bytes], steps: list[tuple[str, bytes | None]]
) -> None:
    """Within one batch the last event of a key counts, whatever came before."""
    model = {PREFIX + key: Item(value, 1) for key, value in start.items()}
    view = View(10, dict(model))
    events = []
    for revision, (key, value) in enumerate(steps, 11):
        events.append(event(key, value, revision))
        model.pop(PREFIX + key, None)
        if value is not None:
            model[PREFIX + key] = Item(value, revision)
    after = taken(view, events)
    assert (after.revision, dict(after.items)) == (10 + len(steps), model)


def test_view_after_a_batch_is_as_new_as_its_newest_event() -> None:
    """Events of one transaction share a revision; the highest counts, wherever it stands."""
    view = View(10)
    batch = [event("a", b"1", 12), event("b", b"2", 14), event("c", None, 14)]
    for events in (batch, batch[::-1]):
        assert taken(view, events).revision == 14
