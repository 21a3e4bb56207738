"""One stream from etcd that keeps what is held of it up to date: records, embedders' keys.

It does not know what a key means, nor what is done with a change; its sinks do.

Invariants:
  * No change is missed, repeated or reordered: after a break the stream goes on behind the last
    revision that was taken; where that has been compacted, or could not be used, all is read
    again, and the sinks tell the difference.
  * All sinks are brought to a revision before the next one is taken.
  * What this server holds of another cluster, which it belonged to before, is replaced whole.
"""

from __future__ import annotations

import logging
import threading
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Optional, Protocol

from collective.errors import (
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    NotReachedError,
)
from collective.etcd.api import EtcdApi, Lines, Page
from collective.etcd.deadline import within
from collective.etcd.requests import prefix_end
from collective.model.keyspace import EVERYTHING
from collective.model.pairs import paired

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
_PAGE_SECONDS = 10.0
# A stream is silent while nobody writes. Should it be dead, it is begun again after this.
_SILENCE_SECONDS = 300.0
# Somebody waits for a revision in vain, and the stream has been silent for so long.
_DEAD_SECONDS = 3.0
_STOP_SECONDS = 1.0
_FIRST_KEYS = 16
_MOST_KEYS = 4096
# How much more to ask for than the last page had, and how much less where a page did not come.
_GROWTH, _CUT = 8, 16
_PAGE_BYTES = 1 << 20

#: A key as the gateway's JSON has it.
Raw = Mapping[str, Any]
#: Key, revision, and what is stored now; None for a deletion.
Change = tuple[str, int, Optional[Raw]]


class Sink(Protocol):
    """What is held of the keys with one prefix."""

    @property
    def cluster(self) -> int:
        """The id of etcd's cluster that was read last, 0 before the first reading."""

    @property
    def revision(self) -> int:
        """Up to which all is held."""

    def replace(self, cluster: int, revision: int, found: Sequence[Raw]) -> object:
        """Take all keys there are, as they were at a revision of a cluster."""

    def apply(self, revision: int, changes: Sequence[Change]) -> object:
        """Take changes, in order, that bring what is held to a revision."""


