"""Rows 10a and 10b: the CA is replaced under a stream of writes; how long is the longest gap?

One client writes at one member's own etcd, each member's in turn, so the restarts of that etcd are
in its gap, see ``bench.writer``. Another member runs the command.

Invariants:
  * No round may miss the bar.
  * A command that ended before the re-keying did is an error, not a figure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from bench.writer import DEADLINE_SECONDS, writing
from tests.harness import Cluster, HarnessError, Server

_ROUNDS = 10
_BAR_SECONDS = 1.0
_BEFORE_SECONDS = 1.0
_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class Round:
    """One re-keying.

    Attributes:
        gap: the longest, in seconds.
        usual: the longest in the second before.
        given_up: writes that were not answered.
        seconds: how long the command took.
    """

    gap: float
    usual: float
    given_up: int
    seconds: float


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    rounds = []
    with place.collective() as cluster:
        servers = list(cluster.servers.values())
        for number in range(place.count(_ROUNDS)):
            runner, asked = (servers[(number + more) % len(servers)] for more in (0, 1))
            one = _round(place, cluster, runner, asked)
            rounds.append(one)
            say(f"gap {one.gap * 1000:.0f} ms, the command took {one.seconds * 1000:.0f} ms")
    yield _gaps(rounds)
    yield Row(
        "10b",
        "`rotate-ca` in a collective of three, whole process, until the old CA is worthless",
        Sample.of(one.seconds for one in rounds),
        "-",
        None,
    )


def _gaps(rounds: Sequence[Round]) -> Row:
    gaps = Sample.of(one.gap for one in rounds)
    lost = sum(one.given_up for one in rounds) / len(rounds)
    return Row(
        "10a",
        "`rotate-ca` in a collective of three, longest gap in writes at one of them, each in turn",
        gaps,
        f"{_BAR_SECONDS * 1000:.0f} ms in every round",
        max(gaps.values) <= _BAR_SECONDS,
        f"the second before {Sample.of(one.usual for one in rounds)}",
        "",
        (f"writes not answered in {DEADLINE_SECONDS * 1000:.0f} ms: {lost:.1f} a round",),
    )


def _round(place: Place, cluster: Cluster, runner: Server, asked: Server) -> Round:
    settle(cluster)
    place.quiet.wait()
    with writing([asked]) as (writer,):
        rest(_BEFORE_SECONDS)
        begun = time.monotonic()
        timed = checked(runner, "rotate-ca")
        _refuse_unfinished(runner)
        rest(_AFTER_SECONDS)
        ended = time.monotonic()
    return Round(
        writer.longest_gap(begun, ended),
        writer.longest_gap(begun - _BEFORE_SECONDS, begun),
        writer.given_up,
        timed.seconds,
    )


def _refuse_unfinished(server: Server) -> None:
    """Raise HarnessError where the command ended too early."""
    document = server.ask_show()
    if document is None or document["rekey"] is not None:
        raise HarnessError(f"rotate-ca on {server.name} ended before the re-keying did")
