"""Rows 26a and 26b: a voter of three is deleted; a former release does the same beside it.

A follower and the leader are deleted in turns, each in a new collective, by another member.
Meanwhile each member that remains is asked for ``show`` over its control socket, over and over.

Invariants:
  * Each side runs in a process of its own, in its own checkout and with its own Python, by the
    same lines, ``bench.deletion_once``.
  * Without a former release nothing is said of how the two compare.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import deletion_once
from bench.place import Place, say
from bench.report import Row
from bench.sample import Ratios, Sample, Unit
from tests.harness import HarnessError
from tests.harness.server import CHECKOUT

_ROUNDS = 8
_BAR = 1.0
_SECONDS = 180.0
_MOMENTS = Unit("a round", 1.0, 0)
#: What has the code of a folder run a file of another one, and import from its own.
_RUN = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


@dataclass(frozen=True)
class Side:
    """A release.

    Attributes:
        checkout: its code.
        python: which has what it needs, and its script beside it.
        options: of ``delete``.
    """

    checkout: Path
    python: Path
    options: tuple[str, ...] = ()

    @classmethod
    def former(cls, checkout: Path) -> Side:
        """Return the release before this one, which deletes in this way when told so."""
        return cls(checkout, checkout / ".venv" / "bin" / "python", ("--no-rekey",))


@dataclass(frozen=True)
class Deleted:
    """One deletion.

    Attributes:
        seconds: of the whole process.
        asked: how often a remaining member has answered meanwhile, and a second longer.
        without: how often without a proven quorum.
        silent: how often one has not answered.
    """

    seconds: float
    asked: int
    without: int
    silent: int


def measure(place: Place) -> Iterator[Row]:
    """Measure both rows."""
    ours: list[tuple[str, Deleted]] = []
    theirs: list[tuple[str, Deleted]] = []
    for number in range(place.count(_ROUNDS)):
        victim = "leader" if number % 2 == 1 else "follower"
        ours.append((victim, _once(place, Side(CHECKOUT, Path(sys.executable)), victim)))
        say(f"{victim} deleted: {ours[-1][1]}")
        if place.former is not None:
            theirs.append((victim, _once(place, Side.former(place.former), victim)))
            say(f"by the former release: {theirs[-1][1]}")
    yield _seconds(ours, theirs)
    yield _moments([one for _, one in ours], [one for _, one in theirs])


def _seconds(ours: Sequence[tuple[str, Deleted]], theirs: Sequence[tuple[str, Deleted]]) -> Row:
    sample = Sample.of(one.seconds for _, one in ours)
    kept, other, compared = None, "not measured", ""
    if theirs:
        former = Sample.of(one.seconds for _, one in theirs)
        ratios = Ratios.of(sample, former)
        kept, other, compared = ratios.keep(_BAR), f"former release {former}", str(ratios)
    notes = []
    for whose, deletions in (("", ours), ("former release, ", theirs)):
        for victim in ("follower", "leader"):
            some = [one.seconds for was, one in deletions if was == victim]
            if some:
                notes.append(f"{whose}{victim} deleted: {Sample.of(some)}")
    return Row(
        "26a",
        "`delete --force` of a voter of three, follower or leader, whole process",
        sample,
        "not slower than the former release with `--no-rekey`",
        kept,
        other,
        compared,
        tuple(notes),
    )


def _moments(ours: Sequence[Deleted], theirs: Sequence[Deleted]) -> Row:
    return Row(
        "26b",
        "answers to `show` without a proven quorum on the members that remain, meanwhile",
        Sample.of((one.without for one in ours), _MOMENTS),
        "none",
        not any(one.without for one in ours),
        f"former release: {_counted(theirs)}" if theirs else "not measured",
        notes=(_counted(ours),),
    )


def _counted(deletions: Sequence[Deleted]) -> str:
    without, asked, silent = (
        sum(getattr(one, name) for one in deletions) for name in ("without", "asked", "silent")
    )
    return f"{without} of {asked} without a quorum, {silent} more times no answer"


def _once(place: Place, side: Side, victim: str) -> Deleted:
    """Have one side delete a server.

    Raises:
        HarnessError: it could not.
    """
    place.quiet.wait()
    file = Path(deletion_once.__file__)
    words = [str(file), str(place.etcd.etcd), victim, *side.options]
    try:
        done = subprocess.run(
            [str(side.python), "-c", _RUN, *words],
            cwd=side.checkout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"a deletion did not end in {_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise HarnessError(f"a deletion was not measured: {done.stderr.strip().splitlines()[-1:]}")
    return Deleted(**json.loads(done.stdout))
