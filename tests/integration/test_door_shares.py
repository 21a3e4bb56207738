"""A door shares out threads, streams, places and bytes: one member never has the part of others.

Members and their names are real ones here, what they ask for is not; see ``test_member_shares.py``
for a daemon.
"""

from __future__ import annotations

import http.client
import json
import select
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from collective.protocol.door import Door, DoorServer, Limits
from collective.protocol.web import Request, Response, json_response
from tests.harness.doors import PATIENCE, Authority, Leaf, connect_tls, http_over
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.sockets

BODY = 300_000


class Hall:
    """A door whose handler stands still, where asked to, until it is let go."""

    def __init__(self, server: DoorServer, authority: Authority) -> None:
        self._server = server
        self._authority = authority
        self._context = authority.server_context(authority.issue("mgt1", 1))
        self.greedy, self.other = authority.issue("mgt2", 2), authority.issue("mgt3", 3)
        self.sockets = ExitStack()
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.inside: Counter[str] = Counter()
        self.most_inside = 0
        self.address = ("", 0)

    def open(self, limits: Limits) -> None:
        door = Door("members", self._handle, limits)
        self.address = self._server.listen_tls(door, "127.0.0.1", 0, lambda: self._context)

    def _handle(self, request: Request) -> Response:
        certificate = request.peer.certificate
        name = "" if certificate is None else certificate.name
        with self.lock:
            self.inside[name] += 1
            self.most_inside = max(self.most_inside, self.inside[name])
        try:
            if request.path == "/stand":
                self.go_on.wait(PATIENCE * 3)
            if request.path == "/large":
                return Response(200, bytes(16 << 20))
            if request.path == "/stream":
                return Response(200, self._beats())
            return json_response(200, len(request.body))
        finally:
            if request.path != "/large":
                with self.lock:
                    self.inside[name] -= 1

    def _beats(self) -> Iterator[bytes]:
        yield b"here\n"
        while not self.go_on.wait(0.05):
            yield b""

    def connect(self, leaf: Leaf) -> http.client.HTTPConnection:
        sock = connect_tls(self.address, self._authority.client_context(leaf))
        return http_over(self.sockets.enter_context(sock))

    def send(self, leaf: Leaf, path: str, body: bytes = b"") -> http.client.HTTPConnection:
        connection = self.connect(leaf)
        connection.request("POST", path, body)
        return connection


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    server = DoorServer()
    server.start()
    hall = Hall(server, Authority(tmp_path))
    with hall.sockets:
        yield hall
        hall.go_on.set()
    server.stop(0.0)


def answer(connection: http.client.HTTPConnection) -> tuple[int, object]:
    response = connection.getresponse()
    return response.status, json.load(response)


def test_member_whose_requests_all_stand_still_leaves_threads_to_others(hall: Hall) -> None:
    """It has its part of the threads; what waits for these is answered when they are free."""
    hall.open(Limits())
    standing = [hall.send(hall.greedy, "/stand") for _ in range(40)]
    wait_until(lambda: hall.inside["mgt2"] >= 4, PATIENCE, "some stand inside")
    assert answer(hall.send(hall.other, "/")) == (200, 0)
    assert hall.most_inside == Limits().calls_per_member
    hall.go_on.set()
    assert {answer(connection) for connection in standing} == {(200, 0)}


def test_member_of_which_too_many_wait_is_refused_and_told_so(hall: Hall) -> None:
    """The refusal is a sentence; its connection stays good for later."""
    hall.open(Limits(waiting_per_member=3))
    standing = [hall.send(hall.greedy, "/stand") for _ in range(4)]
    wait_until(lambda: hall.inside["mgt2"] == 4, PATIENCE, "its part is taken")
    more = [hall.send(hall.greedy, "/") for _ in range(5)]
    wait_until(lambda: len(_readable(more)) == 2, PATIENCE, "what is too much is refused")
    refused = _readable(more)
    told = [answer(connection) for connection in refused]
    assert [status for status, _ in told] == [429, 429]
    assert "mgt2 asks too much at once" in str(told)
    assert answer(hall.send(hall.other, "/")) == (200, 0)
    hall.go_on.set()
    assert {answer(c)[0] for c in standing + [m for m in more if m not in refused]} == {200}
    refused[0].request("POST", "/")
    assert answer(refused[0]) == (200, 0)


def _readable(connections: list[http.client.HTTPConnection]) -> list[http.client.HTTPConnection]:
    ready, _, _ = select.select([connection.sock for connection in connections], [], [], 0)
    return [connection for connection in connections if connection.sock in ready]


