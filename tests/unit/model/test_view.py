"""The view: one revision of the store, and what follows from it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import ProtocolError
from collective.model.records import (
    Change,
    ChangeKind,
    Invitation,
    LoadedTrust,
    MemberRecord,
    Revocation,
    Role,
    Turn,
    to_json,
)
from collective.model.view import (
    CHANGE_KEY,
    PREFIX,
    TURN_KEY,
    Item,
    View,
    invitation_key,
    loaded_key,
    member_key,
    revoked_key,
)
from tests.unit.identities import identity

KEYS = st.sampled_from([PREFIX + name for name in "abcd"])
ITEMS = st.builds(Item, st.binary(max_size=2), st.integers(1, 50), st.integers(0, 2))
EVENTS = st.tuples(st.dictionaries(KEYS, ITEMS, max_size=3), st.sets(KEYS, max_size=2))


def member(name: str, role: Role = Role.VOTER, member_id: str = "1") -> MemberRecord:
    return MemberRecord(name, member_id, role, "10.0.0.1", 13002, 13003, (), 0.0)


def view_of(**records: MemberRecord) -> View:
    items = {member_key(k): Item(to_json(v).encode(), 3, 9) for k, v in records.items()}
    return View(5, items)


@given(st.dictionaries(KEYS, ITEMS), st.lists(EVENTS, max_size=5))
def test_view_after_events_is_what_a_dict_would_be(
    start: dict[str, Item], batches: list[tuple[dict[str, Item], set[str]]]
) -> None:
    """Puts, then deletes, batch by batch; a view that was there before stays as it was."""
    view, model = View(1, dict(start)), dict(start)
    for revision, (puts, deletes) in enumerate(batches, 2):
        before, copy = view, dict(view.items)
        view = view.updated(revision, puts, sorted(deletes))
        model.update(puts)
        for key in deletes:
            model.pop(key, None)
        assert (view.revision, dict(view.items)) == (revision, model)
        assert dict(before.items) == copy


def test_deletes_may_be_an_iterator() -> None:
    """The annotation says iterable, so one that can be read only once is as good as a set."""
    view = View(1, {"a": Item(b"", 1), "b": Item(b"", 1)})
    assert not view.updated(2, {}, iter(["a", "b"])).items


@given(st.dictionaries(KEYS, ITEMS), KEYS)
def test_revision_and_lease_of_a_key_are_0_where_it_is_absent(
    items: dict[str, Item], key: str
) -> None:
    """Zero is what etcd's compare wants for "absent"."""
    item = items.get(key, Item(b"", 0, 0))
    view = View(9, items)
    assert (view.mod_revision(key), view.lease(key)) == (item.mod_revision, item.lease)


def test_keys_never_change() -> None:
    """They are in stores of collectives that run."""
    assert member_key("mgt1") == "collective/v1/members/mgt1"
    assert invitation_key("mgt1") == "collective/v1/invitations/mgt1"
    assert revoked_key("a1") == "collective/v1/revoked/a1"
    assert loaded_key("mgt1") == "collective/v1/trust/mgt1"
    assert CHANGE_KEY == "collective/v1/change"
    assert TURN_KEY == "collective/v1/turn"


def test_view_sorts_records_by_kind() -> None:
    """Each record is found under its name, in its kind alone; other keys are passed over."""
    one = member("mgt1")
    invitation = Invitation("mgt2", Role.VOTER, "ab", "mgt1", 0.0, 1.0)
    revocation = Revocation("a1", "mgt3", 0.0)
    change = Change(ChangeKind.REMOVE, "mgt3", "1", "mgt1", True)
    loaded = LoadedTrust("mgt1", ("a1", "b1"))
    turn = Turn("mgt1", "taking up mgt2")
    stored = {
        member_key("mgt1"): one,
        invitation_key("mgt2"): invitation,
        revoked_key("a1"): revocation,
        CHANGE_KEY: change,
        loaded_key("mgt1"): loaded,
        TURN_KEY: turn,
    }
    items = {key: Item(to_json(r).encode(), 1) for key, r in stored.items()}  # type: ignore[arg-type]
    view = View(1, {**items, PREFIX + "of-a-later-release": Item(b"?", 1)})
    assert dict(view.members) == {"mgt1": one}
    assert dict(view.invitations) == {"mgt2": invitation}
    assert dict(view.revoked) == {"a1": revocation}
    assert view.change == change
    assert dict(view.loaded) == {"mgt1": loaded}
    assert view.turn == turn


def test_invitation_of_who_is_no_member_any_more_is_none() -> None:
    """Who was deleted has the tokens that it made, however many."""
    invitation = Invitation("mgt2", Role.VOTER, "ab", "mgt9", 0.0, 1.0)
    item = Item(to_json(invitation).encode(), 1)
    members = {member_key("mgt1"): Item(to_json(member("mgt1")).encode(), 1)}
    assert not View(1, {**members, invitation_key("mgt2"): item}).invitations


def test_empty_view_has_nothing() -> None:
    """A store that nobody wrote to is no error."""
    view = View(1)
    assert [*view.members, *view.invitations, *view.revoked, *view.voters] == []
    assert not view.loaded
    assert not view.unreadable
    assert not view.certificates
    assert view.change is None
    assert view.turn is None
    assert view.newest == 0
    assert view.by_member_id("1") is None


def test_voters_are_those_that_count() -> None:
    """A learner and a server that does not vote are members, and no voters."""
    view = view_of(
        a=member("a"), b=member("b", Role.LEARNER, "2"), c=member("c", Role.NONVOTING, "")
    )
    assert set(view.members) == {"a", "b", "c"}
    assert set(view.voters) == {"a"}
    found = view.by_member_id("2")
    assert found is not None
    assert found.name == "b"
    assert view.by_member_id("3") is None


