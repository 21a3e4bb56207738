"""A door holds out against peers that send too much, too slowly, too often or nonsense."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collective.protocol.door import Door, DoorServer, Limits
from collective.protocol.web import Request, Response, json_response
from tests.harness.doors import (
    PATIENCE,
    Authority,
    Leaf,
    ask,
    connect_tls,
    http_over,
    read_to_end,
    said_by_the_door,
)

pytestmark = pytest.mark.sockets

GENEROUS = Limits(anonymous_requests_per_second=1e6, anonymous_burst=1000000)


class Entrance:
    """One TLS door, with all that it logs above debug level kept for the end."""

    def __init__(self, server: DoorServer, authority: Authority) -> None:
        self.server = server
        self.authority = authority
        self.member = authority.issue("mgt2", 2)
        self.address = ("", 0)
        self.sockets = contextlib.ExitStack()
        self._context = authority.server_context(authority.issue("mgt1", 1))

    def open(self, limits: Limits = GENEROUS) -> Entrance:
        door = Door("members", self.answer, limits)
        self.address = self.server.listen_tls(door, "127.0.0.1", 0, lambda: self._context)
        return self

    def answer(self, request: Request) -> Response:
        return json_response(200, request.peer.authenticated)

    def connect(self, leaf: Leaf | None = None) -> socket.socket:
        sock = connect_tls(self.address, self.authority.client_context(leaf))
        return self.sockets.enter_context(sock)

    def dial(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=PATIENCE)
        return self.sockets.enter_context(sock)


@pytest.fixture
def entrance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Entrance]:
    """Open no door yet; afterwards check that nothing in the log came from the network."""
    caplog.set_level(logging.INFO)
    server = DoorServer()
    server.start()
    entrance = Entrance(server, Authority(tmp_path))
    with entrance.sockets:
        yield entrance
    server.stop(0.0)
    assert said_by_the_door(caplog) == []


def get(sock: socket.socket) -> tuple[int, object]:
    connection = http_over(sock)
    connection.request("GET", "/")
    response = connection.getresponse()
    return response.status, json.load(response)


# -- too much, or nonsense -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\n folded\0: b\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.0\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.0\r\n\r\n", 400),
        (b"GET /%0a HTTP/1.0\r\n\r\n", 400),
        (b"GET /?" + b"a&" * 100 + b" HTTP/1.0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n", 411),
        (b"POST / HTTP/1.0\r\ncontent-length: 65537\r\n\r\n" + b"x" * 65537, 413),
        (b"POST / HTTP/1.0\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.0\r\na: " + b"x" * 16384 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.0\r\na: " + b"x" * 200000, 431),
        (b"GET /" + b"x" * 16384 + b" HTTP/1.0\r\n\r\n", 431),
    ],
)
def test_request_that_is_wrong_or_too_large_is_refused(
    entrance: Entrance, raw: bytes, status: int
) -> None:
    """The peer is told that something is wrong, and that the connection ends."""
    with entrance.open().connect() as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(raw)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == status
        assert response.getheader("connection") == "close"
        assert json.load(response)["error"]["code"] == "protocol"


def test_refusal_of_a_head_request_has_no_body(entrance: Entrance) -> None:
    """HTTP forbids one; to send it anyway failed inside."""
    answer = ask(entrance.open().connect(), b"HEAD * HTTP/1.1\r\nhost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


def test_nonsense_after_a_head_request_is_refused_in_words(entrance: Entrance) -> None:
    """The refusal of what came after it has a body again."""
    answer = ask(entrance.open().connect(), b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n0\r\n\r\n")
    assert b"\r\n\r\nHTTP/1.1 400 " in answer
    assert answer.endswith(b"}\n")


def test_peer_that_was_refused_and_stays_is_closed(entrance: Entrance) -> None:
    """After a refusal the door reads on for a moment only, whatever is sent."""
    answer = ask(entrance.open().connect(), b"no HTTP\r\n\r\nGET / HTTP/1.0\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


def test_garbage_instead_of_tls_is_dropped(entrance: Entrance) -> None:
    """Who does not speak TLS gets no HTTP, and leaves no line in the log."""
    entrance.open()
    for raw in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 10000, b"\x16\x03\x01\xff\xff" + b"x" * 70000):
        sock = entrance.dial()
        assert b"HTTP" not in ask(sock, raw)


def test_peers_that_vanish_at_any_point_leave_the_door_open(entrance: Entrance) -> None:
    """Connections that break off in the handshake, a request or an answer harm nobody."""
    entrance.open()
    entrance.dial().close()
    for part in (b"", b"GET / HT", b"POST / HTTP/1.0\r\ncontent-length: 5\r\n\r\nab"):
        with entrance.connect() as sock:
            sock.sendall(part)
    assert get(entrance.connect()) == (200, False)


# -- too slowly ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\nx: ", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n"],
)
def test_request_that_trickles_is_cut_at_the_deadline(entrance: Entrance, head: bytes) -> None:
    """A byte now and then does not keep a connection: the whole request has one deadline."""
    sock = entrance.open(replace(GENEROUS, request_seconds=0.3)).connect()
    sock.sendall(head)
    sock.settimeout(0.02)
    for _ in range(int(PATIENCE / 0.02)):
        try:
            sock.sendall(b"x")
            assert sock.recv(1) == b""
            return
        except TimeoutError:
            continue  # still open, and nothing to read: the next byte
        except OSError:
            return
    pytest.fail("the connection is still open")


def test_handshake_that_stalls_is_cut_at_the_deadline(entrance: Entrance) -> None:
    """A peer that connects and says nothing, or half a hello, is cut."""
    entrance.open(replace(GENEROUS, handshake_seconds=0.3))
    for part in (b"", b"\x16\x03\x01\x02\x00\x01"):
        sock = entrance.dial()
        assert ask(sock, part) == b""


def test_idle_stranger_is_cut_and_idle_member_is_not(entrance: Entrance) -> None:
    """Strangers may idle for less long than members."""
    entrance.open(replace(GENEROUS, idle_seconds=1.5))
    member, stranger = entrance.connect(entrance.member), entrance.connect()
    assert get(stranger) == (200, False)
    assert read_to_end(stranger) == b""
    assert get(member) == (200, True)


def test_peer_that_does_not_read_is_cut(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that nobody reads ends after the write deadline, and its iterator is closed."""
    closed = threading.Event()

    def flood() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    monkeypatch.setattr(entrance, "answer", lambda request: Response(200, flood()))
    entrance.open(replace(GENEROUS, write_seconds=0.3))
    with entrance.connect() as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert closed.wait(PATIENCE)


