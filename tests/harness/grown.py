"""Collectives that were made once, and are started again from a copy of their files.

A join takes a restart of each voter's etcd, and most tests want the joined servers, not the joins.
It does not know what a test does with its copy.

Invariants:
  * A copy has its own folder, and the ports of the first one: its records name them. Where those
    are not free, the servers are made and joined anew.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.harness.cluster import Cluster

Build = Callable[[tuple[int, int] | None], Cluster]


class Grown:
    """Files of stopped servers, by version of etcd and number of servers."""

    def __init__(self, folder: Path) -> None:
        """Keep nothing yet; the folder's removal is up to the caller."""
        self._folder = folder
        self._ports: dict[Path, tuple[int, int]] = {}

    def cluster(self, build: Build, key: str, count: int) -> Cluster:
        """Return a cluster of so many joined servers, which the first one leads.

        Args:
            build: makes a cluster without servers, with these ports if they are free.
            key: the same for clusters of the same kind.
            count: of servers.
        """
        kept = self._folder / f"{key}-{count}"
        cluster = build(self._ports.get(kept))
        ports = (cluster.ports.door, cluster.ports.peer)
        if self._ports.get(kept) == ports:
            _start_copy(cluster, kept, count)
            return cluster
        cluster.grow(count)
        if kept not in self._ports:
            _keep(cluster, kept)
            self._ports[kept] = ports
        return cluster


def _keep(cluster: Cluster, folder: Path) -> None:
    """Copy the files of servers, which are stopped for it and started again."""
    for server in cluster.servers.values():
        server.stop()
    for server in cluster.servers.values():
        _copy(Path(server.layout.data), folder / server.name)
    _start(cluster)


def _start_copy(cluster: Cluster, folder: Path, count: int) -> None:
    for _ in range(count):
        server = cluster.add()
        _copy(folder / server.name, Path(server.layout.data))
    _start(cluster)


def _start(cluster: Cluster) -> None:
    cluster.start_all(cluster.servers.values())
    cluster.settle()


def _copy(source: Path, target: Path) -> None:
    """Copy a folder; etcd's log is 64 MB of which most is a hole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)
