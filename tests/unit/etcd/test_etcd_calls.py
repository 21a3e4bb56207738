"""What is sent to etcd's gateway, and what its answers are read as, without an etcd."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd import api as module
from collective.etcd.api import EtcdMember, KeyValue, key_value
from collective.etcd.requests import encode, prefix_end, put_request

ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=125), min_size=1, max_size=10)


@given(ASCII, ASCII)
def test_range_of_a_prefix_has_the_keys_that_begin_with_it(prefix: str, key: str) -> None:
    """No more and no less: the end is the first key after them."""
    assert (prefix <= key < prefix_end(prefix)) is key.startswith(prefix)


@pytest.mark.parametrize(
    ("value", "wire"), [("a", "YQ=="), (b"\xff\xfe", "//4="), ("", ""), ("k/1", "ay8x")]
)
def test_keys_and_values_are_base64(value: str | bytes, wire: str) -> None:
    """The gateway takes nothing else."""
    assert encode(value) == wire


def test_key_that_is_not_ascii_is_an_error_of_ours() -> None:
    """Keys are made from names, which are ASCII; a silent other encoding would lose them."""
    with pytest.raises(UnicodeEncodeError):
        encode("mgté")


@given(ASCII, st.text(max_size=10), st.integers(0, 1 << 62))
def test_value_that_is_put_is_read_again(key: str, value: str, lease: int) -> None:
    """What goes out comes in, and no lease is no field."""
    wire = put_request(key, value.encode(), lease)["request_put"]
    assert ("lease" in wire) is (lease != 0)
    read = key_value({**wire, "mod_revision": "7"})
    assert read == KeyValue(key, value.encode(), 7, lease)


def test_what_the_gateway_leaves_out_is_zero_or_empty() -> None:
    """It writes no zero, no false and no empty text."""
    assert key_value({"key": "YQ=="}) == KeyValue("a", b"", 0, 0)


def test_members_are_read_with_what_is_left_out() -> None:
    """A member that never started has no name; numbers are texts of 64 bits."""
    raw = {
        "members": [
            {"ID": "10276657743932975437", "name": "mgt1", "peerURLs": ["https://a:1"]},
            {"ID": "2", "peerURLs": ["https://b:1"], "isLearner": True},
        ]
    }
    assert module._members(raw) == [
        EtcdMember(10276657743932975437, "mgt1", ("https://a:1",), False),
        EtcdMember(2, "", ("https://b:1",), True),
    ]
    assert module._members({}) == []


@pytest.mark.parametrize(
    ("message", "says", "lost"),
    [
        ({"error": {"message": "transport is closing"}}, "transport is closing", False),
        ({"error": {"message": "required revision has been compacted"}}, "compacted", True),
        ({"result": {"canceled": True, "cancel_reason": "no leader"}}, "no leader", False),
        ({"result": {"canceled": True, "compact_revision": "7"}}, "cancelled: compacted", True),
    ],
)
def test_watch_that_ended_says_whether_history_is_lost(
    message: object, says: str, lost: bool
) -> None:
    """etcd says so within the stream, where etcd3gw's own watch is deaf."""
    with pytest.raises(EtcdError, match=says) as caught:
        module._watch_result(json.dumps(message).encode())
    assert isinstance(caught.value, EtcdUnavailableError) is not lost


@pytest.mark.parametrize("result", [{"created": True}, {"events": [{"type": "DELETE"}]}])
def test_watch_result_is_passed_on(result: dict[str, Any]) -> None:
    """With and without events."""
    assert module._watch_result(json.dumps({"result": result}).encode()) == result


def test_watch_line_that_was_cut_is_an_etcd_error() -> None:
    """An etcd that dies may leave half a line."""
    with pytest.raises(EtcdError):
        module._watch_result(b'{"result": {"ev')
