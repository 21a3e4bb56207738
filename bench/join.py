"""Row 3: joins, one right after the other, from the command to ``Success`` as a voter.

The tokens are made before, since an administrator has them before. Every round begins with a new
collective of one and three servers that run.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.line import Line
from bench.place import Place, say
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from tests.harness import Cluster, HarnessError, Server

_CLUSTERS = 7
_BAR_SECONDS = 1.0
_JOINERS = (("3a", "second"), ("3b", "third, right after"), ("3c", "fourth, right after"))


def measure(place: Place) -> Iterator[Row]:
    """Measure the rows."""
    rounds = []
    for _ in range(place.count(_CLUSTERS)):
        with place.cluster() as cluster:
            rounds.append(_round(place, cluster))
        say("joins: " + ", ".join(f"{seconds * 1000:.0f} ms" for seconds in rounds[-1]))
    for (key, which), values in zip(_JOINERS, zip(*rounds, strict=True), strict=True):
        sample = Sample.of(values)
        kept = sample.median <= _BAR_SECONDS
        yield Row(key, f"join to `Success` as a voter, {which}", sample, "1000 ms", kept)


def _round(place: Place, cluster: Cluster) -> list[float]:
    first, *joiners = cluster.add_running(1 + len(_JOINERS))
    tokens = [checked(first, "invite", server.name).out for server in joiners]
    seconds = []
    place.quiet.wait()
    for server, token in zip(joiners, tokens, strict=True):
        timed = checked(server, "join", first.door_name, "-i", "-", input=token)
        _refuse_learner(server)
        seconds.append(timed.seconds)
    return seconds


def _refuse_learner(server: Server) -> None:
    """Raise HarnessError where ``Success`` was said too early."""
    line = Line(server.layout.etcd_socket, 2.0)
    try:
        if line.is_learner():
            raise HarnessError(f"{server.name} said Success and does not vote")
    finally:
        line.close()
