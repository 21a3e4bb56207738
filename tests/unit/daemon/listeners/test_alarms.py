"""What show warns of."""

from __future__ import annotations

import pytest

from collective.daemon.listeners.alarms import alarm_sentence, alarms_in
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import Item, View, member_key

RECORD = MemberRecord("mgt3", f"{8630161756594109333:016x}", Role.VOTER, "a", 1, 2, (), 0.0)
VIEW = View(1, {member_key("mgt3"): Item(to_json(RECORD).encode(), 1)})


@pytest.mark.parametrize(
    ("errors", "alarms"),
    [
        ((), []),
        (("etcdserver: no leader",), []),
        (("memberID:8630161756594109333 alarm:NOSPACE ",), [("mgt3", "NOSPACE")]),
        (("alarm:CORRUPT ",), [(None, "CORRUPT")]),
        (
            (
                "etcdserver: no leader",
                "memberID:8630161756594109333 alarm:CORRUPT",
                "memberID:1 alarm:NEW ",
            ),
            [("mgt3", "CORRUPT"), ("0000000000000001", "NEW")],
        ),
    ],
)
def test_alarms_are_read_from_the_status(
    errors: tuple[str, ...], alarms: list[tuple[str | None, str]]
) -> None:
    """By name, where there is a record, among other errors."""
    assert alarms_in(errors, VIEW) == alarms


@pytest.mark.parametrize("kind", ["NOSPACE", "CORRUPT", "NEW"])
def test_alarm_is_told_with_the_member(kind: str) -> None:
    """One that a later etcd has is told, too."""
    assert "mgt3" in alarm_sentence("mgt3", kind)
    assert "a member" in alarm_sentence(None, kind)
