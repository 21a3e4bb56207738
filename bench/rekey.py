"""Rows 10a and 10b: the CA is replaced under a stream of writes; how long is the longest gap?

One client writes at one member's own etcd, each member's in turn, so the restarts of that etcd are
in its gap, see ``bench.writer``. Another member runs the command.

Invariants:
  * No round may miss the bar.
  * A command that ended before the re-keying did is an error, not a figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.place import Place, say, settle
from bench.report import Row
from bench.sample import Sample
from bench.timing import checked
from bench.writer import Gap, gap_while, losses_of, others_of
from tests.harness import Cluster, HarnessError, Server

_ROUNDS = 10
_BAR_SECONDS = 1.0


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    gaps = []
    with place.collective() as cluster:
        servers = list(cluster.servers.values())
        for number in range(place.count(_ROUNDS)):
            runner, asked = (servers[(number + more) % len(servers)] for more in (0, 1))
            gap = _round(place, cluster, runner, asked)
            gaps.append(gap)
            say(f"gap {gap.seconds * 1000:.0f} ms, the command took {gap.took * 1000:.0f} ms")
    yield _row(gaps)
    yield Row(
        "10b",
        "`rotate-ca` in a collective of three, whole process, until the old CA is worthless",
        Sample.of(gap.took for gap in gaps),
        "-",
        None,
    )


def _row(gaps: Sequence[Gap]) -> Row:
    sample = Sample.of(gap.seconds for gap in gaps)
    return Row(
        "10a",
        "`rotate-ca` in a collective of three, longest gap in writes at one of them, each in turn",
        sample,
        f"{_BAR_SECONDS * 1000:.0f} ms in every round",
        max(sample.values) <= _BAR_SECONDS,
        others_of(gaps),
        notes=(losses_of(gaps),),
    )


def _round(place: Place, cluster: Cluster, runner: Server, asked: Server) -> Gap:
    settle(cluster)
    place.quiet.wait()
    return gap_while(asked.layout.etcd_socket, lambda: _rotate(runner))


def _rotate(server: Server) -> float:
    """Replace the CA, and return how long the command took.

    Raises:
        HarnessError: the command ended before the re-keying did.
    """
    timed = checked(server, "rotate-ca")
    document = server.ask_show()
    if document is None or document["rekey"] is not None:
        raise HarnessError(f"rotate-ca on {server.name} ended before the re-keying did")
    return timed.seconds
