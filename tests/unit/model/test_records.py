"""The records and their JSON."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import ProtocolError
from collective.model.records import (
    FORMAT,
    MOST_CERTIFICATES,
    Change,
    ChangeKind,
    Invitation,
    LoadedTrust,
    MemberRecord,
    Record,
    Revocation,
    Role,
    Turn,
    from_json,
    to_json,
)
from tests.unit.identities import Identity, identity

TEXT = st.text(max_size=20)
TIME = st.floats(allow_nan=False, allow_infinity=False)
PORT = st.integers(1, 65535)
ROLE = st.sampled_from(Role)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
MEMBERS = st.builds(
    MemberRecord,
    *(TEXT, TEXT, ROLE, TEXT, PORT, PORT, TEXTS, TIME, ROLE),
    fallback=st.one_of(st.none(), ROLE),
)
CLAIMED = st.one_of(st.none(), TEXT)
INVITATIONS = st.builds(Invitation, TEXT, ROLE, TEXT, TEXT, TIME, TIME, CLAIMED, TEXTS)
KIND = st.sampled_from(ChangeKind)
CHANGES = st.builds(Change, KIND, TEXT, TEXT, TEXT, st.booleans())
REVOCATIONS = st.builds(Revocation, TEXT, TEXT, TIME)
LOADED = st.builds(LoadedTrust, TEXT, TEXTS)
TURNS = st.builds(Turn, TEXT, TEXT)

MEMBER = MemberRecord(
    "mgt1", "8e9e05c52164694d", Role.VOTER, "10.0.0.1", 13002, 13003, ("PEM",), 5.5
)
INVITATION = Invitation("mgt2", Role.VOTER, "ab" * 32, "mgt1", 1.0, 3601.0)
CHANGE = Change(ChangeKind.REMOVE, "mgt3", "1f", "mgt1", False)
REVOCATION = Revocation("a1", "mgt3", 7.0)
TRUST = LoadedTrust("mgt1", ("a1", "b2"))
TURN = Turn("mgt1", "taking up mgt2")
EXAMPLES: list[Record] = [MEMBER, INVITATION, CHANGE, REVOCATION, TRUST, TURN]
each_example = pytest.mark.parametrize("record", EXAMPLES, ids=lambda r: type(r).__name__)


@given(st.one_of(MEMBERS, INVITATIONS, CHANGES, REVOCATIONS, LOADED, TURNS))
def test_record_comes_back_from_its_json(record: Any) -> None:
    """Nothing is lost or changed on the way through the store, whatever the values."""
    back = from_json(type(record), to_json(record))
    assert back == record
    assert hash(back) == hash(record)
    assert from_json(type(record), to_json(record).encode()) == record


# What stands in stores of this release: a change here breaks collectives that run.
STORED = [
    (
        MEMBER,
        '{"address": "10.0.0.1", "certificates": ["PEM"], "door_port": 13002, "fallback": null, '
        '"format": 1, "joined": 5.5, '
        '"member_id": "8e9e05c52164694d", "name": "mgt1", "peer_port": 13003, '
        '"role": "voter", "target": "voter"}',
    ),
    (
        INVITATION,
        '{"claimed_by": null, "expires": 3601.0, "format": 1, "guests": [], "issued": 1.0, '
        '"issuer": "mgt1", '
        f'"name": "mgt2", "public_key": "{"ab" * 32}", "role": "voter"}}',
    ),
    (
        CHANGE,
        '{"by": "mgt1", "done": false, "format": 1, "kind": "remove", '
        '"member_id": "1f", "name": "mgt3"}',
    ),
    (REVOCATION, '{"fingerprint": "a1", "format": 1, "name": "mgt3", "when": 7.0}'),
    (TRUST, '{"fingerprints": ["a1", "b2"], "format": 1, "name": "mgt1"}'),
    (TURN, '{"doing": "taking up mgt2", "format": 1, "name": "mgt1"}'),
]
#: Fields that may miss: they have a default.
LATER = {
    MemberRecord: ("target", "fallback"),
    Invitation: ("claimed_by", "guests"),
}


@pytest.mark.parametrize(("record", "text"), STORED, ids=lambda r: type(r).__name__)
def test_stored_form_never_changes(record: Any, text: str) -> None:
    """The JSON of format 1 is byte for byte what it was."""
    assert to_json(record) == text
    assert from_json(type(record), text) == record


def test_values_of_enums_never_change() -> None:
    """They are in stores and on the wire."""
    assert [role.value for role in Role] == ["voter", "learner", "nonvoting"]
    assert [kind.value for kind in ChangeKind] == ["remove", "demote"]


def changed(record: Record, **values: Any) -> str:
    return json.dumps({**json.loads(to_json(record)), **values})


@each_example
def test_newer_format_is_refused_with_what_to_do(record: Any) -> None:
    """It is never misread, even where all known fields are there."""
    with pytest.raises(ProtocolError, match=f"has format {FORMAT + 1}") as caught:
        from_json(type(record), changed(record, format=FORMAT + 1))
    assert "upgrade" in str(caught.value.hint)


@each_example
def test_unknown_field_is_kept_out(record: Any) -> None:
    """A later release of the same format may add some."""
    assert from_json(type(record), changed(record, new_field={"a": 1})) == record


@each_example
def test_missing_field_is_refused(record: Any) -> None:
    """Each field is needed that has no default, and so is the format."""
    for name in ["format", *(f.name for f in fields(record) if f.default is MISSING)]:
        raw = json.loads(to_json(record))
        del raw[name]
        with pytest.raises(ProtocolError, match="is broken"):
            from_json(type(record), json.dumps(raw))


@each_example
def test_record_of_an_earlier_release_is_read(record: Any) -> None:
    """The fields that came later, and no others, may miss; they have their default then."""
    later = LATER.get(type(record), ())
    assert [f.name for f in fields(record) if f.default is not MISSING] == list(later)
    raw = json.loads(to_json(record))
    for name in later:
        del raw[name]
    assert from_json(type(record), json.dumps(raw)) == record


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"text"',
        "{}",
        b"\xff\xfe\x00",
        '{"format": null}',
        '{"format": "one"}',
        '{"format": []}',
        changed(MEMBER, role="king"),
        changed(MEMBER, role=None),
        changed(MEMBER, certificates=None),
        changed(MEMBER, certificates=3),
        changed(MEMBER, certificates=["PEM", 2]),
    ],
)
def test_broken_record_is_a_protocol_error(text: str | bytes) -> None:
    """Whatever stands in the store, no other error leaves."""
    with pytest.raises(ProtocolError):
        from_json(MemberRecord, text)


def test_format_without_an_end_is_a_protocol_error() -> None:
    """JSON of Python knows Infinity, which is no int."""
    with pytest.raises(ProtocolError):
        from_json(MemberRecord, '{"format": Infinity}')


def test_lists_that_are_texts_are_refused() -> None:
    """A text is not taken apart into letters: each of them would be a certificate."""
    with pytest.raises(ProtocolError):
        from_json(MemberRecord, changed(MEMBER, certificates="abc"))
    with pytest.raises(ProtocolError):
        from_json(LoadedTrust, changed(TRUST, fingerprints="abc"))
    with pytest.raises(ProtocolError):
        from_json(Invitation, changed(INVITATION, guests="abc"))


OLD, IN_USE, NEXT = (identity("mgt1", number=n) for n in (1, 2, 3))


def with_certificates(*held: Identity) -> MemberRecord:
    return replace(MEMBER, certificates=tuple(each.pem for each in held))


def test_fingerprints_are_those_of_the_certificates() -> None:
    """In their order; what is no certificate has none, and is never somebody's."""
    record = replace(with_certificates(OLD, NEXT), certificates=(OLD.pem, "?", NEXT.pem))
    assert record.fingerprints == (OLD.fingerprint, "", NEXT.fingerprint)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((IN_USE,), (IN_USE, NEXT)),
        ((IN_USE, OLD), (IN_USE, NEXT)),
        ((OLD, IN_USE), (IN_USE, NEXT)),
        ((OLD,), (NEXT,)),
    ],
    ids=["first", "in place of one that was to be it", "whatever the order", "shown by nobody"],
)
def test_next_certificate_stands_beside_the_one_in_use(
    before: tuple[Identity, ...], after: tuple[Identity, ...]
) -> None:
    """There are never more than two: a door lets in what is shown, and what is to be."""
    record = with_certificates(*before).with_next(NEXT.pem, IN_USE.fingerprint)
    assert record == with_certificates(*after)
    assert len(record.certificates) <= MOST_CERTIFICATES == 2


