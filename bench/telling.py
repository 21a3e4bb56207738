"""Rows 19, 22, 24 and 25: how soon others hear, a new member and other managers among them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import collective
from bench.place import Place, say
from bench.report import Row
from bench.sample import Sample, Unit
from bench.store import nodes
from collective.errors import EtcdError
from collective.etcd.api import Lines
from collective.etcd.gateway import Gateway
from collective.model.keyspace import STORE
from collective.store.values import Event
from tests.harness import Cluster, Server, wait_until

FINE = Unit("ms", 1000.0, 2)
SECONDS = Unit("s", 1.0, 2)

_EVENTS = 300
_WATCHERS = 1000
_WATCHED = 50
_NODES = 10_000
_GRACE = 1.0
_SESSION = 3
_WAIT_SECONDS = 60.0


def delivery(place: Place) -> Iterator[Row]:
    """Row 19: from a write at one member until a callback runs on a third."""
    with place.collective() as cluster:
        writer = collective.connect(cluster["mgt2"].root)
        reader = collective.connect(cluster["mgt3"].root)
        place.quiet.wait()
        ours = delivered(writer, reader)
        theirs = _bare(writer, cluster)
        writer.close()
        reader.close()
    mine, other = Sample.of(ours, FINE), Sample.of(theirs, FINE)
    p99 = statistics.quantiles(ours, n=100)[98]
    ratio = mine.median / other.median
    yield Row(
        "19",
        "write at a follower until a callback runs on another follower",
        mine,
        "p50 6 ms, p99 50 ms, 1.5 x a bare watch",
        mine.median <= 0.006 and p99 <= 0.05 and ratio <= 1.5,
        f"a bare watch on the same server: {other}; built-in collective: 4.9 ms when written at "
        "its leader, 48 ms at a follower (measured earlier)",
        f"p99 {p99 * 1000:.1f} ms, {ratio:.2f} x a bare watch",
    )


def delivered(writer: collective.Collective, reader: collective.Collective) -> list[float]:
    """Return how long each of some writes at one takes to the callback of the other."""
    heard: dict[str, float] = {}
    told = threading.Event()

    def hear(event: Event) -> None:
        heard[event.key] = time.perf_counter()
        told.set()

    begun = {}
    with reader.store.watch("told/", hear):
        for number in range(_EVENTS):
            key = f"told/{number}"
            told.clear()
            begun[key] = time.perf_counter()
            writer.store.put(key, b"")
            told.wait(_WAIT_SECONDS)
    return [heard[key] - at for key, at in begun.items()]


def _bare(writer: collective.Collective, cluster: Cluster) -> list[float]:
    """The same writes, heard on a stream of its own that only splits lines."""
    calls = Gateway(Path(cluster["mgt3"].layout.etcd_socket))
    opened: list[Lines] = []
    ready, told = threading.Event(), threading.Event()
    last = [0.0]

    def read() -> None:
        prefix = STORE + "bare/"
        try:
            for result in calls.watch(prefix, 0, _WAIT_SECONDS, opened.append):
                ready.set()
                if result.get("events"):
                    last[0] = time.perf_counter()
                    told.set()
        except EtcdError:
            return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    ready.wait(_WAIT_SECONDS)
    values = []
    for number in range(_EVENTS):
        told.clear()
        begun = time.perf_counter()
        writer.store.put(f"bare/{number}", b"")
        told.wait(_WAIT_SECONDS)
        values.append(last[0] - begun)
    opened[0].close()
    thread.join()
    calls.close()
    return values


def newcomer(place: Place) -> Iterator[Row]:
    """Row 22: a server joins when 10,000 nodes are there, until it answers for all of them."""
    values = []
    with place.collective() as cluster:
        with collective.connect(cluster["mgt1"].root) as handle:
            handle.store.load(nodes(_NODES))
        for _ in range(place.count(3)):
            place.quiet.wait()
            values.append(joined(cluster, "nodes/", _NODES))
    sample = Sample.of(values, SECONDS)
    yield Row(
        "22",
        "join when 10,000 nodes are there, until the new server answers for all of them",
        sample,
        "3 s",
        sample.median <= 3.0,
        "built-in collective: 11.3 s (measured earlier)",
    )


def joined(cluster: Cluster, prefix: str, count: int) -> float:
    """Return how long a server joins until it knows so many keys; then it is deleted again."""
    (server,) = cluster.add_running(1)
    token = cluster["mgt1"].run("invite", server.name, check=True).out
    begun = time.perf_counter()
    server.run("join", cluster["mgt1"].door_name, "-i", "-", input=token, check=True)
    with collective.connect(server.root, seconds=_WAIT_SECONDS) as handle:
        wait_until(
            lambda: len(handle.store.range(prefix).entries) == count,
            _WAIT_SECONDS,
            "it knows all keys",
        )
        seconds = time.perf_counter() - begun
    cluster["mgt1"].run("delete", "--force", server.name, check=True)
    server.stop()
    return seconds


def takeover(place: Place) -> Iterator[Row]:
    """Row 24: 10,000 nodes of a lost manager, from the end of the grace time until all moved."""
    values = []
    for _ in range(place.count(3)):
        with place.collective() as cluster:
            place.quiet.wait()
            values.append(moved(list(cluster.servers.values()), "nodes", _NODES))
            say(f"10,000 nodes moved in {values[-1]:.2f} s")
    sample = Sample.of(values, SECONDS)
    yield Row(
        "24",
        "10,000 nodes of a lost manager told to the others, after the grace time",
        sample,
        "2 s",
        sample.median <= 2.0,
    )


def moved(servers: Sequence[Server], group: str, count: int) -> float:
    """Return how long the nodes of a lost manager take to be told to the two others.

    Args:
        servers: three; the last one loses its nodes.
        group: of the nodes, which is new.
        count: how many nodes.
    """
    handles = [collective.connect(server.root) for server in servers]
    groups = [handle.assignments(group, grace=_GRACE) for handle in handles]
    mine: list[set[str]] = [set(), set(), set()]

    def manage(number: int) -> collective.Manager:
        return groups[number].manage(
            mine[number].update, mine[number].difference_update, session_seconds=_SESSION
        )

    lost = manage(2)
    groups[0].define([f"n{number}" for number in range(count)], seconds=_WAIT_SECONDS)
    wait_until(lambda: len(mine[2]) == count, _WAIT_SECONDS, "one manager has all")
    others = [manage(0), manage(1)]
    wait_until(lambda: len(groups[0].managers()) == 3, _WAIT_SECONDS, "all managers are there")
    lost.abandon()
    wait_until(lambda: len(groups[0].managers()) == 2, _WAIT_SECONDS, "one manager is lost")
    begun = time.perf_counter() + _GRACE
    wait_until(lambda: len(mine[0]) + len(mine[1]) == count, _WAIT_SECONDS, "all nodes have moved")
    seconds = time.perf_counter() - begun
    for manager in others:
        manager.close()
    for handle in handles:
        handle.close()
    return seconds


def watchers(place: Place) -> Iterator[Row]:
    """Row 25: 1,000 watchers in one process."""
    with place.collective() as cluster:
        handle = collective.connect(cluster["mgt2"].root)
        writer = collective.connect(cluster["mgt1"].root)
        place.quiet.wait()
        heard, streams = watched(writer, handle)
        handle.close()
        writer.close()
    sample = Sample.of(heard, FINE)
    p99 = statistics.quantiles(heard, n=100)[98]
    yield Row(
        "25",
        "1,000 watchers in one process: from the write until each has heard",
        sample,
        "one stream, p99 100 ms",
        streams == 1 and p99 <= 0.1,
        compared=f"p99 {p99 * 1000:.1f} ms, {streams} stream",
    )


def watched(
    writer: collective.Collective, reader: collective.Collective
) -> tuple[list[float], int]:
    """Return how long each of 1,000 watchers waits for each of some writes; and the streams."""
    heard: list[float] = []
    begun = [0.0]
    watches = [
        reader.store.watch("w/", lambda event: heard.append(time.perf_counter() - begun[0]))
        for _ in range(_WATCHERS)
    ]
    for number in range(_WATCHED):
        begun[0] = time.perf_counter()
        writer.store.put(f"w/{number}", b"")
        wanted = (number + 1) * _WATCHERS
        wait_until(partial(_have_heard, heard, wanted), _WAIT_SECONDS, "all have heard")
    streams = sum(thread.name == "feed" for thread in threading.enumerate()) - 1
    for watch in watches:
        watch.close()
    return heard, streams


def _have_heard(heard: list[float], wanted: int) -> bool:
    return len(heard) == wanted
