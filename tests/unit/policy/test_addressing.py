"""Which address may a server have, and which one is meant: tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.errors import RefusedError
from collective.model.records import Change, ChangeKind, MemberRecord, Role, to_json
from collective.model.view import CHANGE_KEY, Item, View, member_key
from collective.policy.addressing import OwnAddresses, check_readdress, new_address

LOCAL = ("127.0.0.1", "10.0.0.5", "10.1.0.5", "fd00::5")


@pytest.mark.parametrize(
    ("current", "setting", "local", "sources", "expected"),
    [
        ("10.0.0.5", None, LOCAL, (), None),
        ("10.0.0.5", "10.0.0.5", LOCAL, (), None),
        ("10.0.0.4", "10.0.0.5", LOCAL, (), "10.0.0.5"),
        ("127.0.0.2", "127.0.0.9", LOCAL, (), "127.0.0.9"),
        ("10.0.0.4", None, LOCAL, ("10.0.0.5", "10.0.0.5"), "10.0.0.5"),
        ("10.0.0.4", None, ("127.0.0.1", "10.0.0.5", "fd00::5"), (), "10.0.0.5"),
        ("fd00::4", None, LOCAL, ("10.0.0.5",), "fd00::5"),
        ("127.0.0.2", None, LOCAL, (), None),
    ],
)
def test_address_is_changed_where_only_one_can_be_meant(
    current: str,
    setting: str | None,
    local: tuple[str, ...],
    sources: tuple[str, ...],
    expected: str | None,
) -> None:
    """The setting counts first; then the one that leads to the others; then the only one."""
    assert new_address(OwnAddresses(current, setting, local, sources)) == expected


@pytest.mark.parametrize(
    ("current", "setting", "local", "sources"),
    [
        ("10.0.0.4", None, LOCAL, ()),
        ("10.0.0.4", None, LOCAL, ("10.0.0.5", "10.1.0.5")),
        ("10.0.0.4", None, ("127.0.0.1", "fd00::5"), ()),
        ("10.0.0.4", None, ("127.0.0.1",), ("127.0.0.1",)),
        ("10.0.0.4", "10.9.9.9", LOCAL, ("10.0.0.5",)),
    ],
)
def test_address_is_not_guessed_where_several_can_be_meant(
    current: str, setting: str | None, local: tuple[str, ...], sources: tuple[str, ...]
) -> None:
    """Two candidates, none of the family, or a setting that is not here: a person decides."""
    with pytest.raises(RefusedError):
        new_address(OwnAddresses(current, setting, local, sources))


def member(name: str, address: str, role: Role = Role.VOTER) -> MemberRecord:
    return MemberRecord(name, name, role, address, 1, 2, (), 0.0)


def view(*members: MemberRecord, change: Change | None = None) -> View:
    items = {member_key(m.name): Item(to_json(m).encode(), 1) for m in members}
    if change is not None:
        items[CHANGE_KEY] = Item(to_json(change).encode(), 1)
    return View(1, items)


TWO = (member("mgt1", "10.0.0.1"), member("mgt2", "10.0.0.2"))
CHANGE = Change(ChangeKind.REMOVE, "mgt3", "3", "mgt1", done=False)


def test_member_may_get_an_address_that_is_nobodys() -> None:
    """Its own one again is nothing new, so that a change that was cut off can be repeated."""
    assert check_readdress(view(*TWO), "mgt2", "10.0.0.9") == TWO[1]
    assert check_readdress(view(*TWO), "mgt2", "10.0.0.2") == TWO[1]
    done = replace(CHANGE, done=True)
    assert check_readdress(view(*TWO, change=done), "mgt2", "10.0.0.9") == TWO[1]


def test_server_that_is_alone_may_leave_loopback() -> None:
    """Whoever installed it before there was a network."""
    alone = member("mgt1", "127.0.0.1")
    assert check_readdress(view(alone), "mgt1", "10.0.0.1") == alone


@pytest.mark.parametrize(
    ("records", "name", "address", "words"),
    [
        (view(*TWO), "mgt3", "10.0.0.9", "not a member"),
        (view(*TWO, member("mgt3", "10.0.0.3", Role.LEARNER)), "mgt3", "10.0.0.9", "taken in"),
        (view(*TWO, change=CHANGE), "mgt2", "10.0.0.9", "another change is under way"),
        (view(*TWO), "mgt2", "10.0.0.1", "address of mgt1"),
        (view(*TWO), "mgt2", "127.0.0.2", "loopback"),
    ],
)
def test_address_that_would_do_harm_is_refused(
    records: View, name: str, address: str, words: str
) -> None:
    """No stranger, no learner, no change beside another, nobody else's, no mixed loopback."""
    with pytest.raises(RefusedError, match=words):
        check_readdress(records, name, address)
