"""What the gateway makes of answers and errors, without an etcd."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.etcd.refusals import refusal
from collective.etcd.requests import PutRequest
from collective.model.lease_ids import is_of
from tests.harness import wait_until
from tests.harness.fake_etcd import FakeEtcd


class Wire:
    """In the place of a client: one answer, or one error."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome
        self.sent: list[Any] = []
        self.hold: Callable[[str], object] = lambda path: None

    def get_url(self, path: str) -> str:
        """Return the path."""
        return path

    def post(self, url: str, json: object) -> object:
        """Answer."""
        self.sent.append((url, json))
        self.hold(url)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def gateway_over(outcome: object) -> tuple[Gateway, Wire]:
    made, wire = Gateway(Path("/nowhere")), Wire(outcome)
    made._client = wire
    return made, wire


@contextmanager
def served(folder: Path, status: int, body: bytes) -> Iterator[Gateway]:
    """Stand on a socket, and answer every request alike; with the status 0, hang up."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.close_connection = not status
            if status:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def address_string(self) -> str:
            return "here"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    path = folder / "etcd"
    with Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway = Gateway(path)
        try:
            yield gateway
        finally:
            gateway.close()
            server.shutdown()


SAID = json.dumps({"error": "etcdserver: member not found", "code": 5}).encode()


@pytest.mark.parametrize(
    ("status", "body", "becomes", "says"),
    [
        (504, b"x", EtcdUnavailableError, "etcd: x"),
        (503, SAID, EtcdUnavailableError, "etcd: etcdserver: member not found"),
        (500, SAID, EtcdUnavailableError, "member not found"),
        (404, SAID, EtcdError, "etcd: etcdserver: member not found"),
        (412, SAID, EtcdError, "member not found"),
        (400, b'{"message": "no such field"}', EtcdError, "etcd: no such field"),
        (400, b"<html>", EtcdError, "<html>"),
        (400, b"[]", EtcdError, "etcd:"),
        (400, b"\xff", EtcdError, "etcd:"),
        (0, b"", EtcdUnavailableError, "broke off"),
    ],
)
@pytest.mark.parametrize("how", ["call", "lines"])
def test_answer_that_is_no_success_leaves_as_our_error(
    tmp_path: Path, status: int, body: bytes, becomes: type[EtcdError], says: str, how: str
) -> None:
    """What it stands for is decided on the status and etcd's words, for both kinds of calls."""
    with served(tmp_path, status, body) as gateway, pytest.raises(EtcdError) as caught:
        gateway.call("/x", {}) if how == "call" else gateway.lines("/x", {}, 5.0)
    assert type(caught.value) is becomes
    assert says in caught.value.message


def test_answer_that_is_no_json_was_broken_off(tmp_path: Path) -> None:
    """A proxy in between, or an end in the middle."""
    with (
        served(tmp_path, 200, b"no JSON") as gateway,
        pytest.raises(EtcdUnavailableError, match="broke off in the middle"),
    ):
        gateway.call("/x", {})


def test_connection_is_used_again_after_each_kind_of_answer(tmp_path: Path) -> None:
    """Also after an error, whose body was read."""
    with served(tmp_path, 404, SAID) as gateway:
        for _ in range(3):
            with pytest.raises(EtcdError):
                gateway.call("/x", {})
        assert len(gateway._transport._idle) == 1


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
    assert gateway.transact({"a": 0, "b": 7}, [PutRequest("a", "1", 5)], ["b"]) == (False, 9)
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


def test_call_that_may_not_pass_in_time_was_not_sent() -> None:
    """etcd is restarted, and that takes longer than the caller has."""
    gateway, wire = gateway_over({"leader": "1", "header": {"member_id": "1", "revision": "1"}})
    with gateway.held():
        begun = time.monotonic()
        for call in (lambda: gateway.transact({}, ()), lambda: gateway.range("a")):
            with pytest.raises(NotReachedError, match="being restarted"), within(0.1):
                call()
        assert 0.15 < time.monotonic() - begun < 5.0
    assert wire.sent == []
    assert gateway.transact({}, ()) == (False, 1)


