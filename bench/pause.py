"""Rows 3e and 3f: for how long do writes wait while a voter joins? A restart of etcd beside it.

One client writes at the etcd of a member that neither joins nor takes the joiner in, of the
leader in every other round, see ``bench.writer``. In the same round one of three bare etcds, a
follower, is killed with -9 and started under the same kind of stream at itself.

Invariants:
  * Both gaps are those of an etcd that is itself restarted while it is written to.
  * The other side is always a follower: a leader that is killed costs an election besides, which
    a member that hands over before its restart does not need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.bare_etcds import bare_etcds
from bench.place import Place, rest, say, settle
from bench.report import Row
from bench.sample import Ratios, Sample
from bench.timing import checked
from bench.writer import Gap, gap_while, losses_of, others_of
from tests.harness import Cluster, Server

_ROUNDS = 8
_BAR = 1.2
_SIZES = (("3e", 3, "three"), ("3f", 4, "four"))
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Round:
    """One join, and one restart beside it.

    Attributes:
        led: whether the member that was written to led when the join began.
        ours: while the voter joined.
        bare: while the bare etcd was restarted.
    """

    led: bool
    ours: Gap
    bare: Gap


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    rounds: dict[str, list[Round]] = {key: [] for key, _, _ in _SIZES}
    for number in range(place.count(_ROUNDS)):
        led = number % 2 == 1
        ours, bare = _ours(place, led), _bare(place)
        for (key, size, _), gap, other in zip(_SIZES, ours, bare, strict=True):
            rounds[key].append(Round(led, gap, other))
            say(
                f"voter joins {size}: longest gap {gap.seconds * 1000:.0f} ms, "
                f"bare restart {other.seconds * 1000:.0f} ms"
            )
    for key, _, words in _SIZES:
        yield _row(key, words, rounds[key])


def _row(key: str, size: str, rounds: Sequence[Round]) -> Row:
    ours = Sample.of(one.ours.seconds for one in rounds)
    other = Sample.of(one.bare.seconds for one in rounds)
    ratios = Ratios.of(ours, other)
    notes = []
    for led, who in ((False, "followed"), (True, "led")):
        some = [one.ours.seconds for one in rounds if one.led is led]
        if some:
            notes.append(f"where the member that was written to {who}: {Sample.of(some)}")
    took = Sample.of(one.ours.took for one in rounds)
    notes.append(f"{losses_of([one.ours for one in rounds])}; the command took {took}")
    notes.append(others_of([one.ours for one in rounds]))
    return Row(
        key,
        f"voter joins a collective of {size}, longest gap in a stream of writes at another member",
        ours,
        f"at most {_BAR} x the other side",
        ratios.keep(_BAR),
        f"bare etcd killed with -9 and started, gap in writes at itself {other}",
        str(ratios),
        tuple(notes),
    )


def _ours(place: Place, led: bool) -> list[Gap]:
    """Return the gap for each size, as one collective grows."""
    gaps = []
    with place.cluster() as cluster:
        cluster.grow(_SIZES[0][1])
        for _ in _SIZES:
            gaps.append(_join(place, cluster, led))
    return gaps


def _join(place: Place, cluster: Cluster, led: bool) -> Gap:
    leader = settle(cluster)
    members = list(cluster.servers.values())
    followers = [server for server in members if server is not leader]
    asked, sponsor = (leader, followers[0]) if led else (followers[0], leader)
    (joiner,) = cluster.add_running(1)
    token = checked(sponsor, "invite", joiner.name).out
    place.quiet.wait()
    return gap_while(asked.layout.etcd_socket, lambda: _seconds(joiner, sponsor, token))


def _seconds(joiner: Server, sponsor: Server, token: str) -> float:
    return checked(joiner, "join", sponsor.door_name, "-i", "-", input=token).seconds


def _bare(place: Place) -> list[Gap]:
    """Return as many gaps, each of one restart."""
    gaps = []
    with bare_etcds(place.etcd.etcd) as etcds:
        etcds.grow(3)
        for _ in _SIZES:
            rest(_SETTLE_SECONDS)
            follower = etcds.follower()
            place.quiet.wait()
            gaps.append(gap_while(follower.socket, follower.restart))
    return gaps
