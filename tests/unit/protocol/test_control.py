"""What a command's request must look like, and what is said of one that does not."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective import client
from collective.errors import InputError, ProtocolError
from collective.protocol import messages
from collective.protocol.control import (
    AbortRequest,
    DeleteRequest,
    InviteRequest,
    JoinRequest,
    ListRequest,
    ReaddressRequest,
    Request,
    VoteRequest,
)
from collective.protocol.self_result import SelfResult

KINDS: tuple[type[Request], ...] = (Request, *Request.__subclasses__())
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_command_and_daemon_write_one_format() -> None:
    """The command starts without the module in which the daemon's stands."""
    assert client.FORMAT == messages.FORMAT


READ: list[tuple[type[Request], dict[str, Any], Request]] = [
    (Request, {}, Request()),
    (Request, {"json": True}, Request(json=True)),
    (InviteRequest, {"server": "mgt2"}, InviteRequest(server="mgt2")),
    (
        InviteRequest,
        {"server": "mgt2", "nonvoting": True, "ttl": 5400, "dry_run": True},
        InviteRequest(server="mgt2", nonvoting=True, ttl=5400, dry_run=True),
    ),
    (ListRequest, {"json": True, "dry_run": True}, ListRequest(json=True, dry_run=True)),
    (JoinRequest, {"server": "mgt1", "token": None}, JoinRequest(server="mgt1")),
    (
        JoinRequest,
        {"server": "mgt1", "token": "t", "force": True},
        JoinRequest(server="mgt1", token="t", force=True),
    ),
    (AbortRequest, {"force": True}, AbortRequest(force=True)),
    (DeleteRequest, {"server": None, "force": False}, DeleteRequest()),
    (
        DeleteRequest,
        {"server": "mgt3", "force": True, "dry_run": True, "json": True},
        DeleteRequest(server="mgt3", force=True, dry_run=True, json=True),
    ),
    (VoteRequest, {"server": "mgt3"}, VoteRequest(server="mgt3")),
    (ReaddressRequest, {"address": "fd00::1"}, ReaddressRequest(address="fd00::1")),
    (
        ReaddressRequest,
        {"members": {"mgt2": "10.0.0.2"}},
        ReaddressRequest(members={"mgt2": "10.0.0.2"}),
    ),
]


@pytest.mark.parametrize(("kind", "raw", "request_"), READ)
def test_request_of_an_earlier_release_is_read(
    kind: type[Request], raw: dict[str, Any], request_: Request
) -> None:
    """These names and forms never change; what is passed on to a voter is read there the same."""
    assert kind.from_client({"format": 1, **raw}) == request_
    assert kind.from_wire(json.loads(json.dumps(request_.to_wire()))) == request_


def test_token_is_in_no_log() -> None:
    """Whoever writes a request down writes it without."""
    assert "secret" not in repr(JoinRequest(server="mgt1", token="secret"))


@each_kind
def test_option_that_a_command_does_not_take_is_refused(kind: type[Request]) -> None:
    """A misspelt ``dry_run`` does not delete anybody; the hint has those that there are."""
    with pytest.raises(InputError, match="takes no 'dryrun'") as caught:
        kind.from_client({"format": 1, "server": "mgt3", "dryrun": True, "zeal": 1})
    assert "json" in str(caught.value.hint)


def test_what_a_later_release_adds_a_voter_passes_over() -> None:
    """It came from another server, whose daemon knows the option that it has sent."""
    raw = {"server": "mgt3", "by": "mgt1", "format": 9}
    assert VoteRequest.from_wire(raw) == VoteRequest(server="mgt3")


@each_kind
@pytest.mark.parametrize("form", [{"format": 2}, {"format": "1"}, {}])
def test_newer_format_and_none_are_refused(kind: type[Request], form: dict[str, Any]) -> None:
    """Before any field is looked at, whose meaning it may have changed."""
    with pytest.raises(ProtocolError, match=r"has format 2|without a format"):
        kind.from_client({**form, "server": 5, "novel": 1})


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        (VoteRequest, {}, "needs 'server'"),
        (VoteRequest, {"server": None}, "'server' must be a text"),
        (DeleteRequest, {"server": 5}, "'server' must be a text"),
        (DeleteRequest, {"dry_run": "no"}, "'dry_run' must be true or false"),
        (DeleteRequest, {"force": None}, "'force' must be true or false"),
        (InviteRequest, {"server": "mgt2", "ttl": "1"}, "'ttl' must be a number"),
        (InviteRequest, {"server": "mgt2", "ttl": True}, "'ttl' must be a number"),
        (InviteRequest, {"server": "mgt2", "ttl": float("nan")}, "'ttl' must be a number"),
        (ReaddressRequest, {"members": ["mgt2"]}, "'members' must be an object of texts"),
        (ReaddressRequest, {"members": {"mgt2": 5}}, "'members' must be an object of texts"),
    ],
)
def test_field_that_is_wanting_or_of_another_kind_is_told(
    kind: type[Request], raw: dict[str, Any], says: str
) -> None:
    """With what was expected, and without what was found: it may be a token."""
    with pytest.raises(InputError, match=says):
        kind.from_client({"format": 1, **raw})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(["x", *sorted({each.name for kind in KINDS for each in fields(kind)})])


@given(kind=st.sampled_from(KINDS), raw=st.dictionaries(NAMES, JSON) | JSON)
def test_any_json_is_a_request_or_refused(kind: type[Request], raw: Any) -> None:
    """Nothing else leaves, also where a server with a good certificate has sent it."""
    try:
        taken = kind.from_wire(raw)
    except InputError:
        return
    assert kind.from_wire(taken.to_wire()) == taken


def test_self_is_told_as_it_was() -> None:
    """Software of another release, beside the daemon, reads these names."""
    assert SelfResult("mgt1", "member").to_wire() == {
        "format": 1,
        "name": "mgt1",
        "mode": "member",
    }
    idle = {"code": "removed", "message": "gone"}
    assert SelfResult.from_wire(
        {"format": 1, "name": "mgt1", "mode": "removed", "idle": idle}
    ) == SelfResult("mgt1", "removed", idle)
    assert SelfResult.from_wire(
        {"format": 1, "name": "mgt1", "mode": "member", "idle": None}
    ) == SelfResult("mgt1", "member")


def test_every_class_is_in_the_table() -> None:
    """Whoever adds one says above what it looks like."""
    assert {kind for kind, _, _ in READ} == set(KINDS)
