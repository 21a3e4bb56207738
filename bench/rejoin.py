"""Row 13: a join that was cut off is run again; how much longer does it take than a fresh one?

The joiner's daemon is killed with -9 when it has just been let in, and started again. Then the
same command is run with the same token. Both kinds of join are those of a second server, each in
a new collective, in turns.

Invariants:
  * The daemons of both kinds report their steps to the bench, so neither has less to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.place import Place, say
from bench.report import Row
from bench.sample import Ratios, Sample
from bench.timing import checked
from collective.failpoints import Step
from tests.harness import Server
from tests.harness.failpoints import FailPoints
from tests.harness.running import Running

_PAIRS = 7
_BAR = 1.5
_REACH_SECONDS = 20.0

#: Does what comes before the command: gets where the joiner is held, it, the command, the token.
Before = Callable[[FailPoints, Server, tuple[str, ...], str], None]


def measure(place: Place) -> Iterator[Row]:
    """Measure the row."""
    ours, theirs = [], []
    for _ in range(place.count(_PAIRS)):
        ours.append(_join(place, _cut))
        theirs.append(_join(place, _nothing))
        say(f"join again {ours[-1] * 1000:.0f} ms, fresh {theirs[-1] * 1000:.0f} ms")
    again, fresh = Sample.of(ours), Sample.of(theirs)
    ratios = Ratios.of(again, fresh)
    yield Row(
        "13",
        "join run again after the joiner's daemon was killed with -9 when it was let in",
        again,
        f"at most {_BAR} x the other side",
        ratios.keep(_BAR),
        f"fresh join {fresh}",
        str(ratios),
    )


def _join(place: Place, before: Before) -> float:
    with place.cluster() as cluster, FailPoints(cluster) as points:
        first, joiner = cluster.add_running(2)
        token = checked(first, "invite", joiner.name).out
        arguments = ("join", first.door_name, "-i", "-")
        before(points, joiner, arguments, token)
        place.quiet.wait()
        return checked(joiner, *arguments, input=token).seconds


def _cut(points: FailPoints, joiner: Server, arguments: tuple[str, ...], token: str) -> None:
    with points.at(Step.JOIN_ADMITTED, joiner) as held, Running(joiner, arguments, token):
        held.wait(_REACH_SECONDS)
        joiner.kill()
    joiner.start()


def _nothing(points: FailPoints, joiner: Server, arguments: tuple[str, ...], token: str) -> None:
    pass
