"""A cache as what a follower of etcd keeps up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collective.etcd.api import EtcdApi
from collective.etcd.follower import Change, Follower, Raw
from collective.store.cache import Cache
from collective.store.wire import entry_of


class _Filled:
    """A sink that gives the keys of a prefix to a cache, without the prefix."""

    def __init__(self, prefix: str, cache: Cache) -> None:
        self._start, self._cache = len(prefix), cache

    @property
    def cluster(self) -> int:
        return self._cache.cluster

    @property
    def revision(self) -> int:
        return self._cache.revision

    def replace(self, cluster: int, revision: int, found: Sequence[Raw]) -> None:
        entries = [entry_of(raw, self._start) for raw in found]
        self._cache.replace(cluster, revision, entries)

    def apply(self, revision: int, changes: Sequence[Change]) -> None:
        start = self._start
        self._cache.apply(
            revision,
            [
                (key[start:], at, None if raw is None else entry_of(raw, start))
                for key, at, raw in changes
            ],
        )


def follower_of(api: EtcdApi, caches: Mapping[str, Cache]) -> Follower:
    """Return what keeps caches up to date, all at the revision of the whole store.

    Args:
        api: the way to etcd.
        caches: by the prefix of their keys.
    """
    return Follower(api, {prefix: _Filled(prefix, cache) for prefix, cache in caches.items()})
