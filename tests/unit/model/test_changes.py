"""A change of the voters: each pair of its table, and what it makes of a record."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import collective
from collective.model import changes
from collective.model.changes import EFFECTS, TransitionError, begin, make
from collective.model.records import Change, ChangeKind, MemberRecord, Role

PACKAGE = Path(collective.__file__).parent
MGT2 = MemberRecord("mgt2", "2f", Role.VOTER, "10.0.0.2", 13002, 13003, ("pem",), 1.0)
UNDER_WAY = Change(ChangeKind.REMOVE, "mgt3", "3f", "mgt1", False)
DONE = Change(ChangeKind.DEMOTE, "mgt3", "3f", "mgt1", True)


@pytest.mark.parametrize("kind", ChangeKind)
@pytest.mark.parametrize("last", [None, DONE, replace(UNDER_WAY, done=True)])
def test_change_begins_where_none_is_under_way(last: Change | None, kind: ChangeKind) -> None:
    """Whichever kind the last one was."""
    assert begin(last, kind, MGT2, "mgt1") == Change(kind, "mgt2", "2f", "mgt1", False)


@pytest.mark.parametrize("kind", ChangeKind)
@pytest.mark.parametrize("last", [UNDER_WAY, replace(DONE, done=False)])
def test_change_beside_another_one_is_an_error(last: Change, kind: ChangeKind) -> None:
    """Also beside the same one again: who asks for that gets the one that has begun."""
    with pytest.raises(TransitionError, match=rf"{kind.value} cannot begin: .*under way.*mgt3"):
        begin(last, kind, MGT2, "mgt1")


@pytest.mark.parametrize("kind", ChangeKind)
def test_change_is_made_once(kind: ChangeKind) -> None:
    """It is the same one, but done, and the next one may begin."""
    begun = begin(None, kind, MGT2, "mgt1")
    made = make(begun)
    assert made == replace(begun, done=True)
    assert not begin(made, kind, MGT2, "mgt1").done
    with pytest.raises(TransitionError, match="cannot be made twice"):
        make(made)


@pytest.mark.parametrize(
    ("kind", "under_way", "after"),
    [
        (ChangeKind.REMOVE, MGT2, None),
        (
            ChangeKind.DEMOTE,
            replace(MGT2, target=Role.NONVOTING),
            replace(MGT2, role=Role.NONVOTING, target=Role.NONVOTING, member_id=""),
        ),
    ],
)
def test_record_says_what_is_to_become_of_its_server(
    kind: ChangeKind, under_way: MemberRecord, after: MemberRecord | None
) -> None:
    """Who is demoted is told before; of who is removed nothing is left."""
    assert EFFECTS.keys() == set(ChangeKind)
    assert EFFECTS[kind].begun(MGT2) == under_way
    assert EFFECTS[kind].made(under_way) == after


def test_nobody_else_begins_or_makes_a_change() -> None:
    """The store writes what is begun and made here, and nothing of its own."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path != Path(changes.__file__):
                called = ast.unparse(node.func)
                writes = any(keyword.arg == "done" for keyword in node.keywords)
                if called == "Change" or (called.endswith("replace") and writes):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found
