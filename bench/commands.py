"""Rows 1 and 2: ``show`` and ``invite`` as whole processes, in turns with etcdctl.

Invariants:
  * Servers take turns, so that the leader and the followers have the same weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.place import Place, say
from bench.report import Row
from bench.sample import Ratios, Sample
from bench.timing import checked, endpoint_status
from tests.harness import Cluster, Server

_PAIRS = 45
_BLOCK = 5
_WARM = 3
_SHOW_BAR = 1.3
_INVITE_BAR = 1.5

Command = Callable[[Server], float]


def show(place: Place) -> Iterator[Row]:
    """Measure row 1."""
    with place.collective() as cluster:
        yield _compare(place, cluster, "1", "show", _show, _SHOW_BAR)


def invite(place: Place) -> Iterator[Row]:
    """Measure row 2."""
    with place.collective() as cluster:
        yield _compare(place, cluster, "2", "invite", _invite, _INVITE_BAR)


def _show(server: Server) -> float:
    return checked(server, "show").seconds


def _invite(server: Server) -> float:
    return checked(server, "invite", "mgt9").seconds


def _compare(
    place: Place, cluster: Cluster, key: str, name: str, command: Command, bar: float
) -> Row:
    servers = list(cluster.servers.values())
    ours, theirs = [], []
    count = place.count(_PAIRS)
    for number in range(-_WARM, count):
        if number % _BLOCK == 0:  # not before each pair: the first after a pause is the slower one
            place.quiet.wait()
        seconds = command(servers[number % len(servers)])
        other = endpoint_status(place.etcd, servers).seconds
        if number >= 0:
            ours.append(seconds)
            theirs.append(other)
    a, b = Sample.of(ours), Sample.of(theirs)
    ratios = Ratios.of(a, b)
    say(f"{name}: {a}, etcdctl {b}, {ratios}")
    return Row(
        key,
        f"`collective {name}`, whole process, three members",
        a,
        f"at most {bar} x the other side",
        ratios.keep(bar),
        f"`etcdctl endpoint status` {b}",
        str(ratios),
    )
