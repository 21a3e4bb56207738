"""``python -m bench``: measure, print a table for each etcd, and write it to ``bench/results``.

The exit status says whether all was measured, not whether the bars are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import (
    commands,
    deletion,
    failover,
    gencert,
    handover,
    heal,
    join,
    machine,
    memory,
    nonvoting,
    offline,
    readdress,
    rejoin,
    report,
    store,
    survivor,
    telling,
)
from bench.place import Place, SkippedError, say
from bench.report import Row
from sandbox.interrupts import INTERRUPTED, interruptible
from tests.harness import HarnessError
from tests.harness.network import sweep
from tools.etcd_versions import Etcd, etcds_in_use


@dataclass(frozen=True)
class Measurement:
    """Something to measure.

    Attributes:
        row: its number in the table.
        what: a few words.
        measure: does it.
    """

    row: str
    what: str
    measure: Callable[[Place], Iterable[Row]]


MEASUREMENTS = (
    Measurement("1", "show against etcdctl", commands.show),
    Measurement("2", "invite against etcdctl", commands.invite),
    Measurement("3", "joins, and writes meanwhile", join.measure),
    Measurement("4", "leader killed", failover.killed),
    Measurement("5", "leader stopped", failover.stopped),
    Measurement("6", "leader cut off", failover.cut_off),
    Measurement("7", "leader stopped cleanly", handover.measure),
    Measurement("8", "show with all others dead", survivor.measure),
    Measurement("9", "memory", memory.measure),
    Measurement("10", "certificate replaced", gencert.measure),
    Measurement("11", "voter lost to one that does not vote", nonvoting.measure),
    Measurement("12", "member moved", readdress.measure),
    Measurement("13", "join run again", rejoin.measure),
    Measurement("14", "dead member shown as offline", offline.measure),
    Measurement("15", "cached reads", store.reads),
    Measurement("16", "64 writers", store.crowd),
    Measurement("17", "one writer (17 and 20)", store.alone),
    Measurement("18", "many keys (18, 21 and 23)", store.loading),
    Measurement("19", "a change told elsewhere", telling.delivery),
    Measurement("22", "a new member of a large collective", telling.newcomer),
    Measurement("24", "nodes of a lost manager", telling.takeover),
    Measurement("25", "a thousand watchers", telling.watchers),
    Measurement("26", "voter deleted", deletion.measure),
    Measurement("27", "network heals after 20 s", heal.short),
    Measurement("28", "network heals after 60 s", heal.long),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for."""
    options = _parser().parse_args(arguments)
    etcds = [e for e in etcds_in_use() if not options.etcd or e.version_text in options.etcd]
    if not etcds:
        print("bench: error: no such etcd; see python -m tools.etcd_versions", file=sys.stderr)
        return 2
    chosen = [m for m in MEASUREMENTS if not options.only or m.row in options.only]
    sweep()
    try:
        with interruptible():
            missing = [_bench(etcd, chosen, options) for etcd in etcds]
    except KeyboardInterrupt:
        return INTERRUPTED
    return 1 if any(missing) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the figures.")
    parser.add_argument(
        "--only",
        action="append",
        metavar="ROW",
        choices=[m.row for m in MEASUREMENTS],
        help="measure this row alone; can be given again. Rows of earlier runs stay in the file",
    )
    parser.add_argument(
        "--etcd", action="append", metavar="VERSION", help="with this etcd alone (default: each)"
    )
    parser.add_argument("--rounds", type=_count, help="how often, instead of what is usual")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait, in all rounds of a row, for others to leave the machine "
        "alone (default: %(default)s)",
    )
    parser.add_argument(
        "--former",
        type=_checkout,
        metavar="FOLDER",
        help="a checkout of the former release with its own .venv, to compare row 26 with",
    )
    parser.add_argument("--dry", action="store_true", help="do not write to bench/results")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / ".venv" / "bin" / "collective").exists():
        raise argparse.ArgumentTypeError(f"no .venv with collective in {text}")
    return folder


def _bench(etcd: Etcd, chosen: Sequence[Measurement], options: argparse.Namespace) -> bool:
    """Measure with one etcd, print and write; return whether a row is missing."""
    rows: list[Row] = []
    for measurement in chosen:
        place = Place(etcd, options.rounds, machine.Quiet(options.patience), options.former)
        rows += _rows(place, measurement)
    where = machine.describe(etcd)
    print(f"\netcd {etcd.version_text}\n{where}\n\n{report.table(rows)}\n")
    for note in report.notes(rows):
        print(f"* {note}")
    if not options.dry:
        report.write(etcd.version_text, where, rows)
    return any(row.ours is None for row in rows)


def _rows(place: Place, measurement: Measurement) -> Iterator[Row]:
    say(f"etcd {place.etcd.version_text}, row {measurement.row}: {measurement.what}")
    try:
        for row in measurement.measure(place):
            yield row.at(place.quiet.typical)
    except SkippedError as reason:
        yield _nothing(measurement, f"skipped: {reason}")
    except HarnessError as error:
        say(str(error))
        first = str(error).splitlines()[0]
        yield _nothing(measurement, f"not measured: {first}")


def _nothing(measurement: Measurement, why: str) -> Row:
    return Row(measurement.row, measurement.what, None, "-", None, notes=(why,))


if __name__ == "__main__":
    sys.exit(main())