@pytest.mark.parametrize("leader", ["1", "0"])
def test_call_under_way_may_end_before_a_restart_where_somebody_leads(leader: str) -> None:
    """A busy disk makes it slow; without a leader it would not end at all."""
    gateway, wire = gateway_over({"leader": leader, "header": {"member_id": "1", "revision": "1"}})
    answered = threading.Event()
    wire.hold = lambda path: path == "/kv/txn" and answered.wait(20.0)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(gateway.transact, {}, ())
        wait_until(lambda: wire.sent, 5.0, "a call under way")
        release = threading.Timer(1.0, answered.set)
        release.start()
        with gateway.held():
            ended = answered.is_set()
        assert ended is (leader == "1")
        release.cancel()
        answered.set()
        assert call.result(5.0) == (False, 1)


def test_text_of_an_error_is_never_endless(tmp_path: Path) -> None:
    """A page of HTML does not become a page of message."""
    with served(tmp_path, 400, b"x" * 9000) as gateway, pytest.raises(EtcdError) as caught:
        gateway.call("/x", {})
    assert len(caught.value.message) < 300


def test_lease_that_is_taken_is_asked_for_under_another_id() -> None:
    """Chance, or a call that was made again; another refusal is told."""
    gateway, wire = gateway_over(refusal(412, "etcdserver: lease already exists"))
    with pytest.raises(EtcdError, match="already exists"):
        gateway.grant_lease(5, "mgt1")
    ids = [int(body["ID"]) for _, body in wire.sent]
    assert len(set(ids)) == len(ids) == 3
    assert all(is_of("mgt1", number) for number in ids)
    gateway, wire = gateway_over(refusal(412, "etcdserver: no space"))
    with pytest.raises(EtcdError, match="no space"):
        gateway.grant_lease(5, "mgt1")
    assert len(wire.sent) == 1


class Watched(FakeEtcd):
    """One whose watch tells what a test says."""

    def __init__(self, *results: dict[str, Any]) -> None:
        super().__init__()
        self.results = results

    def lines(self, path: str, body: Any, seconds: float) -> Any:
        """Tell it."""
        told = [json.dumps({"result": result}).encode() for result in self.results]

        class Told(list[bytes]):
            def close(self) -> None:
                """There is nothing to end."""

        return Told(told)


def changed(key: str, revision: int) -> dict[str, Any]:
    return {"kv": {"key": key, "mod_revision": str(revision)}}


def test_revision_that_comes_in_fragments_is_told_as_one() -> None:
    """etcd divides a large result anywhere; what is whole is not held back."""
    etcd = Watched(
        {"created": True},
        {"fragment": True, "events": [changed("a", 5), changed("b", 6)]},
        {"fragment": True, "events": [changed("c", 6)]},
        {"events": [changed("d", 6), changed("e", 7)]},
        {"events": [changed("f", 8)]},
    )
    told = [
        [event["kv"]["key"] for event in result.get("events", ())]
        for result in etcd.watch("", 5, 1.0)
    ]
    assert [keys for keys in told if keys] == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_range_that_comes_in_parts_is_read_whole_at_one_revision() -> None:
    """A voter gives to one without a vote no more at a time than it has room for."""

    class Sparing(FakeEtcd):
        def call(self, path: str, body: Any) -> dict[str, Any]:
            """Give two keys at a time."""
            return super().call(path, {**body, "limit": "2"} if path == "/kv/range" else body)

    etcd = Sparing()
    for number in range(5):
        etcd.transact({}, [PutRequest(f"k/{number}", "")])
    revision, found = etcd.range("k/")
    assert (revision, [kv.key for kv in found]) == (6, [f"k/{n}" for n in range(5)])
