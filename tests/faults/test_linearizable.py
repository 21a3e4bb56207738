"""Histories of concurrent clients on three servers, with kills, are linearizable (P6).

What is in doubt is taken as that; what was said not to be written must never be read.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

import collective
from collective.errors import CollectiveError, InDoubtError
from tests.harness import Cluster, Server
from tests.harness.linearizability import FOREVER, Done, Kind, broken_keys

pytestmark = pytest.mark.faults

MakeCluster = Callable[..., Cluster]
KEYS = ("a", "b", "c")
CLIENTS_EACH = 3
ROUNDS = 4
SECONDS = 20.0


class Client(threading.Thread):
    """One client: it does things, and writes down what it was told."""

    def __init__(self, number: int, store: collective.Store, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self.history: list[Done] = []
        self._chance = random.Random(number)
        self._number = number
        self._store = store
        self._stopped = stopped
        self._written = 0

    def run(self) -> None:
        """Go on until stopped."""
        while not self._stopped.is_set():
            self._do(self._chance.choice(KEYS), self._chance.choice(list(Kind)))
            self._stopped.wait(self._chance.random() * 0.02)

    def _do(self, key: str, kind: Kind) -> None:
        expected = None
        if kind is Kind.COMPARE_AND_SET:
            try:
                expected = self._store.get(key)
            except CollectiveError:  # what it wrote itself was not heard of in time
                return
        self._written += 1
        value = f"{self._number}.{self._written}".encode()
        done = Done(key, kind, time.monotonic(), FOREVER, value, expected)
        try:
            done = self._made(done, value)
        except InDoubtError:
            self.history.append(done)
        except CollectiveError:
            # It says that nothing was written: so whoever reads this value proves it wrong.
            return
        else:
            self.history.append(replace(done, answered=time.monotonic()))

    def _made(self, done: Done, value: bytes) -> Done:
        store, key = self._store, done.key
        if done.kind is Kind.PUT:
            store.put(key, value, seconds=2.0)
        elif done.kind is Kind.GET:
            return replace(done, value=store.get(key, linearizable=True, seconds=2.0))
        elif done.kind is Kind.DELETE:
            return replace(done, succeeded=store.delete(key, seconds=2.0))
        else:
            made = store.compare_and_set(key, done.expected, value, seconds=2.0)
            return replace(done, succeeded=made)
        return done


def kill_one(cluster: Cluster, chance: random.Random) -> Callable[[], None]:
    """Kill a daemon, or an etcd, or stop both in their tracks; return what heals it."""
    victim: Server = chance.choice(list(cluster.servers.values()))
    how = chance.choice(("daemon", "etcd", "pause"))
    if how == "daemon":
        victim.kill()
        return victim.start
    if how == "etcd":
        victim.kill_etcd()
        return lambda: None
    victim.pause()
    return victim.resume


@pytest.mark.parametrize("seed", [1, 2])
def test_histories_with_kills_are_linearizable(make_cluster: MakeCluster, seed: int) -> None:
    """Nine clients on three servers, one of which is always being lost."""
    cluster, chance, stopped = make_cluster(3), random.Random(seed), threading.Event()
    handles = [collective.connect(server.root) for server in cluster.servers.values()]
    clients = [
        Client(number, handle.store, stopped)
        for number, handle in enumerate(handles * CLIENTS_EACH)
    ]
    for client in clients:
        client.start()
    try:
        for _ in range(ROUNDS):
            stopped.wait(0.5 + chance.random())
            heal = kill_one(cluster, chance)
            stopped.wait(0.5 + chance.random())
            heal()
            for server in cluster.servers.values():
                server.wait_for_quorum(SECONDS)
    finally:
        stopped.set()
        for client in clients:
            client.join(SECONDS)
        for handle in handles:
            handle.close()
    history = [done for client in clients for done in client.history]
    assert len(history) > 200
    assert broken_keys(history) == []
