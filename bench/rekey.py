"""Rows 10a and 10b: the CA is replaced under writes at every etcd; how long is the longest gap?

One client writes at each member's own etcd, so the restarts of that etcd are in its gap, see
``bench.writer``. Members take turns in running the command.

Invariants:
  * A round's figure is that of the member with the longest gap, and no round may miss the bar.
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
        gaps: the longest of each member, in seconds.
        usual: the longest of all members in the second before.
        given_up: writes that were not answered, at all members.
        seconds: how long the command took.
    """

    gaps: tuple[float, ...]
    usual: float
    given_up: int
    seconds: float


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    rounds = []
    with place.collective() as cluster:
        servers = list(cluster.servers.values())
        for number in range(place.count(_ROUNDS)):
            rounds.append(_round(place, cluster, servers[number % len(servers)]))
            gaps = ", ".join(f"{gap * 1000:.0f}" for gap in rounds[-1].gaps)
            say(f"longest gaps {gaps} ms, the command took {rounds[-1].seconds * 1000:.0f} ms")
    yield _gaps(rounds)
    yield Row(
        "10b",
        "`rotate-ca` in a collective of three, whole process, until the old CA is worthless",
        Sample.of(one.seconds for one in rounds),
        "-",
        None,
    )


def _gaps(rounds: Sequence[Round]) -> Row:
    worst = Sample.of(max(one.gaps) for one in rounds)
    every = Sample.of(gap for one in rounds for gap in one.gaps)
    lost = sum(one.given_up for one in rounds) / len(rounds)
    return Row(
        "10a",
        "`rotate-ca`, longest gap in streams of writes at each of three members, of the worst one",
        worst,
        f"{_BAR_SECONDS * 1000:.0f} ms in every round",
        max(worst.values) <= _BAR_SECONDS,
        f"the second before {Sample.of(one.usual for one in rounds)}",
        "",
        (
            f"each member's own longest gap: {every}",
            f"writes not answered in {DEADLINE_SECONDS * 1000:.0f} ms: {lost:.1f} a round",
        ),
    )


def _round(place: Place, cluster: Cluster, runner: Server) -> Round:
    settle(cluster)
    place.quiet.wait()
    with writing(list(cluster.servers.values())) as writers:
        rest(_BEFORE_SECONDS)
        begun = time.monotonic()
        timed = checked(runner, "rotate-ca")
        _refuse_unfinished(runner)
        rest(_AFTER_SECONDS)
        ended = time.monotonic()
    return Round(
        tuple(writer.longest_gap(begun, ended) for writer in writers),
        max(writer.longest_gap(begun - _BEFORE_SECONDS, begun) for writer in writers),
        sum(writer.given_up for writer in writers),
        timed.seconds,
    )


def _refuse_unfinished(server: Server) -> None:
    """Raise HarnessError where the command ended too early."""
    document = server.ask_show()
    if document is None or document["rekey"] is not None:
        raise HarnessError(f"rotate-ca on {server.name} ended before the re-keying did")
