"""What a server knows of the store, from its memory to the newest view."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from collective.daemon.member.records_view import RecordsView
from collective.errors import EtcdError
from collective.etcd.record_store import RecordStore
from collective.model.view import View

SECONDS = 5.0


class Told(RecordStore):
    """A store that gives the views that it was made with, one after the other.

    Each group is one read and what follows from it, until the stream breaks.
    """

    def __init__(self, *groups: list[int]) -> None:
        self._groups = iter(groups)
        self._following: list[int] = []

    def read_local(self, seconds: float = SECONDS) -> View:
        """Return the first view of the next group."""
        group = next(self._groups, None)
        if group is None:
            raise EtcdError("etcd does not answer")
        first, *self._following = group
        return View(first)

    def follow(self, view: View) -> Iterator[View]:
        """Yield the others, then break."""
        yield from map(View, self._following)
        raise EtcdError("the watch ended")


def seen_from(store: RecordStore, remembered: View, last: int) -> list[int]:
    """Follow a store up to a revision and return every revision that a listener saw."""
    seen: list[View] = []
    records_view = RecordsView(store, [seen.append], remembered)
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
