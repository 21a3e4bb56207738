"""``python -m bench.growth [ROW ...]``: how the rows about the store grow with keys and members.

Each row at 1,000, 10,000 and 100,000 keys and in a collective of one, three and five, written to
``bench/results/growth.json``; ``bench.plot`` draws it. There are no bars here: those are in the
rows themselves.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import collective
from bench import machine
from bench.place import Place, say, settle
from bench.store import READS, SINGLE, VALUE, crowd_rate, each, fresh_reader, nodes, timed
from bench.telling import delivered, joined, moved, watched
from sandbox.interrupts import INTERRUPTED, interruptible
from tests.harness import Cluster, Server
from tools.etcd_versions import etcds_in_use

RESULTS = Path(__file__).parent / "results" / "growth.json"
MEMBERS = (1, 3, 5)
KEYS = (1_000, 10_000, 100_000)

_ROUNDS = 3
_TREE = "load/"
_TREE_VALUE = b"v" * 200
_MANAGERS = 3


class Growth:
    """The figures, by row, number of members and number of keys: medians.

    Attributes:
        figures: what was measured, now or in earlier runs.
    """

    def __init__(self, chosen: Sequence[str]) -> None:
        """Begin with what an earlier run has left.

        Args:
            chosen: the rows to measure; none for all of them.
        """
        document = json.loads(RESULTS.read_text()) if chosen and RESULTS.exists() else {}
        self.figures: dict[str, dict[str, dict[str, float]]] = document.get("figures", {})
        self._chosen = chosen

    def measure(
        self, row: str, members: int, keys: int, once: Callable[[], float], rounds: int = _ROUNDS
    ) -> None:
        """Keep the median of some rounds of a row, if it is to be measured."""
        if self._chosen and row not in self._chosen:
            return
        value = statistics.median(once() for _ in range(rounds))
        by_members = self.figures.setdefault(row, {})
        by_members.setdefault(str(members), {})[str(keys)] = value
        say(f"row {row}, {members} members, {keys} keys: {value:.3g}")

    def write(self, where: str) -> None:
        """Write them."""
        document = {"where": where, "figures": self.figures}
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")


def measure(place: Place, members: int, growth: Growth) -> None:
    """Measure all rows in a collective of so many members, as its keys become more."""
    with place.cluster() as cluster:
        cluster.grow(members)
        settle(cluster)
        for keys in KEYS:
            place.quiet.wait()
            _measure(cluster, members, keys, growth)
        groups = (f"group {number}" for number in count())
        servers = list(cluster.servers.values())[:_MANAGERS]
        for keys in KEYS if members >= _MANAGERS else ():
            rounds = _ROUNDS if keys < KEYS[-1] else 1
            growth.measure("24", members, keys, partial(_moved, servers, groups, keys), rounds)


def _moved(servers: Sequence[Server], groups: Iterator[str], keys: int) -> float:
    return moved(servers, next(groups), keys)


def _measure(cluster: Cluster, members: int, keys: int, growth: Growth) -> None:
    items = [(f"{_TREE}{number:06}", _TREE_VALUE) for number in range(keys)]
    names = list(cluster.servers)[:members]
    first, last = cluster[names[0]], cluster[names[-1]]

    def row(number: str, once: Callable[[], float], rounds: int = _ROUNDS) -> None:
        growth.measure(number, members, keys, once, rounds)

    with collective.connect(first.root) as handle:
        store = handle.store
        store.load(items)
        row("18", lambda: timed(lambda: store.load(items)))
        row("15", lambda: each(lambda: store.get(items[0][0]), READS))
        row("16", lambda: crowd_rate(lambda key: store.put(key, VALUE)))
        row("17a", lambda: each(lambda: store.put("bench/one", VALUE), SINGLE))
        row("21a", lambda: timed(lambda: store.load(nodes(1000))))
        with collective.connect(last.root) as other:
            writes = other.store
            if members > 1:
                row("17b", lambda: each(lambda: writes.put("bench/one", VALUE), SINGLE))
            row("19", lambda: statistics.median(delivered(handle, other)), 1)
            row("25", lambda: _p99(watched(handle, other)[0]))
    row("22", lambda: joined(cluster, _TREE, keys))
    row("23", lambda: fresh_reader(first)["seconds"])


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def main(chosen: Sequence[str]) -> int:
    """Measure with the newest etcd that is here, and write the figures.

    Args:
        chosen: rows, the others of an earlier run are kept; none for all of them.
    """
    etcd = etcds_in_use()[-1]
    growth = Growth(chosen)
    try:
        with interruptible():
            for members in MEMBERS:
                measure(Place(etcd, None, machine.Quiet(60.0)), members, growth)
                growth.write(machine.describe(etcd))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
