"""What the gateway makes of requests and answers, without an etcd."""

from __future__ import annotations

import base64
import contextvars
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from etcd3gw.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
    Etcd3Exception,
    PreconditionFailedError,
)
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd import gateway as module
from collective.etcd.gateway import (
    DEFAULT_SECONDS,
    EtcdMember,
    Gateway,
    KeyValue,
    Put,
    encode,
    key_value,
    prefix_end,
    seconds_allowed,
    within,
)

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
    wire = Put(key, value, lease).to_wire()
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


def test_deadline_is_that_of_the_innermost_block() -> None:
    """It ends with its block, and none is ever zero, which would mean "for ever"."""
    assert seconds_allowed() == DEFAULT_SECONDS
    with within(3):
        with within(-1):
            assert 0 < seconds_allowed() < 0.01
        assert seconds_allowed() == 3
    assert seconds_allowed() == DEFAULT_SECONDS


def test_deadline_ends_with_an_error() -> None:
    """A call that failed leaves no deadline behind."""
    with pytest.raises(ZeroDivisionError), within(3):
        _ = 1 / 0
    assert seconds_allowed() == DEFAULT_SECONDS


def test_deadline_is_each_thread_s_own() -> None:
    """Another thread's block does not count here."""
    with within(3):
        fresh = contextvars.Context()
        assert fresh.run(seconds_allowed) == DEFAULT_SECONDS


class Wire:
    """In the place of etcd3gw: one answer, or one error."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome
        self.sent: list[Any] = []

    def get_url(self, path: str) -> str:
        """Return the path."""
        return path

    def post(self, url: str, json: object) -> object:
        """Answer."""
        self.sent.append((url, json))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def gateway_over(outcome: object) -> tuple[Gateway, Wire]:
    made, wire = Gateway(Path("/nowhere")), Wire(outcome)
    made._client = wire  # type: ignore[assignment]
    return made, wire


def of_etcd(cls: type[Etcd3Exception], text: str) -> Etcd3Exception:
    error: Etcd3Exception = cls(text, text)
    return error


SAID = json.dumps({"error": "etcdserver: member not found", "code": 5})


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (of_etcd(ConnectionTimeoutError, "x"), EtcdUnavailableError, "did not answer in time"),
        (of_etcd(ConnectionFailedError, SAID), EtcdUnavailableError, "member not found"),
        (of_etcd(Etcd3Exception, SAID), EtcdError, "etcd: etcdserver: member not found"),
        (of_etcd(PreconditionFailedError, SAID), EtcdError, "member not found"),
        (of_etcd(Etcd3Exception, "<html>"), EtcdError, "<html>"),
        (of_etcd(Etcd3Exception, "[]"), EtcdError, "etcd:"),
        (requests.exceptions.ChunkedEncodingError(), EtcdUnavailableError, "broke off"),
        (urllib3.exceptions.ProtocolError(), EtcdUnavailableError, "broke off"),
        (ValueError("no JSON"), EtcdUnavailableError, "broke off"),
    ],
)
def test_foreign_error_leaves_as_ours(
    error: Exception, becomes: type[EtcdError], says: str
) -> None:
    """Nothing of etcd3gw or requests gets out, and the cause is kept."""
    gateway, _ = gateway_over(error)
    with pytest.raises(EtcdError, match=says) as caught:
        gateway.call("/x", {})
    assert type(caught.value) is becomes
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("answer", [None, [], "text", 3])
def test_answer_that_is_no_object_is_read_as_an_empty_one(answer: object) -> None:
    """An empty answer of the gateway is not always ``{}``."""
    assert gateway_over(answer)[0].call("/x", {}) == {}


@pytest.mark.parametrize("call", ["status", "range", "transact", "grant_lease", "add_learner"])
def test_answer_without_what_is_needed_is_an_etcd_error(call: str) -> None:
    """Something else that answers on the socket gives no foreign error."""
    gateway, _ = gateway_over({})
    calls: dict[str, Callable[[], object]] = {
        "status": gateway.status,
        "range": lambda: gateway.range("a"),
        "transact": lambda: gateway.transact({}, ()),
        "grant_lease": lambda: gateway.grant_lease(1),
        "add_learner": lambda: gateway.add_learner("https://a:1"),
    }
    with pytest.raises(EtcdError):
        calls[call]()


def test_transaction_is_sent_as_compare_and_success() -> None:
    """Puts come before deletes, and the compare is on the mod revision."""
    gateway, wire = gateway_over({"header": {"revision": "9"}})
    assert gateway.transact({"a": 0, "b": 7}, [Put("a", "1", 5)], ["b"]) == (False, 9)
    ((_, body),) = wire.sent
    assert body == {
        "compare": [
            {"key": "YQ==", "target": "MOD", "result": "EQUAL", "mod_revision": "0"},
            {"key": "Yg==", "target": "MOD", "result": "EQUAL", "mod_revision": "7"},
        ],
        "success": [
            {"request_put": {"key": "YQ==", "value": "MQ==", "lease": "5"}},
            {"request_delete_range": {"key": "Yg=="}},
        ],
    }


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


def test_text_of_an_error_is_never_endless() -> None:
    """A page of HTML does not become a page of message."""
    gateway, _ = gateway_over(of_etcd(Etcd3Exception, base64.b64encode(b"x" * 9000).decode()))
    with pytest.raises(EtcdError) as caught:
        gateway.call("/x", {})
    assert len(caught.value.message) < 300
