"""What a member that does not vote may ask of etcd, and in which form."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import AccessError, CollectiveError, EtcdError, ProtocolError
from collective.model.view import PREFIX, invitation_key, member_key
from collective.policy.relaying import Guard, check_relayed, guarded, is_serializable, unguarded


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(key: str) -> dict[str, Any]:
    return {"key": b64(key), "value": b64("v")}


def txn(*success: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"compare": [], "success": list(success), **more}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/range", {"key": b64(PREFIX), "range_end": b64("collective/v10")}),
        ("/kv/put", put(invitation_key("mgt5"))),
        ("/kv/put", put("others/x")),
        ("/kv/deleterange", {"key": b64("others/"), "range_end": b64("others0")}),
        ("/kv/deleterange", {"key": b64("collective/v10")}),
        ("/kv/deleterange", {"key": b64("a"), "range_end": b64(PREFIX)}),
        ("/kv/txn", txn({"request_put": put(invitation_key("mgt5"))})),
        ("/kv/txn", txn({"request_txn": txn({"request_range": {"key": b64("x")}})})),
        ("/kv/txn", {}),
        ("/lease/grant", {"TTL": "5"}),
        ("/cluster/member/list", {}),
        ("/maintenance/status", {}),
        ("/watch", {"create_request": {"key": b64(PREFIX)}}),
    ],
)
def test_what_a_member_needs_passes(path: str, body: dict[str, Any]) -> None:
    """Reads of all, writes of invitations and of what is not ours."""
    check_relayed(path, body)


@pytest.mark.parametrize(
    "path",
    [
        "/cluster/member/add",
        "/cluster/member/remove",
        "/cluster/member/update",
        "/cluster/member/promote",
        "/maintenance/alarm",
        "/maintenance/defragment",
        "/maintenance/hash",
        "/maintenance/snapshot",
        "/maintenance/transfer-leadership",
        "/auth/user/add",
        "/kv/compaction",
        "/kv/../kv/txn",
        "",
    ],
)
def test_path_that_is_not_listed_is_refused(path: str) -> None:
    """Membership, maintenance and users are for voters, whatever the body."""
    with pytest.raises(AccessError):
        check_relayed(path, {})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/put", put(member_key("mgt4"))),
        ("/kv/put", put(PREFIX + "change")),
        ("/kv/deleterange", {"key": b64(PREFIX + "revoked/1")}),
        ("/kv/deleterange", {"key": b64("a"), "range_end": b64("z")}),
        ("/kv/deleterange", {"key": b64("a"), "range_end": base64.b64encode(b"\0").decode()}),
        ("/kv/deleterange", {"key": b64(PREFIX), "range_end": b64(PREFIX + "z")}),
        (
            "/kv/deleterange",
            {"key": b64(invitation_key("a")), "range_end": b64(PREFIX + "zz")},
        ),
        ("/kv/txn", txn({"request_put": put(member_key("mgt4"))})),
        ("/kv/txn", txn(failure=[{"request_put": put(member_key("mgt4"))}])),
        (
            "/kv/txn",
            txn({"request_txn": txn({"request_delete_range": {"key": b64(PREFIX + "turn")}})}),
        ),
    ],
)
def test_records_are_not_written(path: str, body: dict[str, Any]) -> None:
    """Neither one by one, nor in a range, in another branch or in a nested transaction."""
    with pytest.raises(AccessError, match="no record"):
        check_relayed(path, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/put", {"key": "!"}),
        ("/kv/put", {"key": 5}),
        ("/kv/put", {"Key": b64(member_key("mgt4"))}),
        ("/kv/deleterange", {"key": b64("x"), "rangeEnd": b64("z")}),
        ("/kv/txn", txn({"requestPut": put(member_key("mgt4"))})),
        ("/kv/txn", txn({"request_put": put("x"), "request_range": {}})),
        ("/kv/txn", {"Success": []}),
        ("/kv/txn", {"success": {"request_put": {}}}),
        ("/kv/txn", txn({"request_put": []})),
        ("/kv/txn", txn({"request_txn": txn({"request_txn": txn({"request_txn": txn(txn())})})})),
    ],
)
def test_what_etcd_could_read_otherwise_is_refused(path: str, body: dict[str, Any]) -> None:
    """Another spelling, a broken form, a depth that nobody needs."""
    with pytest.raises(ProtocolError):
        check_relayed(path, body)


@given(
    key=st.binary(max_size=30), end=st.one_of(st.just(b""), st.binary(max_size=30)), own=st.text()
)
def test_deletion_that_passes_never_reaches_a_record(key: bytes, end: bytes, own: str) -> None:
    """The safety property, for any range: none of a set of records is in it."""
    for begin in (key, PREFIX.encode() + key, b"collective/" + key):
        body = {
            "key": base64.b64encode(begin).decode(),
            "range_end": base64.b64encode(end).decode(),
        }
        try:
            check_relayed("/kv/deleterange", body)
        except CollectiveError:
            continue
        for record in (member_key("mgt1"), PREFIX + "change", PREFIX + "revoked/ff"):
            one = record.encode()
            reached = one == begin if not end else begin <= one and (end == b"\0" or one < end)
            assert not reached


def test_operation_is_done_while_the_record_is_unchanged() -> None:
    """The guard is a compare; what comes back has the header of the whole."""
    body = {"key": b64("x")}
    sent = guarded("/kv/range", body, Guard(member_key("mgt4"), 7))
    assert sent == {
        "compare": [
            {
                "key": b64(member_key("mgt4")),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": "7",
            }
        ],
        "success": [{"request_range": body}],
    }
    answer = {
        "header": {"revision": "9"},
        "succeeded": True,
        "responses": [{"response_range": {"header": {}, "kvs": []}}],
    }
    assert unguarded("/kv/range", answer) == {"header": {"revision": "9"}, "kvs": []}
    assert unguarded("/kv/range", {"header": {}}) is None
    with pytest.raises(EtcdError):
        unguarded("/kv/put", answer)


def test_only_a_range_can_be_serializable() -> None:
    """Everything else needs the quorum."""
    assert is_serializable("/kv/range", {"serializable": True})
    assert not is_serializable("/kv/range", {})
    assert not is_serializable("/kv/txn", {"serializable": True})
