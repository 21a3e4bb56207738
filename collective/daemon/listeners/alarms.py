"""What ``show`` says of the alarms of etcd, in words.

Pure: what was observed comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from collective.model.view import View

# etcd puts its alarms among the errors of its status, in the text form of protobuf. Of a divergent
# member it does not know the number (3.4.23 and 3.5.1, tried), and 0 is left out.
_ALARM = re.compile(r"(?:memberID:(\d+)\s+)?alarm:(\w+)")
_SENTENCES = {
    "NOSPACE": "the store of {who} is full: the collective takes no writes until there is room "
    "and the alarm is disarmed (etcdctl alarm disarm)",
    "CORRUPT": "the data of {who} differs from that of the others: the collective takes no writes "
    "until that is mended; see RECOVERY in collective(1)",
}


def alarms_in(errors: Iterable[str], view: View) -> list[tuple[str | None, str]]:
    """Return member, None where etcd does not say whose it is, and kind of each alarm.

    Args:
        errors: of the status.
        view: the records, for the members' names.
    """
    found: list[tuple[str | None, str]] = []
    for number, kind in _ALARM.findall("\n".join(errors)):
        member_id = f"{int(number or 0):016x}"
        record = view.by_member_id(member_id)
        name = record.name if record is not None else member_id
        found.append((name if number else None, str(kind)))
    return found


def alarm_sentence(name: str | None, kind: str) -> str:
    """Return what an alarm means and what to do about it."""
    sentence = _SENTENCES.get(kind, "etcd raised the alarm {kind} for {who}")
    return sentence.format(who=name or "a member", kind=kind)
