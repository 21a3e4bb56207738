"""What a measurement is given: an etcd, how often to measure, and collectives to measure on.

It measures nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import Quiet
from tests.harness import Cluster, Server, temporary_folder
from tools.etcd_versions import Etcd

_SETTLE_SECONDS = 1.0
_ACTIVE_SECONDS = 60.0


class SkippedError(Exception):
    """A measurement cannot be made here; the text says why, as a sentence."""


@dataclass(frozen=True)
class Place:
    """Where and how often to measure.

    Attributes:
        etcd: the version to use.
        rounds: how often; None for what is usual for the measurement.
        quiet: to wait for before each round.
        former: a checkout of a former release, to compare with; None where there is none.
    """

    etcd: Etcd
    rounds: int | None
    quiet: Quiet
    former: Path | None = None

    def count(self, usual: int) -> int:
        """Return how often to measure."""
        return usual if self.rounds is None else self.rounds

    @contextmanager
    def cluster(self, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
        """Make a cluster without servers, and end it."""
        with temporary_folder() as folder:
            cluster = Cluster(folder, self.etcd.etcd, settings=settings)
            with cluster:
                yield cluster

    @contextmanager
    def collective(self, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
        """Make a collective of three, settled, and end it."""
        with self.cluster(settings) as cluster:
            cluster.grow(3)
            settle(cluster)
            yield cluster


def settle(cluster: Cluster) -> Server:
    """Wait until every server sees all as active, and a little longer; return the leader."""
    servers = list(cluster.servers.values())
    for server in servers:
        cluster.wait_until_all_active(server, servers, _ACTIVE_SECONDS)
    leader = cluster.wait_for_leader(servers, seconds=_ACTIVE_SECONDS)
    rest(_SETTLE_SECONDS)
    return leader


def rest(seconds: float) -> None:
    """Let the servers be."""
    threading.Event().wait(seconds)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