class Follower:
    """A thread that reads all once, and then follows."""

    def __init__(
        self, api: EtcdApi, sinks: Mapping[str, Sink], read: str = EVERYTHING, watched: str = ""
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            api: the way to etcd.
            sinks: what to keep up to date, by the beginning of its keys.
            read: prefix of all of them.
            watched: prefix of the changes that bring the sinks to another revision; "" for all.
        """
        self._api = api
        self._sinks = {prefix.encode(): sink for prefix, sink in sinks.items()}
        self._lead = next(iter(self._sinks.values()))
        self._read_prefix, self._watched = read, watched
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._guard = threading.Lock()
        self._stream: Lines | None = None
        self._heard = self._opened = 0.0
        self._following = False
        self._failure: CollectiveError | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    @property
    def is_following(self) -> bool:
        """Whether changes arrive as they happen, as far as can be known."""
        return self._following

    @property
    def failure(self) -> CollectiveError | None:
        """Why nothing arrives now, None where something does."""
        return self._failure

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """End, as soon as etcd lets go of it: a page that hangs is not waited for to its end."""
        self._stopped.set()
        self._woken.set()
        self.renew()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(min(seconds, _STOP_SECONDS))

    def wake(self) -> None:
        """Try again now: etcd was restarted, and the stream broke off."""
        self._woken.set()

    def renew_if_silent(self) -> None:
        """Break the stream off if it has brought nothing for a while, now and then at most."""
        now = monotonic()
        with self._guard:
            dead = self._stream is not None and now - self._heard > _DEAD_SECONDS
            if dead:
                self._heard = now
        if dead:
            self.renew()

    def renew(self) -> None:
        """Break the stream off, so that it is begun again where it was."""
        with self._guard:
            if self._stream is not None:
                self._stream.close()

    def _run(self) -> None:
        complete = False
        while not self._stopped.is_set():
            try:
                if not complete:
                    self._read()
                    complete = True
                self._follow()
            except EtcdUnavailableError as error:
                self._failure = error
            except CollectiveError as error:
                log.info("everything is read again: %s", error)
                self._failure, complete = error, False
            except Exception as error:
                log.exception("what etcd tells could not be used")
                self._failure = EtcdError(f"what etcd tells could not be used: {error}")
                complete = False
            # A stream that worked is begun again at once: etcd may have been restarted.
            worked = self._following and monotonic() - self._opened > _PAUSE_SECONDS
            pause = 0.0 if worked else _PAUSE_SECONDS
            self._following = False
            self._woken.wait(pause)
            self._woken.clear()

    def _read(self) -> None:
        """Read everything at one revision, and bring the sinks there."""
        found: dict[bytes, list[Raw]] = {prefix: [] for prefix in self._sinks}
        begin, end = self._read_prefix.encode(), prefix_end(self._read_prefix)
        limit, revision, cluster, more = _FIRST_KEYS, 0, 0, True
        while more and not self._stopped.is_set():
            page = self._page(begin, end, limit, revision)
            if revision and page.cluster != cluster:
                raise EtcdError("etcd became a member of another cluster while it was read")
            revision, cluster, more = page.revision, page.cluster, page.more
            for raw in page.kvs:
                key = a2b_base64(raw["key"])
                for prefix, kvs in found.items():
                    if key.startswith(prefix) and key.isascii():
                        kvs.append(raw)
                begin = key + b"\0"
            limit = next_limit(page.kvs)
        if more:
            return
        for prefix, sink in self._sinks.items():
            sink.replace(cluster, revision, found[prefix])

    def _page(self, begin: bytes, end: str, limit: int, revision: int) -> Page:
        """Return a page; a smaller one if it is too large."""
        while True:
            try:
                with within(_PAGE_SECONDS):
                    return self._api.page(begin, end, limit, revision)
            except NotReachedError:
                raise
            except EtcdUnavailableError:
                if limit == 1 or self._stopped.is_set():
                    raise
            limit = max(1, limit // _CUT)

    def _follow(self) -> None:
        """Take changes until the stream breaks."""
        start = self._lead.revision + 1
        for result in self._api.watch(self._watched, start, _SILENCE_SECONDS, self._hold):
            if self._stopped.is_set():
                return
            self._heard = monotonic()
            if int(result["header"]["cluster_id"]) != self._lead.cluster:
                raise EtcdError("this server is a member of another cluster now")
            self._following, self._failure = True, None
            events = result.get("events")
            if events:
                self._take(events)
        raise EtcdUnavailableError("the watch ended")

    def _hold(self, stream: Lines) -> None:
        """Keep hold of a stream that is opened, so that ``renew`` can end it."""
        with self._guard:
            self._stream = stream
            self._heard = self._opened = monotonic()
            if self._stopped.is_set():
                stream.close()

    def _take(self, events: Sequence[Mapping[str, Any]]) -> None:
        changes: list[list[Change]] = [[] for _ in self._sinks]
        revision = 0
        for event in events:
            raw = event["kv"]
            at = int(raw["mod_revision"])
            revision = max(revision, at)
            key = a2b_base64(raw["key"])
            for space, prefix in paired(changes, self._sinks):
                # No key of ours is other than ASCII; somebody may have put one there by hand.
                if key.startswith(prefix) and key.isascii():
                    gone = event.get("type") == "DELETE"
                    space.append((key.decode("ascii"), at, None if gone else raw))
        for space, sink in paired(changes, self._sinks.values()):
            sink.apply(revision, space)


def next_limit(kvs: Sequence[Mapping[str, Any]]) -> int:
    """Return how many keys to ask for next, so that an answer has a megabyte or so.

    Args:
        kvs: the last page, in the gateway's JSON.
    """
    if not kvs:
        return _FIRST_KEYS
    size = sum(len(raw["key"]) + len(raw.get("value", "")) for raw in kvs) * 3 // 4
    fitting = _PAGE_BYTES * len(kvs) // max(size, 1)
    return max(1, min(_MOST_KEYS, _GROWTH * len(kvs), fitting))
