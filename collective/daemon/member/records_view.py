"""What this server knows of the store: a view kept up to date by a watch.

It answers no question that needs a quorum: for that, read the store.

Invariants:
  * A listener has seen a view before ``wait_for`` reports its revision.
  * On a gap (compaction, a broken stream) everything is read again; no event is skipped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from collective.errors import CollectiveError
from collective.etcd.record_store import RecordStore
from collective.model.view import View

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
Listener = Callable[[View], None]


class RecordsView:
    """A thread that follows the store."""

    def __init__(self, store: RecordStore, listeners: list[Listener], remembered: View) -> None:
        """Prepare; ``start`` begins.

        Args:
            store: to follow.
            listeners: get each new view.
            remembered: the view of the last run, until etcd has told something newer.
        """
        self._store = store
        self._listeners = listeners
        self._when_taken: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._view = remembered
        self._told = False
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records-view", daemon=True)

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
        self._thread.start()

    def take(self, view: View) -> None:
        """Take over what a majority has told: nothing older counts from now on.

        An etcd that was off catches up, and knows those who were deleted meanwhile as members.
        """
        self._publish(view)

    def wake(self) -> None:
        """Look again now: etcd was restarted, and the stream broke off."""
        self._woken.set()

    def stop(self) -> None:
        """Follow no longer; the thread ends when its stream does."""
        self._stopped.set()
        self._woken.set()

    def wait_for(self, revision: int, seconds: float) -> bool:
        """Wait until every listener has seen this revision; False when it took too long."""
        return self.wait_until(lambda view: view.revision >= revision, seconds)

    def wait_until(self, holds: Callable[[View], bool], seconds: float) -> bool:
        """Wait until something holds of the view; False when it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self._view), seconds)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                first = self._store.read_local()
                self._publish(first)
                for view in self._store.follow(first):
                    if self._stopped.is_set():
                        return
                    self._publish(view)
            except CollectiveError as error:
                log.debug("the store cannot be followed: %s", error)
            except Exception:
                log.exception("a view of the store could not be used")
            self._woken.wait(_PAUSE_SECONDS)
            self._woken.clear()

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
