"""The forms of what crosses the doors."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collective.errors import ProtocolError
from collective.protocol import messages
from collective.protocol.messages import Message, Part, ServerStatus, check_format

NUMBER = st.integers(0, (1 << 63) - 1)
TEXT = st.text(max_size=20)
STATUS = ServerStatus(
    name="mgt1",
    release="1.0",
    etcd_version="3.5.16",
    member_id="8e9e05c52164694d",
    leader="8e9e05c52164694d",
    term=2,
    index=30,
    applied=30,
    db_size=20480,
    learner=False,
    certificate="ab" * 32,
    errors=(),
)


@given(
    st.builds(
        ServerStatus,
        name=TEXT,
        release=TEXT,
        etcd_version=TEXT,
        member_id=TEXT,
        leader=TEXT,
        term=NUMBER,
        index=NUMBER,
        applied=NUMBER,
        db_size=NUMBER,
        learner=st.booleans(),
        certificate=TEXT,
        errors=st.lists(TEXT, max_size=3).map(tuple),
    )
)
def test_status_comes_back_from_the_wire(status: ServerStatus) -> None:
    """Numbers of 64 bits and texts of every kind are whole at the other end."""
    assert ServerStatus.from_wire(json.loads(json.dumps(status.to_wire()))) == status


def test_status_of_a_later_release_is_read() -> None:
    """What it adds is passed over."""
    assert ServerStatus.from_wire({**STATUS.to_wire(), "mood": "good"}) == STATUS


NEEDED = [f.name for f in fields(ServerStatus) if f.default is MISSING]


def test_status_of_an_older_release_is_read() -> None:
    """It lacks what was added later, and nothing else."""
    wire = {key: value for key, value in STATUS.to_wire().items() if key in ("format", *NEEDED)}
    assert ServerStatus.from_wire(wire) == STATUS


@pytest.mark.parametrize("field", ["format", *NEEDED])
def test_status_without_a_field_is_refused(field: str) -> None:
    """Each of those of the first release is needed."""
    wire = STATUS.to_wire()
    del wire[field]
    with pytest.raises(ProtocolError):
        ServerStatus.from_wire(wire)


@pytest.mark.parametrize(
    ("field", "value"),
    [("term", "x"), ("index", None), ("applied", []), ("db_size", {}), ("errors", None)],
)
def test_status_with_a_wrong_value_is_refused(field: str, value: object) -> None:
    """What is no number is not one later, in a decision."""
    with pytest.raises(ProtocolError, match="a status is broken"):
        ServerStatus.from_wire({**STATUS.to_wire(), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", None), ("member_id", 5), ("leader", {"a": 1}), ("learner", "no"), ("errors", "abc")],
)
def test_status_with_a_value_of_another_type_is_refused(field: str, value: object) -> None:
    """A status that exists is valid, so ``healthy`` means what it says."""
    with pytest.raises(ProtocolError):
        ServerStatus.from_wire({**STATUS.to_wire(), field: value})


@pytest.mark.parametrize(
    ("member_id", "leader", "healthy"),
    [("a", "a", True), ("a", "b", True), ("a", "", False), ("", "b", False), ("", "", False)],
)
def test_server_is_healthy_with_an_etcd_and_a_leader(
    member_id: str, leader: str, healthy: bool
) -> None:
    """An etcd that knows no leader serves nobody."""
    wire = {**STATUS.to_wire(), "member_id": member_id, "leader": leader}
    assert ServerStatus.from_wire(wire).healthy is healthy


def test_newer_format_is_refused_with_what_to_do() -> None:
    """It is never misread."""
    with pytest.raises(ProtocolError, match="format 2") as caught:
        check_format({"format": messages.FORMAT + 1})
    assert "upgrade" in str(caught.value.hint)
    check_format({"format": messages.FORMAT})


@pytest.mark.parametrize("raw", [{}, {"format": None}, {"format": "1"}, {"format": 1.0}])
def test_message_without_a_format_is_refused(raw: dict[str, Any]) -> None:
    """Whoever sends that speaks another protocol."""
    with pytest.raises(ProtocolError):
        check_format(raw)


# Kinds of fields --------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneText(Message):
    """A field of text."""

    k: Annotated[str, messages.within(10)]


@dataclass(frozen=True)
class OnePort(Message):
    """A TCP port."""

    k: messages.Port


@pytest.mark.parametrize("value", ["", "a", "x" * 10])
def test_text_field_is_returned(value: str) -> None:
    """Up to its longest, which counts too."""
    assert OneText.from_wire({"format": 1, "k": value}).k == value


@pytest.mark.parametrize(
    "raw", [{}, {"k": None}, {"k": 3}, {"k": ["a"]}, {"k": "x" * 11}, {"k": "\ud800"}]
)
def test_bad_text_field_is_refused(raw: dict[str, Any]) -> None:
    """Missing, of another type, too long, or half of a surrogate pair."""
    with pytest.raises(ProtocolError, match="'k'"):
        OneText.from_wire({"format": 1, **raw})


@pytest.mark.parametrize("value", [1, 13002, 65535])
def test_port_field_is_returned(value: int) -> None:
    """Every port that TCP has."""
    assert OnePort.from_wire({"format": 1, "k": value}).k == value


@pytest.mark.parametrize("value", [None, 0, -1, 65536, True, "13002", 1.5, [1]])
def test_bad_port_field_is_refused(value: object) -> None:
    """True is 1 in Python, and no port all the same."""
    with pytest.raises(ProtocolError, match="'k'"):
        OnePort.from_wire({"format": 1, "k": value})


def test_refusal_does_not_repeat_what_came_in() -> None:
    """A message may hold a secret in the wrong field."""
    with pytest.raises(ProtocolError) as caught:
        OneText.from_wire({"format": 1, "k": "s3cret" * 9000})
    assert "s3cret" not in str(caught.value)


# All messages -----------------------------------------------------------------------------------

ONE = "ab" * 32
VOTER = {
    "name": "mgt1",
    "address": "10.0.0.1",
    "door_port": 13002,
    "peer_port": 13003,
    "fingerprint": ONE,
}
NEEDED_BY: dict[type[Part], dict[str, Any]] = {
    messages.Message: {},
    messages.Challenge: {"nonce": "00"},
    messages.Claim: {
        "name": "mgt9",
        "role": "invited",
        "certificate": "PEM",
        "addresses": ["10.0.0.9"],
        "door_port": 13002,
        "peer_port": 13003,
        "signature": "00ff",
    },
    messages.Voter: VOTER,
    messages.Prospect: {},
    messages.ClaimQuestion: {"name": "mgt9", "certificate": ONE},
    messages.ClaimAnswer: {"claimed": True},
    messages.AdmissionStep: {"step": "record"},
    messages.Admission: {"cluster_token": "t", "view": "{}"},
    messages.Learner: {"cluster_token": "t", "member_id": "1f", "initial_cluster": "a=b"},
    messages.GivenUp: {"removed": True},
    messages.Replaced: {"certificate": "PEM", "signature": "00ff"},
    messages.Former: {"steps": [{"certificate": "PEM", "signature": "00ff"}]},
    messages.RevocationQuestion: {"fingerprint": ONE},
    messages.RevocationAnswer: {"deleted": False},
    messages.ServerStatus: {k: v for k, v in STATUS.to_wire().items() if k in NEEDED},
    messages.Sync: {"revision": 5},
    messages.Synced: {"wants": ""},
    messages.Remembered: {"view": "{}", "member_id": "1f", "term": 2, "index": 3},
    messages.Myself: {"record": "{}"},
    messages.NextCertificate: {"certificate": ""},
    messages.Recorded: {"revision": 5},
    messages.NewAddress: {"address": "fd00::1", "certificate": "PEM"},
    messages.Whereabouts: {"places": {"mgt1": "10.0.0.1", "mgt2": 5}},
    messages.EtcdCall: {"body": {"key": "a"}},
    messages.SentCommand: {"command": "invite", "arguments": {"server": "mgt2"}},
    messages.Greeting: {"name": "mgt1", "address": "10.0.0.1", "fingerprint": ONE, "until": 2.5},
}
MORE: dict[type[Part], dict[str, Any]] = {
    messages.Challenge: {
        "guests": [{ONE: "mgt1"}],
        "name": "mgt1",
        "release": "1.0",
        "now": 5.5,
        "seen": "10.0.0.9",
    },
    messages.Claim: {"dry_run": True},
    messages.Voter: {"broken": True},
    messages.Prospect: {
        "members": [{**VOTER, "broken": False}],
        "role": "voter",
        "forecast": {"before": {}},
        "pauses": 2,
        "findings": [{"check": "x", "ok": True}],
        "certify": ["10.0.0.9"],
    },
    messages.ClaimAnswer: {"collective": ONE, "voters": [f"{ONE} https://10.0.0.1:13003"]},
    messages.AdmissionStep: {"address": "10.0.0.9:13002", "member_id": "1f"},
    messages.Admission: {"member_id": "1f", "initial_cluster": "a=b"},
    messages.ServerStatus: {"durable_term": 3, "nonvoting": True, "addresses": ["10.0.0.1"]},
    messages.Myself: {"change": "remove"},
    messages.NewAddress: {"prepare": True},
    messages.Whereabouts: {"certificate": "PEM"},
    messages.EtcdCall: {"seconds": 2.5},
}
each_message = pytest.mark.parametrize("cls", NEEDED_BY, ids=lambda cls: cls.__name__)


def wire_of(cls: type[Part], with_more: bool = True) -> dict[str, Any]:
    form = {"format": 1} if issubclass(cls, Message) else {}
    return {**form, **NEEDED_BY[cls], **(MORE.get(cls, {}) if with_more else {})}


def test_every_message_is_in_the_table() -> None:
    """Whoever adds one says here what it looks like."""
    found = {each for each in vars(messages).values() if isinstance(each, type)}
    assert {each for each in found if issubclass(each, Part)} - {Part} == set(NEEDED_BY)


@each_message
def test_message_is_written_as_it_was_read(cls: type[Part]) -> None:
    """Servers one release apart know these names and these forms."""
    wire, written = wire_of(cls), cls.from_wire(wire_of(cls)).to_wire()
    assert {key: written[key] for key in wire} == wire
    assert cls.from_wire(json.loads(json.dumps(written))) == cls.from_wire(wire)


@each_message
def test_message_of_a_later_release_is_read(cls: type[Part]) -> None:
    """What it adds is passed over; of an older one, what was added later is wanting."""
    assert cls.from_wire({**wire_of(cls), "mood": ["good"]}) == cls.from_wire(wire_of(cls))
    cls.from_wire(wire_of(cls, with_more=False))


@each_message
def test_message_without_a_field_that_it_needs_is_refused(cls: type[Part]) -> None:
    """Also without its format; and a newer format is never misread."""
    for name in wire_of(cls, with_more=False):
        with pytest.raises(ProtocolError):
            cls.from_wire({key: v for key, v in wire_of(cls).items() if key != name})
    if issubclass(cls, Message):
        with pytest.raises(ProtocolError, match="format 2"):
            cls.from_wire({**wire_of(cls), "format": 2})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "x" * 9000, 1 << 64, -1, ONE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


# All are read by one parser, which ``model/test_typed.py`` tries with much more.
@each_message
@settings(max_examples=25)
@given(data=st.data())
def test_any_json_is_a_message_or_refused(cls: type[Part], data: st.DataObject) -> None:
    """Nothing else leaves, whatever a stranger sends: and what is taken can be written."""
    wire: Any = wire_of(cls)
    names = st.sampled_from([*wire, "x"])
    raw = data.draw(JSON | st.dictionaries(names, JSON).map(lambda changes: {**wire, **changes}))
    try:
        taken = cls.from_wire(raw)
    except ProtocolError:
        return
    assert cls.from_wire(taken.to_wire()) == taken


def test_word_for_not_yet_never_changes() -> None:
    """A joiner one release apart waits for its turn when it hears this."""
    assert messages.BUSY == "busy"


def test_paths_never_change() -> None:
    """Servers one release apart ask each other under them."""
    assert [
        messages.CHALLENGE,
        messages.CLAIM,
        messages.CONFIRM,
        messages.ADMIT,
        messages.SUCCESSION,
        messages.DELETED,
        messages.STATUS,
        messages.SYNC,
        messages.LEAVE,
        messages.HAND_OVER,
        messages.GIVE_UP,
        messages.RETURN,
        messages.SELF,
        messages.WHEREABOUTS,
        messages.CALL,
        messages.CERTIFICATE,
        messages.COMMAND,
        messages.LEARNER,
        messages.ETCD,
        messages.READDRESS,
    ] == [
        "/v1/enroll/challenge",
        "/v1/enroll/claim",
        "/v1/enroll/confirm",
        "/v1/enroll/admit",
        "/v1/succession",
        "/v1/deleted",
        "/v1/status",
        "/v1/sync",
        "/v1/leave",
        "/v1/hand-over",
        "/v1/give-up",
        "/v1/return",
        "/v1/self",
        "/v1/whereabouts",
        "/v1/call",
        "/v1/certificate",
        "/v1/command",
        "/v1/learner",
        "/v1/etcd",
        "/v1/readdress",
    ]