# -- too many, too often ---------------------------------------------------------------------


def test_strangers_that_hold_every_thread_do_not_starve_a_member(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more strangers' requests stuck than there are threads, a member is answered."""
    go = threading.Event()
    inside = threading.Semaphore(0)

    def answer(request: Request) -> Response:
        if not request.peer.authenticated:
            inside.release()
            go.wait(PATIENCE)
        return json_response(200, request.peer.authenticated)

    monkeypatch.setattr(entrance, "answer", answer)
    entrance.open()
    strangers = [entrance.connect() for _ in range(12)]
    for sock in strangers:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for _ in range(8):
        assert inside.acquire(timeout=PATIENCE)
    try:
        assert get(entrance.connect(entrance.member)) == (200, True)
    finally:
        go.set()
    assert all(read_to_end(sock).endswith(b"false\n") for sock in strangers)


def test_full_house_closes_the_oldest_idle_stranger(entrance: Entrance) -> None:
    """When strangers have all their places, the one that idles longest makes way."""
    entrance.open(replace(GENEROUS, anonymous_connections=2))
    member = entrance.connect(entrance.member)
    assert get(member) == (200, True)
    first, second = entrance.connect(), entrance.connect()
    assert get(first) == get(second) == (200, False)
    assert get(entrance.connect()) == (200, False)
    assert read_to_end(first) == b""
    assert get(second) == (200, False)
    assert get(member) == (200, True)


def test_stranger_that_is_served_is_not_put_out(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all strangers are being served, it is the new one that is turned away."""
    entered, go = threading.Event(), threading.Event()

    def answer(request: Request) -> Response:
        entered.set()
        go.wait(PATIENCE)
        return json_response(200, "served")

    monkeypatch.setattr(entrance, "answer", answer)
    entrance.open(replace(GENEROUS, anonymous_per_address=1))
    first = entrance.connect()
    first.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert entered.wait(PATIENCE)
    assert ask(entrance.connect(), b"GET / HTTP/1.0\r\n\r\n") == b""
    go.set()
    assert read_to_end(first).endswith(b'"served"\n')


def test_stalled_handshakes_do_not_keep_a_member_out(entrance: Entrance) -> None:
    """With every place for handshakes taken, a member still gets in."""
    entrance.open(replace(GENEROUS, anonymous_connections=4, handshake_seconds=60.0))
    stalled = [entrance.dial() for _ in range(8)]
    assert get(entrance.connect(entrance.member)) == (200, True)
    assert read_to_end(stalled[0]) == b""


def test_many_idle_strangers_take_little_memory(entrance: Entrance) -> None:
    """A connection costs tens of KiB, not the 256 KiB buffer that asyncio's TLS would take."""
    entrance.open()
    assert get(entrance.connect()) == (200, False)
    tracemalloc.start()
    try:
        for _ in range(16):
            assert get(entrance.connect()) == (200, False)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / 16 < 128 * 1024


def test_stranger_that_asks_too_often_gets_429(entrance: Entrance) -> None:
    """Strangers of one address share a budget of requests; members have none."""
    entrance.open(Limits(anonymous_requests_per_second=0.001, anonymous_burst=2))
    one, other = entrance.connect(), entrance.connect()
    assert [get(sock)[0] for sock in (one, other, one, other)] == [200, 200, 429, 429]
    member = entrance.connect(entrance.member)
    assert [get(member)[0] for _ in range(4)] == [200] * 4
