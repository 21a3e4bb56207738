"""Row 3: joins, one right after the other, from the command to ``Success``; bare etcds beside it.

The tokens are made before, since an administrator has them before. Every round begins with a new
collective of one and servers that run, and then with one bare etcd, which is joined by others in
the same steps, see ``bench.bare_etcds``; once more with the leadership handed over, for a note.

Invariants:
  * A join of ours is compared with the bare one of the same round, to as many voters.
  * Ours is held against the bare one that is asked for: each voter killed in its turn. What
    handing over would spare is in a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench import pause
from bench.bare_etcds import Steps, bare_etcds
from bench.line import Line
from bench.place import Place, say
from bench.report import Row
from bench.sample import Ratios, Sample
from bench.timing import checked
from tests.harness import HarnessError, Server

_ROUNDS = 7
_VOTER_BAR = 1.3
_NONVOTING_BAR = 0.5
_JOINERS = (("3a", "second"), ("3b", "third, right after"), ("3c", "fourth, right after"))
#: The join of a voter that one without a vote is compared with: the third.
_COMPARED = 1


@dataclass(frozen=True)
class Round:
    """The joins of one round, each list in the order of the table.

    Attributes:
        voters: seconds of each voter's.
        nonvoting: seconds of the one without a vote, which comes last.
        bare: those of bare etcds.
        handed: those of bare etcds that hand over the leadership.
    """

    voters: Sequence[float]
    nonvoting: float
    bare: Sequence[Steps]
    handed: Sequence[Steps]


def measure(place: Place) -> Iterator[Row]:
    """Measure the rows, and those of the writes meanwhile."""
    rounds = []
    for _ in range(place.count(_ROUNDS)):
        one = _round(place)
        rounds.append(one)
        say(f"joins: {_listed(one.voters)}; without a vote: {_listed([one.nonvoting])}")
        say(f"bare: {_listed([steps.seconds for steps in one.bare])}")
    for number, (key, which) in enumerate(_JOINERS):
        yield _voter(key, which, number, rounds)
    yield _nonvoting(rounds)
    yield from pause.measure(place)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{seconds * 1000:.0f} ms" for seconds in values)


def _voter(key: str, which: str, number: int, rounds: Sequence[Round]) -> Row:
    ours = Sample.of(one.voters[number] for one in rounds)
    bare = [one.bare[number] for one in rounds]
    handed = Sample.of(one.handed[number].seconds for one in rounds)
    other = Sample.of(steps.seconds for steps in bare)
    ratios = Ratios.of(ours, other)
    return Row(
        key,
        f"join to `Success` as a voter, {which}",
        ours,
        f"at most {_VOTER_BAR} x the other side",
        ratios.keep(_VOTER_BAR),
        f"bare etcds in the same steps {other}",
        str(ratios),
        (
            f"bare: {_parts(bare)}",
            f"bare, with the leadership handed over before the leader's restart: {handed}; "
            f"{Ratios.of(ours, handed)}",
        ),
    )


def _parts(joins: Sequence[Steps]) -> str:
    """Return the medians of the steps of some bare joins, which sum up to about the whole."""
    followers = Sample.of(sum(steps.followers) for steps in joins)
    parts = [f"restart of {len(joins[0].followers)} followers {followers}"]
    for name, what in (
        ("leader", "of the leader"),
        ("add", "add"),
        ("start", "start"),
        ("promote", "promote"),
    ):
        parts.append(f"{what} {Sample.of(map(attrgetter(name), joins))}")
    return ", ".join(parts)


def _nonvoting(rounds: Sequence[Round]) -> Row:
    ours = Sample.of(one.nonvoting for one in rounds)
    other = Sample.of(one.voters[_COMPARED] for one in rounds)
    ratios = Ratios.of(ours, other)
    return Row(
        "3d",
        "join to `Success` of a server that does not vote (`invite -n`), right after 3c",
        ours,
        f"at most {_NONVOTING_BAR} x the other side",
        ratios.keep(_NONVOTING_BAR),
        f"the third voter's join, of the same round {other}",
        str(ratios),
    )


def _round(place: Place) -> Round:
    voters, nonvoting = _ours(place)
    bare = _bare(place, hand_over=False)
    return Round(voters, nonvoting, bare, _bare(place, hand_over=True))


def _ours(place: Place) -> tuple[list[float], float]:
    """Return how long the voters' joins took, and that of the one without a vote."""
    with place.cluster() as cluster:
        first, *joiners, last = cluster.add_running(2 + len(_JOINERS))
        tokens = [checked(first, "invite", server.name).out for server in joiners]
        seldom = checked(first, "invite", "-n", last.name).out
        seconds = []
        place.quiet.wait()
        for server, token in zip(joiners, tokens, strict=True):
            seconds.append(_join(server, first, token))
            _refuse_learner(server)
        return seconds, _join(last, first, seldom)


def _join(server: Server, first: Server, token: str) -> float:
    return checked(server, "join", first.door_name, "-i", "-", input=token).seconds


def _bare(place: Place, *, hand_over: bool) -> list[Steps]:
    with bare_etcds(place.etcd.etcd) as etcds:
        place.quiet.wait()
        return [etcds.join(hand_over=hand_over) for _ in _JOINERS]


def _refuse_learner(server: Server) -> None:
    """Raise HarnessError where ``Success`` was said too early."""
    line = Line(server.layout.etcd_socket, 2.0)
    try:
        if line.is_learner():
            raise HarnessError(f"{server.name} said Success and does not vote")
    finally:
        line.close()
