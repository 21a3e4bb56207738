"""Rows 15 to 18, 20, 21 and 23: reading and writing, ours beside etcd3gw on the same socket.

The two sides take turns, on a collective of three; what is written is the same on both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import collective
from bench.bare import Bare
from bench.place import Place, say
from bench.report import Row
from bench.sample import Ratios, Sample, Unit
from tests.harness import HarnessError, Server
from tests.harness.server import CHECKOUT

RATE = Unit("/s", 1.0, 0)
MICROSECONDS = Unit("us", 1e6, 2)
FINE = Unit("ms", 1000.0, 2)
SECONDS = Unit("s", 1.0, 2)

_ROUNDS = 5
_THREADS = 64
_RUN_SECONDS = 3.0
VALUE = b"v" * 100
_LOAD_KEYS = 100_000
_LOAD_VALUE = b"v" * 200
_NODES, _ATTRIBUTES = 1000, 10
_DEFINE_SECONDS = 0.3
_FRESH_SECONDS, _FRESH_TIMES = 3.0, 3.0
READS = 20_000
SINGLE = 200
_CHILD_SECONDS = 120.0


def reads(place: Place) -> Iterator[Row]:
    """Row 15: one cached read, and one of etcd3gw."""
    with place.collective() as cluster, collective.connect(cluster["mgt2"].root) as handle:
        bare = Bare(cluster["mgt2"])
        handle.store.put("bench/key", VALUE)
        ours, theirs = [], []
        for _ in range(place.count(_ROUNDS)):
            place.quiet.wait()
            ours.append(each(lambda: handle.store.get("bench/key"), READS))
            theirs.append(each(lambda: bare.get("bench/key"), SINGLE))
        bare.close()
    mine, other = Sample.of(ours, MICROSECONDS), Sample.of(theirs, MICROSECONDS)
    times = other.median / mine.median
    yield Row(
        "15",
        "cached `get` of one key",
        mine,
        "500 x as fast",
        times >= 500,
        f"etcd3gw: {other}",
        f"{times:.0f} x as fast",
    )


def crowd(place: Place) -> Iterator[Row]:
    """Row 16: 64 threads that write single keys."""
    with place.collective() as cluster, collective.connect(cluster["mgt1"].root) as handle:
        bare = Bare(cluster["mgt1"])
        sides: dict[str, list[float]] = {"ours": [], "etcd3gw": [], "transactions": []}
        for _ in range(place.count(_ROUNDS)):
            place.quiet.wait()
            sides["ours"].append(crowd_rate(lambda key: handle.store.put(key, VALUE)))
            sides["etcd3gw"].append(crowd_rate(lambda key: bare.put(key, VALUE)))
            sides["transactions"].append(_in_transactions(bare))
            say(f"64 threads: {sides['ours'][-1]:.0f}/s, etcd3gw {sides['etcd3gw'][-1]:.0f}/s")
        bare.close()
    ours, gw, txn = (Sample.of(values, RATE) for values in sides.values())
    to_gw, to_txn = ours.median / gw.median, ours.median / txn.median
    yield Row(
        "16",
        "64 threads, each writing one key after the other",
        ours,
        "10 x etcd3gw, 0.5 x transactions of 128",
        to_gw >= 10 and to_txn >= 0.5,
        f"etcd3gw: {gw}; one thread with transactions of 128: {txn}",
        f"{to_gw:.1f} x etcd3gw, {to_txn:.2f} x transactions",
    )


def alone(place: Place) -> Iterator[Row]:
    """Rows 17 and 20: one writer, one key after the other, at the leader and at a follower."""
    with place.collective() as cluster:
        samples = {}
        for name in ("mgt1", "mgt2"):
            with collective.connect(cluster[name].root) as handle:
                samples[name] = _alone(place, handle, cluster[name])
    for name, where in (("mgt1", "the leader"), ("mgt2", "a follower")):
        ours, theirs = samples[name]
        ratios = Ratios.of(ours, theirs)
        yield Row(
            "17a" if name == "mgt1" else "17b",
            f"one writer at {where}, one key after the other: time for each",
            ours,
            "1.15 x etcd3gw",
            ratios.keep(1.15),
            f"etcd3gw: {theirs}",
            str(ratios),
        )
    for name, bar, told in (("mgt1", 411, "293 to 411/s"), ("mgt2", 26, "26/s")):
        rate = Sample.of((1 / value for value in samples[name][0].values), RATE)
        where = "the leader" if name == "mgt1" else "a follower"
        yield Row(
            "20a" if name == "mgt1" else "20b",
            f"one writer at {where}, one key after the other: how many",
            rate,
            "more than the built-in collective",
            rate.median > bar,
            f"built-in collective, at {where}: {told} (measured earlier)",
        )


def _alone(place: Place, handle: collective.Collective, server: Server) -> tuple[Sample, Sample]:
    bare = Bare(server)
    ours, theirs = [], []
    for _ in range(place.count(_ROUNDS)):
        place.quiet.wait()
        ours.append(each(lambda: handle.store.put("bench/one", VALUE), SINGLE))
        theirs.append(each(lambda: bare.put("bench/one", VALUE), SINGLE))
    bare.close()
    return Sample.of(ours, FINE), Sample.of(theirs, FINE)


def loading(place: Place) -> Iterator[Row]:
    """Rows 18, 21 and 23: many keys."""
    items = [(f"load/{number:06}", _LOAD_VALUE) for number in range(_LOAD_KEYS)]
    with place.collective() as cluster, collective.connect(cluster["mgt1"].root) as handle:
        bare = Bare(cluster["mgt1"])
        ours, theirs = [], []
        for _ in range(place.count(3)):
            place.quiet.wait()
            ours.append(timed(lambda: handle.store.load(items)))
            theirs.append(timed(lambda: bare.put_many(items)))
            say(f"100,000 keys: {ours[-1]:.2f} s, bare {theirs[-1]:.2f} s")
        bare.close()
        mine, other = Sample.of(ours, SECONDS), Sample.of(theirs, SECONDS)
        ratios = Ratios.of(mine, other)
        yield Row(
            "18",
            "100,000 keys of 200 bytes loaded",
            mine,
            "1.25 x bare transactions of 128",
            ratios.keep(1.25),
            f"bare: {other}",
            str(ratios),
        )
        yield from _fresh(place, cluster["mgt3"], items)
        yield from _defined(place, handle)


def _fresh(place: Place, server: Server, items: list[tuple[str, bytes]]) -> Iterator[Row]:
    """Row 23: a process that connects when 100,000 keys are there."""
    seconds, times = [], []
    size = sum(len(key) + len(value) for key, value in items)
    for _ in range(place.count(3)):
        place.quiet.wait()
        told = fresh_reader(server)
        seconds.append(told["seconds"])
        times.append(told["bytes"] / size)
    sample = Sample.of(seconds, SECONDS)
    memory = Sample.of(times, Unit("x", 1.0, 2))
    yield Row(
        "23",
        "fresh cache over 100,000 keys of 200 bytes, until all of them are read",
        sample,
        f"{_FRESH_SECONDS:.0f} s, memory {_FRESH_TIMES:.0f} x the data",
        sample.median <= _FRESH_SECONDS and memory.median <= _FRESH_TIMES,
        compared=f"memory {memory} of the data",
    )


def fresh_reader(server: Server) -> dict[str, float]:
    """Have a process connect and read all; return how long it took, and the bytes it holds."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.fresh", str(server.root)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=_CHILD_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(f"a fresh reader failed: {done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _defined(place: Place, handle: collective.Collective) -> Iterator[Row]:
    """Row 21: 1,000 nodes of 10 attributes in one call, a key for each node, or attribute."""
    attributes = {f"attribute.{number}": f"value {number}" for number in range(_ATTRIBUTES)}
    whole = nodes(_NODES)
    parts = [
        (f"attributes/n{number}/{name}", value.encode())
        for number in range(_NODES)
        for name, value in attributes.items()
    ]
    for key, what, items in (
        ("21a", "a key for each node", whole),
        ("21b", "a key for each attribute", parts),
    ):
        values = []
        for _ in range(place.count(_ROUNDS)):
            place.quiet.wait()
            values.append(timed(lambda items=items: handle.store.load(items)))  # type: ignore[misc]
        sample = Sample.of(values, SECONDS)
        yield Row(
            key,
            f"1,000 nodes of 10 attributes defined in one call, {what}",
            sample,
            f"{_DEFINE_SECONDS:.1f} s",
            sample.median <= _DEFINE_SECONDS,
            "built-in collective: 1.3 s at its leader, 2.7 s at a follower (measured earlier)",
        )


def nodes(count: int) -> list[tuple[str, bytes]]:
    """Return nodes with ten attributes, a key each."""
    attributes = {f"attribute.{number}": f"value {number}" for number in range(_ATTRIBUTES)}
    text = json.dumps(attributes).encode()
    return [(f"nodes/n{number}", text) for number in range(count)]


def each(call: Callable[[], object], count: int) -> float:
    """Return how long one call takes, in seconds."""
    return timed(lambda: [call() for _ in range(count)]) / count


def timed(call: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def crowd_rate(put: Callable[[str], object]) -> float:
    """Return how many keys 64 threads write in a second."""
    counts = [0] * _THREADS
    deadline = time.monotonic() + _RUN_SECONDS

    def work(me: int) -> None:
        while time.monotonic() < deadline:
            put(f"bench/{me}/{counts[me] % 100}")
            counts[me] += 1

    threads = [threading.Thread(target=work, args=(me,)) for me in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / _RUN_SECONDS


def _in_transactions(bare: Bare) -> float:
    items = [(f"bench/t/{number}", VALUE) for number in range(20_000)]
    return len(items) / timed(lambda: bare.put_many(items))