def test_only_certificate_is_the_one_that_is_named() -> None:
    """The others are dropped, and nothing else changes."""
    record = with_certificates(OLD, NEXT)
    assert record.with_only(NEXT.fingerprint) == with_certificates(NEXT)
    assert record.with_only(IN_USE.fingerprint) == with_certificates()


@pytest.mark.parametrize(
    ("role", "target", "peer"),
    [
        (Role.VOTER, Role.VOTER, True),
        (Role.LEARNER, Role.VOTER, True),
        (Role.LEARNER, Role.NONVOTING, False),
        (Role.NONVOTING, Role.VOTER, False),
        (Role.NONVOTING, Role.NONVOTING, False),
    ],
)
def test_etcd_lets_in_who_votes_or_is_taken_in_to_vote(
    role: Role, target: Role, peer: bool
) -> None:
    """A server without a vote is in no trust file of an etcd."""
    assert replace(MEMBER, role=role, target=target).is_peer is peer
    assert not replace(MEMBER, role=role, target=target).as_nonvoting().is_peer


@pytest.mark.parametrize(
    ("address", "url"),
    [("10.0.0.1", "https://10.0.0.1:13003"), ("fd00::1", "https://[fd00::1]:13003")],
)
def test_url_is_that_of_the_peer_door(address: str, url: str) -> None:
    """It is compared with what etcd lists, so it is written as etcd writes it."""
    assert replace(MEMBER, address=address).url == url


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_any_json_gives_a_record_or_a_protocol_error(value: Any) -> None:
    """No other error leaves."""
    with pytest.raises(ProtocolError):
        from_json(Revocation, json.dumps(value))