def broken(**changes: Any) -> bytes:
    """Return the record of mgt9 with something wrong in it."""
    return json.dumps({**json.loads(to_json(member("mgt9"))), **changes}).encode()


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (b"", "is broken"),
        (b"\xff\xfe", "is broken"),
        (b"[" * 100_000, "is broken"),
        (broken(format=2), "has format 2"),
        (broken(format=float("inf")), "is broken"),
        (broken(role="king"), "is broken"),
        (broken(certificates="abc"), "is broken"),
        (broken(certificates=None), "is broken"),
        (broken(certificates=[1]), "is broken"),
        (broken(name="mgt1"), "its record is for 'mgt1'"),
        (broken(name="x" * 9000), "its record is for 'xxx"),
    ],
)
def test_record_that_cannot_be_read_leaves_its_member_out_and_names_it(
    stored: bytes, says: str
) -> None:
    """That member alone: everybody else's record is as good as before."""
    view = view_of(mgt1=member("mgt1")).updated(6, {member_key("mgt9"): Item(stored, 6)}, ())
    assert dict(view.members) == {"mgt1": member("mgt1")}
    assert set(view.voters) == {"mgt1"}
    assert view.unreadable.keys() == {"mgt9"}
    assert says in view.unreadable["mgt9"]
    assert len(view.unreadable["mgt9"]) < 500
    assert "mgt9" not in view.certificates.values()


def test_member_whose_record_cannot_be_read_is_remembered_so() -> None:
    """It is not taken for one that was deleted."""
    stored = broken(format=2)
    view = view_of(mgt1=member("mgt1")).updated(6, {member_key("mgt9"): Item(stored, 6)}, ())
    back = View.from_json(view.to_json("ours"), "ours")
    assert dict(back.members) == dict(view.members)
    assert dict(back.unreadable) == dict(view.unreadable)


def test_broken_record_of_another_kind_is_a_protocol_error_where_it_is_read() -> None:
    """It stops what needs its kind, and nothing else."""
    view = View(1, {invitation_key("a"): Item(b'{"format": 2}', 1)})
    with pytest.raises(ProtocolError):
        _ = view.invitations
    assert not view.members
    assert not view.revoked


def test_certificates_are_those_that_records_list_and_nobody_has_revoked() -> None:
    """Each with whose it is; one that cannot be read is nobody's."""
    old, new, other = (identity(name, number=n) for name, n in (("a", 1), ("a", 2), ("b", 1)))
    one = dataclasses.replace(member("a"), certificates=(old.pem, new.pem))
    two = dataclasses.replace(member("b"), certificates=(other.pem, "no certificate"))
    view = view_of(a=one, b=two)
    assert dict(view.certificates) == {
        old.fingerprint: "a",
        new.fingerprint: "a",
        other.fingerprint: "b",
    }
    gone = Item(to_json(Revocation(old.fingerprint, "a", 0.0)).encode(), 6)
    after = view.updated(6, {revoked_key(old.fingerprint): gone}, ())
    assert dict(after.certificates) == {new.fingerprint: "a", other.fingerprint: "b"}


def test_newest_is_the_revision_of_the_newest_record() -> None:
    """The store's own counts the keys of others, too."""
    view = view_of(a=member("a")).updated(9, {member_key("b"): Item(b"", 7)}, ())
    assert (view.revision, view.newest) == (9, 7)


ONE = member("mgt1")
REMEMBERED = View(
    7,
    {
        member_key("mgt1"): Item(to_json(ONE).encode(), 3, 9),
        revoked_key("a1"): Item(to_json(Revocation("a1", "mgt3", 0.0)).encode(), 4),
        invitation_key("mgt2"): Item(
            to_json(Invitation("mgt2", Role.VOTER, "ab", "mgt1", 0.0, 1.0)).encode(), 5
        ),
        CHANGE_KEY: Item(to_json(Change(ChangeKind.REMOVE, "x", "1", "y", True)).encode(), 6),
    },
)


def test_remembered_view_has_members_and_revocations_and_no_more() -> None:
    """Who may come in is known without a quorum; invitations are the store's alone."""
    view = View.from_json(REMEMBERED.to_json("ours"), "ours")
    assert view.revision == 7
    assert dict(view.members) == {"mgt1": ONE}
    assert set(view.revoked) == {"a1"}
    assert view.mod_revision(member_key("mgt1")) == 3
    assert (dict(view.invitations), view.change) == ({}, None)


def test_memory_of_another_collective_is_an_empty_view() -> None:
    """Its revisions and its members say nothing here."""
    assert View.from_json(REMEMBERED.to_json("theirs"), "ours") == View(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"items": []},
        {"items": {"collective/v1/members/a": []}},
        {"items": {"collective/v1/revoked/a": ["{}", 1]}},
        {"items": {"collective/v1/members/a": ["\ud800", 1]}},
        {"revision": None},
        {"revision": "x"},
    ],
)
def test_broken_memory_is_an_empty_view(changes: dict[str, Any]) -> None:
    """To whoever can do without; ``View.read`` tells it from one of another collective."""
    text = json.dumps({**json.loads(REMEMBERED.to_json("ours")), **changes})
    assert View.from_json(text, "ours") == View(0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.text(max_size=20) | JSON.map(json.dumps))
def test_any_memory_is_survived(text: str) -> None:
    """Whatever the disk gives back, it is a view."""
    assert View.from_json(text, "ours") == View(0)


def test_view_cannot_be_changed() -> None:
    """A decision is made on one view; nobody may change it meanwhile."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        View(1).revision = 2  # type: ignore[misc]
