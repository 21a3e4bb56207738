"""Confluent's built-in collective beside ours: whole Confluents on the same machine, in one run.

    COLLECTIVE_CONFLUENTS='NAME=PYTHON,LIBRARY,PROGRAMS' python -m bench.built_in [NODES]

Three servers with the built-in collective, three on ours, and one that is alone, each in a network
namespace of its own; Confluent's own commands are typed, in turns. It prints medians; it needs
root.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import monotonic

from bench.confluents import memory, used
from tests.confluent.conftest import Kind, kinds
from tests.harness import Cluster, temporary_folder, wait_until
from tests.harness.network import Network
from tests.harness.spread import spread
from tests.harness.whole_confluents import Installed, WholeConfluent, join_built_in
from tools.etcd_versions import etcds_in_use

_ROUNDS = 3
_DEFINED = 1000
_AT_ONCE = 1000
_SECONDS = 300.0
OURS = ("mgt1", "mgt2", "mgt3")
THEIRS = ("old1", "old2", "old3")
PLAIN = "plain"


class Sides:
    """The three kinds of Confluent."""

    def __init__(self, cluster: Cluster, network: Network, kind: Kind, stack: ExitStack) -> None:
        """Start all of them.

        Args:
            cluster: without servers so far.
            network: with a host for each.
            kind: of Confluent.
            stack: ends them.
        """
        assert kind.programs is not None
        installed = Installed(kind.python, kind.library, (kind.programs,))
        self.cluster, self.network = cluster, network
        self._confluents: dict[str, WholeConfluent] = {}
        for name in (*OURS, *THEIRS, PLAIN):
            folder = cluster.root / f"cf-{name}"
            made = WholeConfluent(installed, name, folder, network[name].prefix)
            stack.callback(made.close)
            made.prepare()
            self._confluents[name] = made
        spread(cluster, network, OURS)
        cluster.join_all()
        for name in (*THEIRS, PLAIN, OURS[0]):
            self[name].start()
        join_built_in([self[name] for name in THEIRS[:2]], network[THEIRS[0]].address)
        self[OURS[0]].run("nodedefine", "first", check=True)
        self[OURS[0]].stop()
        for name in OURS:
            self[name].server = cluster[name]
        self[OURS[0]].adapter("import", check=True)
        for name in OURS[:2]:
            self[name].start()
            self.wait_for_quorum(name)

    def __getitem__(self, name: str) -> WholeConfluent:
        return self._confluents[name]

    def wait_for_quorum(self, name: str) -> None:
        """Wait until one of ours knows of the quorum."""
        shows = self[name].run
        wait_until(lambda: "Quorum: True" in shows("collective", "show").out, _SECONDS, "quorum")

    def pids(self, names: Sequence[str]) -> list[int]:
        """Return the processes of a side: Confluent, and what ours has beside it."""
        found = [self[name].pid for name in names]
        for name in set(names) & set(OURS):
            server = self.cluster[name]
            found += [pid for pid in (server.pid, server.etcd_pid) if pid is not None]
        return found


@contextmanager
def sides_of(kind: Kind) -> Iterator[Sides]:
    """Make them on a network of this run."""
    names = (*OURS, *THEIRS, PLAIN)
    hosts = {name: (f"10.77.0.{number}/24",) for number, name in enumerate(names, 1)}
    etcd = etcds_in_use()[-1]
    with (
        Network(hosts) as network,
        temporary_folder() as root,
        Cluster(root, etcd.etcd) as cluster,
        ExitStack() as stack,
    ):
        yield Sides(cluster, network, kind, stack)


def listed(confluent: WholeConfluent) -> int:
    """Return how many nodes one lists."""
    return len(confluent.run("nodelist", timeout=_SECONDS).lines)


def wait_for(confluent: WholeConfluent, nodes: int) -> None:
    """Wait until one lists so many nodes."""
    wait_until(lambda: listed(confluent) >= nodes, _SECONDS, f"{confluent.name} has all")


def joining(sides: Sides, nodes: int) -> None:
    """Have a third one join each side where many nodes are."""
    without = {name: memory(sides[name].pid) for name in (PLAIN, THEIRS[1], OURS[1])}
    for begin in range(1, nodes + 1, _AT_ONCE):
        for name in (PLAIN, THEIRS[0], OURS[0]):
            sides[name].run("nodedefine", f"j[{begin}:{begin + _AT_ONCE - 1}]", timeout=_SECONDS)
    for name in (THEIRS[1], OURS[1]):
        wait_for(sides[name], nodes)
    for name, before in without.items():
        print(
            f"memory that {nodes} nodes take, {name}: {memory(sides[name].pid) - before:.0f} MiB"
        )
    leader, third = sides[THEIRS[0]], sides[THEIRS[2]]
    token = leader.run("collective", "invite", third.name, check=True).out.strip()
    begun = monotonic()
    third.run("collective", "join", sides.network[leader.name].address, "-i", token, check=True)
    wait_for(third, nodes)
    theirs = monotonic() - begun
    ours = sides[OURS[2]]
    begun = monotonic()
    ours.start()
    started = monotonic() - begun
    wait_for(ours, nodes)
    took = monotonic() - begun
    bare = sides[PLAIN]
    bare.stop()
    begun = monotonic()
    bare.start()
    wait_for(bare, nodes)
    plain = monotonic() - begun
    print(f"a Confluent joins where {nodes} nodes are, until it lists them:")
    print(f"  built-in, from the join typed on a running one: {theirs:.2f} s")
    print(f"  ours, from the start of its process: {took:.2f} s ({started:.2f} to take commands)")
    print(f"  a plain one that has them in its files, from its start: {plain:.2f} s", flush=True)
    sides.wait_for_quorum(OURS[2])


def defining(sides: Sides) -> None:
    """Define nodes on each side, in turns; they stay."""
    wall: dict[str, list[float]] = {PLAIN: [], THEIRS[0]: [], THEIRS[1]: [], OURS[1]: []}
    cpu: dict[str, list[float]] = {name: [] for name in wall}
    writers: dict[str, list[float]] = {name: [] for name in wall}
    for number in range(_ROUNDS):
        for name in wall:
            members = OURS if name in OURS else THEIRS if name in THEIRS else (PLAIN,)
            everyone, own = sides.pids(members), [sides[name].pid]
            nodes = f"d{number}x[1:{_DEFINED}]"
            before, before_own, begun = used(everyone), used(own), monotonic()
            sides[name].run("nodedefine", nodes, check=True, timeout=_SECONDS)
            wall[name].append(monotonic() - begun)
            there = listed(sides[name])
            for member in members:
                wait_for(sides[member], there)
            cpu[name].append(used(everyone) - before)
            writers[name].append(used(own) - before_own)
            print(f"  {name}: {wall[name][-1]:.2f} s", flush=True)
    for name, took in wall.items():
        ratios = [mine / theirs for mine, theirs in zip(took, wall[PLAIN], strict=True)]
        print(
            f"nodedefine of {_DEFINED} on {name}: {median(took):.2f} s, {median(ratios):.2f} x; "
            f"processor {median(writers[name]):.2f} s there, {median(cpu[name]):.2f} s of all "
            f"({median(cpu[name]) / median(cpu[PLAIN]):.2f} x)",
            flush=True,
        )


def telling(sides: Sides) -> None:
    """Change an attribute on each member, and look for it on each other one."""
    for members in (THEIRS, OURS):
        sides[members[0]].run("nodedefine", "told", check=True)
        took: dict[tuple[str, str], list[float]] = {}
        for number in range(_ROUNDS):
            for writer in members:
                for reader in members:
                    if reader != writer:
                        room = f"{number}{writer}{reader}"
                        took.setdefault((writer, reader), []).append(
                            _told(sides[writer], sides[reader], room)
                        )
        for (writer, reader), found in took.items():
            print(f"a change on {writer} until {reader} shows it: {median(found) * 1000:.0f} ms")
        everything = [each for found in took.values() for each in found]
        print(f"  all of {members[0][:3]}: {median(everything) * 1000:.0f} ms", flush=True)


def _told(writer: WholeConfluent, reader: WholeConfluent, room: str) -> float:
    begun = monotonic()
    writer.run("nodeattrib", "told", f"location.room={room}", check=True)

    def shows() -> bool:
        return room in reader.run("nodeattrib", "told", "location.room").out

    wait_until(shows, _SECONDS, f"{reader.name} shows it", 0.0)
    return monotonic() - begun


def main() -> None:
    """Measure each real Confluent that there is."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for kind in kinds():
        if not kind.real or kind.programs is None:
            continue
        print(f"Confluent {kind.name}, {Path(kind.python).name}", flush=True)
        with sides_of(kind) as sides:
            joining(sides, nodes)
            defining(sides)
            telling(sides)


if __name__ == "__main__":
    main()