def test_request_that_waits_too_long_for_its_turn_is_refused(hall: Hall) -> None:
    """Who asks hears of it, before it takes the door for dead."""
    hall.open(Limits(waiting_seconds=0.2))
    standing = [hall.send(hall.greedy, "/stand") for _ in range(4)]
    wait_until(lambda: hall.inside["mgt2"] == 4, PATIENCE, "its part is taken")
    assert answer(hall.send(hall.greedy, "/"))[0] == 429
    hall.go_on.set()
    assert {answer(connection) for connection in standing} == {(200, 0)}


def test_member_that_fills_its_places_drives_out_itself(hall: Hall) -> None:
    """However many addresses it comes from: its place is under its name."""
    hall.open(Limits(member_connections=12, connections_per_member=4))
    others = [hall.connect(hall.other) for _ in range(3)]
    standing = [hall.send(hall.greedy, "/stand") for _ in range(4)]
    wait_until(lambda: hall.inside["mgt2"] == 4, PATIENCE, "its part is taken")
    for _ in range(12):
        with pytest.raises((OSError, http.client.HTTPException)):
            answer(hall.send(hall.greedy, "/"))
    for connection in others:
        connection.request("POST", "/")
        assert answer(connection) == (200, 0)
    hall.go_on.set()
    assert {answer(connection) for connection in standing} == {(200, 0)}


def test_streams_of_one_member_are_bounded(hall: Hall) -> None:
    """One more is refused in words; others have theirs, and one that ended makes room."""
    hall.open(Limits(streams_per_member=3))
    streams = [hall.send(hall.greedy, "/stream") for _ in range(3)]
    responses = [stream.getresponse() for stream in streams]
    assert {response.readline() for response in responses} == {b"here\n"}
    status, told = answer(hall.send(hall.greedy, "/stream"))
    assert (status, "mgt2 asks too much" in str(told)) == (429, True)
    assert hall.send(hall.other, "/stream").getresponse().readline() == b"here\n"
    responses[0].close()
    streams[0].close()
    wait_until(
        lambda: hall.send(hall.greedy, "/stream").getresponse().status == 200,
        PATIENCE,
        "there is room for another one",
    )


def test_body_is_read_when_there_is_room_for_it(hall: Hall) -> None:
    """What is announced counts; others, and what has no body, are not kept waiting by it."""
    hall.open(Limits(bytes_per_member=BODY, member_bytes=3 * BODY))
    first = hall.connect(hall.greedy)
    first.putrequest("POST", "/")
    first.putheader("Content-Length", str(BODY))
    first.endheaders()
    first.send(bytes(BODY // 2))
    # Its answer says that its neighbour's head was read, too: the door has one thread.
    assert answer(hall.send(hall.greedy, "/")) == (200, 0)
    second = hall.send(hall.greedy, "/", bytes(BODY))
    assert answer(hall.send(hall.greedy, "/")) == (200, 0)
    assert answer(hall.send(hall.other, "/", bytes(BODY))) == (200, BODY)
    assert _readable([second]) == []
    first.send(bytes(BODY // 2))
    assert answer(first) == (200, BODY)
    assert answer(second) == (200, BODY)


def test_body_for_which_there_is_no_room_in_time_is_refused(hall: Hall) -> None:
    """In words, and the connection ends: its body was not read."""
    hall.open(Limits(bytes_per_member=BODY, waiting_seconds=0.2))
    first = hall.connect(hall.greedy)
    first.putrequest("POST", "/")
    first.putheader("Content-Length", str(BODY))
    first.endheaders()
    assert answer(hall.send(hall.greedy, "/")) == (200, 0)
    second = hall.send(hall.greedy, "/", bytes(1000))
    response = second.getresponse()
    assert (response.status, response.getheader("connection")) == (429, "close")
    assert "mgt2 asks too much at once" in response.read().decode()


def test_member_that_does_not_read_has_few_answers_made_for_it(hall: Hall) -> None:
    """An answer keeps its turn until it is taken; so no more of them are in memory."""
    hall.open(Limits(write_seconds=PATIENCE * 3))
    deaf = [hall.send(hall.greedy, "/large") for _ in range(12)]
    wait_until(lambda: len(_readable(deaf)) >= 4, PATIENCE, "some answers begin")
    assert answer(hall.send(hall.other, "/")) == (200, 0)
    assert hall.inside["mgt2"] == Limits().calls_per_member
    assert {len(connection.getresponse().read()) for connection in deaf} == {16 << 20}
