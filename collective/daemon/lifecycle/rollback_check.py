"""Is the data of etcd here what this server left, as far as somebody remembers?

It asks nobody and changes nothing; what is remembered comes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from collective.etcd.wal import read_log_end
from collective.model.high_water_mark import HighWaterMark
from collective.model.layout import Layout
from collective.model.plan import Plan
from collective.model.view import View
from collective.policy.old_data import objection


def objection_to(
    layout: Layout, plan: Plan, view: View, known: Mapping[str, HighWaterMark]
) -> str | None:
    """Return why etcd must not start on the data that is here, or None.

    Args:
        layout: where things are.
        plan: a member whose data is there.
        view: the records as they are known.
        known: what is remembered of this server, by who remembers it.
    """
    if not plan.started:
        return None
    end = read_log_end(Path(layout.etcd_log))
    if end is None:
        found = HighWaterMark("", 0, 0)
    else:
        found = HighWaterMark(f"{end.member_id:016x}", end.term, end.index)
    record = view.members.get(plan.name)
    own = known.get(plan.name)
    noted = (plan.member_id, own.member_id if own else "", record.member_id if record else "")
    member_id = next((each for each in noted if each), "")
    told = {name: promise for name, promise in known.items() if promise.index}
    return objection(plan.name, member_id, found, told)
