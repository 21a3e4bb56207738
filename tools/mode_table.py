"""Prints the tables of modes in docs/architecture.md, from the table that the daemon goes by.

``python -m tools.mode_table`` writes them there; ``--check`` writes nothing, and fails if they are
stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from collective.model.plan import Mode
from collective.policy.transitions import TABLE, Event, Transition

PAGE = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- from python -m tools.mode_table -->\n", "<!-- end -->\n"
_MEANING: Mapping[Mode | None, str] = {
    None: "fresh",
    Mode.MEMBER: "a voter",
    Mode.NONVOTING: "a member without an etcd",
    Mode.ADOPTING: "admitted; former data is being moved aside",
    Mode.JOINING: "a learner that catches up, or a server that is to be taken in without a vote",
    Mode.LEAVING: "was deleted; its data is being moved aside",
    Mode.REMOVED: "rests, until a join or gencert; its door shows its "
    "certificate, for dial-backs, and refuses every request",
    Mode.LOST: "a member whose data is gone, old or another's: etcd is not started; gencert is "
    "for one that was the only one",
}


def render() -> str:
    """Return the text of the tables."""
    lines = ["| Mode | Meaning | Next |", "|---|---|---|"]
    for mode, meaning in _MEANING.items():
        ways = {event: to for (former, event), to in TABLE.items() if former is mode}
        told = "; ".join(f"`{to.mode.value}` {event.value}" for event, to in ways.items())
        lines.append(f"| {_named(mode)} | {meaning} | {told} |")
    lines += ["", "| Written | Only after these steps, in this order |", "|---|---|"]
    with_steps: dict[Event, Transition] = {e: to for (_, e), to in TABLE.items() if to.steps}
    for event, to in with_steps.items():
        steps = "; ".join(step.value for step in to.steps)
        lines.append(f"| `{to.mode.value}` {event.value} | {steps} |")
    return "\n".join(lines) + "\n"


def _named(mode: Mode | None) -> str:
    return "(no file)" if mode is None else f"`{mode.value}`"


def main(arguments: list[str] | None = None) -> int:
    """Write the tables into the page, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.mode_table")
    parser.add_argument("--check", action="store_true", help="fail if the tables are stale")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    fresh = before + BEGIN + render() + END + rest.partition(END)[2]
    if parser.parse_args(arguments).check:
        if fresh != page:
            print("the tables of modes are stale: run 'make man' and commit it", file=sys.stderr)
        return int(fresh != page)
    if fresh != page:
        PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
