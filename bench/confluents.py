"""What the adapter costs a Confluent: beside a plain one, in one run, on three servers here.

    COLLECTIVE_CONFLUENTS='NAME=PYTHON,LIBRARY' python -m bench.confluents [NODES]

It prints medians. Confluent's doors, consoles and plugins do not run (``tests.confluent.driver``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic

from tests.confluent.conftest import Kind, kinds
from tests.harness import Cluster, temporary_folder, wait_until
from tests.harness.confluents import Confluent, stop_all
from tools.etcd_versions import etcds_in_use

_ROUNDS = 5
_DEFINED = 1000
_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def used(pids: Sequence[int]) -> float:
    """Return the processor time of processes so far, in seconds."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def memory(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextmanager
def collective_of(kind: Kind) -> Iterator[tuple[Cluster, list[Confluent], Confluent, Path]]:
    """Make three servers with a Confluent each, and a plain one beside them."""
    etcd = etcds_in_use()[0]
    with (
        temporary_folder() as root,
        temporary_folder() as folder,
        Cluster(root, etcd.etcd) as cluster,
    ):
        servers = cluster.grow(3)
        plain = Confluent(kind.python, kind.library, "plain", folder / "plain", "-")
        first = Confluent(kind.python, kind.library, "mgt1", folder / "mgt1", "-")
        for each in (plain, first):
            each.start()
        first.ask("sync")
        first.stop()
        made = [
            Confluent(kind.python, kind.library, s.name, folder / s.name, str(s.root))
            for s in servers
        ]
        made[0].import_folder()
        try:
            for each in made:
                each.start()
                wait_until(lambda e=each: e.ask("quorum"), _SECONDS, "quorum")  # type: ignore[misc]
            yield cluster, made, plain, folder
        finally:
            stop_all([*made, plain])


def pids_of(cluster: Cluster, made: Sequence[Confluent]) -> list[int]:
    """Return the processes of all servers."""
    servers = [cluster[each.name] for each in made]
    found = [pid for server in servers for pid in (server.pid, server.etcd_pid)]
    return [pid for pid in found if pid is not None] + [each.pid for each in made]


def defining(cluster: Cluster, made: list[Confluent], plain: Confluent) -> None:
    """Define nodes on both, in turns."""
    ratios: dict[str, list[float]] = {"wall": [], "writer's": [], "all": []}
    pids = pids_of(cluster, made)
    for number in range(_ROUNDS):
        names = [f"d{number}x{n}" for n in range(_DEFINED)]
        wall, own = plain.ask("nodedefine", names)
        before = used(pids)
        ours_wall, ours_own = made[1].ask("nodedefine", names)
        wait_until(lambda: made[2].ask("nodes") == plain.ask("nodes"), _SECONDS, "all have it")
        for key, ours, theirs in (
            ("wall", ours_wall, wall),
            ("writer's", ours_own, own),
            ("all", used(pids) - before, own),
        ):
            ratios[key].append(ours / theirs)
        print(f"  plain: {wall:.3f} s, {own:.3f} s of processor time", end="; ")
        print(f"shared: {ours_wall:.3f} s, {ours_own:.3f} s at the writer", flush=True)
        for each in (plain, made[1]):
            each.ask("mutate", "del_nodes", names)
    for key, found in ratios.items():
        most = f"{min(found):.2f} to {max(found):.2f}"
        print(f"nodedefine of {_DEFINED} nodes, {key}: {median(found):.2f} x ({most})", flush=True)


def telling(made: list[Confluent]) -> None:
    """Change an attribute on one, and look for it on another."""
    made[0].ask("nodedefine", ["told"])
    took = []
    for number in range(20):
        begun = monotonic()
        made[1].ask("mutate", "set_node_attributes", {"told": {"location.room": str(number)}})
        while made[2].ask("attributes", ["told"], ["location.room"]).get("told", {}).get(
            "location.room", {}
        ).get("value") != str(number):
            pass
        took.append(monotonic() - begun)
    middle, longest = median(took) * 1000, max(took) * 1000
    print(
        f"a change on mgt2 until mgt3 shows it: {middle:.0f} ms (most {longest:.0f})", flush=True
    )


def joining(kind: Kind, cluster: Cluster, made: list[Confluent], folder: Path, nodes: int) -> None:
    """Start a Confluent that has nothing, where many nodes are."""
    for begin in range(0, nodes, 2000):
        made[0].ask("nodedefine", [f"j{n}" for n in range(begin, min(nodes, begin + 2000))])
    there = made[0].ask("nodes")
    made[2].kill()
    bare = Confluent(kind.python, kind.library, "bare", folder / "bare", "-")
    bare.start()
    late = Confluent(kind.python, kind.library, "mgt3", folder / "late", str(cluster["mgt3"].root))
    begun = monotonic()
    late.start()
    wait_until(lambda: late.ask("nodes") == there, _SECONDS, "it has all")
    took = monotonic() - begun
    for each in (bare, late):
        each.ask("sync")
    begun = monotonic()
    plain = Confluent(kind.python, kind.library, "again", folder / "late", "-")
    print(f"a Confluent that has nothing, until it lists {there} nodes: {took:.2f} s")
    resident = memory(late.pid)
    late.kill()
    plain.start()
    print(f"  a plain one with the same files: {monotonic() - begun:.2f} s")
    alone = memory(plain.pid)
    print(f"memory with {there} nodes: {resident:.0f} MiB, a plain one {alone:.0f}", end=", ")
    print(f"without nodes {memory(bare.pid):.0f}", flush=True)
    stop_all([bare, plain])


def main() -> None:
    """Measure each real Confluent that there is."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for kind in kinds():
        if not kind.real:
            continue
        print(f"Confluent {kind.name}, Python {kind.python}", flush=True)
        with collective_of(kind) as (cluster, made, plain, folder):
            defining(cluster, made, plain)
            telling(made)
            joining(kind, cluster, made, folder, nodes)


if __name__ == "__main__":
    main()
