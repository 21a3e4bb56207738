"""What this server knows of the store: a view kept up to date by a watch.

It answers no question that needs a quorum: for that, read the store.

Invariants:
  * A listener has seen a view before ``wait_for`` reports its revision.
  * No view goes back, once one was told in this life.
  * What etcd here tells is added to what it told before, never to what a majority has told: that
    is not all there is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from collective.etcd.api import EtcdApi, key_value
from collective.etcd.follower import Change, Follower, Raw
from collective.model.view import PREFIX, Item, View

Listener = Callable[[View], None]


class RecordsView:
    """The newest view, and who is told of it."""

    def __init__(self, api: EtcdApi, listeners: list[Listener], remembered: View) -> None:
        """Prepare; ``start`` begins.

        Args:
            api: the way to etcd.
            listeners: get each new view.
            remembered: the view of the last run, until etcd has told something newer.
        """
        self._listeners = listeners
        self._when_taken: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._view = remembered
        self._told = False
        self._cluster, self._held = 0, View(0)
        self._follower = Follower(api, {PREFIX: self}, PREFIX, PREFIX)

    @property
    def view(self) -> View:
        """The newest view, at first that of the last run; revision 0 when there was none yet."""
        return self._view

    @property
    def has_told(self) -> bool:
        """Whether the view was told in this life: by the store, or by a majority of the voters."""
        return self._told

    def when_taken(self, call: Callable[[], None]) -> None:
        """Have something called each time that a new view is the one that ``view`` returns."""
        self._when_taken = call

    def start(self) -> None:
        """Begin to follow."""
        self._follower.start()

    def take(self, view: View) -> None:
        """Take newer records over that a majority has told: nothing older counts from now on.

        An etcd that was off catches up, and knows those who were deleted meanwhile as members.
        """
        if view.revision > self._view.revision:
            self._publish(view)

    def wake(self) -> None:
        """Look again now: etcd was restarted, and the stream broke off."""
        self._follower.wake()

    def stop(self) -> None:
        """Follow no longer."""
        self._follower.stop()

    def wait_for(self, revision: int, seconds: float) -> bool:
        """Wait until every listener has seen this revision; False when it took too long."""
        return self.wait_until(lambda view: view.revision >= revision, seconds)

    def wait_until(self, holds: Callable[[View], bool], seconds: float) -> bool:
        """Wait until something holds of the view; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self._view), seconds)

    # What the follower brings --------------------------------------------------------------------

    @property
    def cluster(self) -> int:
        """The id of etcd's cluster that was read last, 0 before the first reading."""
        return self._cluster

    @property
    def revision(self) -> int:
        """Up to which etcd here has told all changes."""
        return self._held.revision

    def replace(self, cluster: int, revision: int, found: Sequence[Raw]) -> None:
        """Take all records, as etcd here has them."""
        self._cluster = cluster
        self._held = View(revision, dict(_item(raw) for raw in found))
        self._publish(self._held)

    def apply(self, revision: int, changes: Sequence[Change]) -> None:
        """Take changes, in their order."""
        items: dict[str, Item | None] = {
            key: None if raw is None else _item(raw)[1] for key, _, raw in changes
        }
        puts = {key: item for key, item in items.items() if item is not None}
        self._held = self._held.updated(revision, puts, items.keys() - puts.keys())
        self._publish(self._held)

    def _publish(self, view: View) -> None:
        if self._told and view.revision < self._view.revision:
            return
        self._told = True
        for listener in self._listeners:
            listener(view)
        with self._changed:
            self._view = view
            self._changed.notify_all()
        self._when_taken()


def _item(raw: Raw) -> tuple[str, Item]:
    kv = key_value(raw)
    return kv.key, Item(kv.value, kv.mod_revision, kv.lease)
