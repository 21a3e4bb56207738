"""The forms of what crosses the doors."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import ProtocolError
from collective.protocol import messages
from collective.protocol.messages import ServerStatus, check_format

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


@pytest.mark.parametrize("value", ["", "a", "x" * 10])
def test_text_field_is_returned(value: str) -> None:
    """Up to its longest, which counts too."""
    assert messages.text({"k": value}, "k", longest=10) == value


@pytest.mark.parametrize(
    "raw", [{}, {"k": None}, {"k": 3}, {"k": ["a"]}, {"k": "x" * 11}, {"k": "\ud800"}]
)
def test_bad_text_field_is_refused(raw: dict[str, Any]) -> None:
    """Missing, of another type, too long, or half of a surrogate pair."""
    with pytest.raises(ProtocolError, match="'k'"):
        messages.text(raw, "k", longest=10)


@pytest.mark.parametrize("value", [1, 13002, 65535])
def test_port_field_is_returned(value: int) -> None:
    """Every port that TCP has."""
    assert messages.port({"k": value}, "k") == value


@pytest.mark.parametrize("value", [None, 0, -1, 65536, True, "13002", 1.5, [1]])
def test_bad_port_field_is_refused(value: object) -> None:
    """True is 1 in Python, and no port all the same."""
    with pytest.raises(ProtocolError, match="'k'"):
        messages.port({"k": value}, "k")


def test_refusal_does_not_repeat_what_came_in() -> None:
    """A message may hold a secret in the wrong field."""
    with pytest.raises(ProtocolError) as caught:
        messages.text({"token": "s3cret" * 9000}, "token")
    assert "s3cret" not in str(caught.value)


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
