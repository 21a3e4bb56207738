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
    MemberRecord,
    Phase,
    Record,
    Rekey,
    Revocation,
    Role,
    Turn,
    from_json,
    to_json,
)

TEXT = st.text(max_size=20)
TIME = st.floats(allow_nan=False, allow_infinity=False)
PORT = st.integers(1, 65535)
ROLE = st.sampled_from(Role)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
MEMBERS = st.builds(
    MemberRecord,
    *(TEXT, TEXT, ROLE, TEXT, PORT, PORT, TEXTS, TEXTS, TIME, ROLE),
    fallback=st.one_of(st.none(), ROLE),
    held_key=st.booleans(),
)
INVITATIONS = st.builds(Invitation, TEXT, ROLE, TEXT, TEXT, TIME, TIME, st.one_of(st.none(), TEXT))
KIND = st.sampled_from(ChangeKind)
CHANGES = st.builds(Change, KIND, TEXT, TEXT, TEXT, st.booleans(), st.booleans())
REVOCATIONS = st.builds(Revocation, TEXT, TEXT, TIME)
PHASE = st.sampled_from(Phase)
REKEYS = st.builds(Rekey, st.integers(1), PHASE, TEXT, TEXT, TEXT, TIME, st.booleans())
TURNS = st.builds(Turn, TEXT, TEXT)

MEMBER = MemberRecord(
    "mgt1", "8e9e05c52164694d", Role.VOTER, "10.0.0.1", 13002, 13003, ("a1",), ("f1",), 5.5
)
INVITATION = Invitation("mgt2", Role.VOTER, "ab" * 32, "mgt1", 1.0, 3601.0)
CHANGE = Change(ChangeKind.REMOVE, "mgt3", "1f", "mgt1", False)
REVOCATION = Revocation("a1", "mgt3", 7.0)
REKEY = Rekey(2, Phase.TRUST, "PEM", "mgt1", "mgt3 was deleted", 9.0)
TURN = Turn("mgt1", "re-keying")
EXAMPLES: list[Record] = [MEMBER, INVITATION, CHANGE, REVOCATION, REKEY, TURN]
each_example = pytest.mark.parametrize("record", EXAMPLES, ids=lambda r: type(r).__name__)


@given(st.one_of(MEMBERS, INVITATIONS, CHANGES, REVOCATIONS, REKEYS, TURNS))
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
        '{"address": "10.0.0.1", "door_port": 13002, "fallback": null, "fingerprints": ["f1"], '
        '"format": 1, "held_key": false, "joined": 5.5, '
        '"member_id": "8e9e05c52164694d", "name": "mgt1", "peer_port": 13003, '
        '"role": "voter", "serials": ["a1"], "target": "voter"}',
    ),
    (
        INVITATION,
        '{"claimed_by": null, "expires": 3601.0, "format": 1, "issued": 1.0, "issuer": "mgt1", '
        f'"name": "mgt2", "pin": "", "public_key": "{"ab" * 32}", "role": "voter"}}',
    ),
    (
        CHANGE,
        '{"by": "mgt1", "done": false, "format": 1, "kept_key": false, "kind": "remove", '
        '"member_id": "1f", '
        '"name": "mgt3", "rekey": false}',
    ),
    (REVOCATION, '{"format": 1, "name": "mgt3", "serial": "a1", "when": 7.0}'),
    (
        REKEY,
        '{"again": false, "began": 9.0, "by": "mgt1", "certificate": "PEM", "format": 1, '
        '"number": 2, "phase": "trust", "reason": "mgt3 was deleted"}',
    ),
    (TURN, '{"doing": "re-keying", "format": 1, "name": "mgt1"}'),
]
#: Fields that came later: a record of an earlier release has none of them.
LATER = {
    MemberRecord: ("target", "fallback", "held_key"),
    Invitation: ("claimed_by", "pin"),
    Change: ("rekey", "kept_key"),
    Rekey: ("again",),
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
    assert [phase.value for phase in Phase] == ["trust", "issue", "drop", "done"]


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
        changed(MEMBER, serials=None),
        changed(MEMBER, serials=3),
        changed(MEMBER, fingerprints=None),
        changed(MEMBER, fingerprints=3),
        changed(MEMBER, fingerprints=["f1", 2]),
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


def test_serials_that_are_no_list_are_refused() -> None:
    """A text is not taken apart into letters: each of them would be a serial number."""
    for field in ("serials", "fingerprints"):
        with pytest.raises(ProtocolError):
            from_json(MemberRecord, changed(MEMBER, **{field: "abc"}))


def with_certificates(count: int) -> MemberRecord:
    """Return a member with so many certificates, oldest first."""
    serials = tuple(f"a{n}" for n in range(count))
    return replace(MEMBER, serials=serials, fingerprints=tuple(f"f{n}" for n in range(count)))


def test_certificates_are_kept_up_to_sixteen() -> None:
    """Serials and fingerprints stay side by side, newest last, and nothing is revoked."""
    record = with_certificates(0)
    for n in range(16):
        record, revoked = record.certified(f"a{n}", f"f{n}")
        assert revoked == ()
    assert record == with_certificates(16)


@pytest.mark.parametrize("before", [16, 17, 40])
def test_certificates_that_are_too_many_are_to_be_revoked(before: int) -> None:
    """The oldest go, also several at once; what is kept and what is revoked is all there was."""
    record, revoked = with_certificates(before).certified("new", "print")
    assert len(record.serials) == len(record.fingerprints) == MOST_CERTIFICATES == 16
    assert (*revoked, *record.serials) == (*with_certificates(before).serials, "new")
    assert record.fingerprints == (*with_certificates(before).fingerprints[-15:], "print")
    assert replace(record, serials=("a1",), fingerprints=("f1",)) == MEMBER


def test_certificate_in_use_is_not_among_those_that_go() -> None:
    """Renewals that were written down and never heard of would revoke it in the end."""
    record, in_use = with_certificates(16), "a0"
    for n in range(30):
        record, revoked = record.certified(f"new{n}", f"print{n}", in_use)
        assert in_use not in revoked
        assert len(revoked) == 1
    assert record.serials[0] == in_use
    assert record.fingerprints[0] == "f0"
    assert record.serials[-1] == "new29"
    assert len(record.serials) == len(record.fingerprints) == MOST_CERTIFICATES


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
