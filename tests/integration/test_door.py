"""A door serves HTTP as it should, says who asks, and closes when told to."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collective import errors
from collective.protocol.door import Door, DoorServer, Limits
from collective.protocol.web import Request, Response, json_response, lines_response
from tests.harness.doors import (
    PATIENCE,
    Authority,
    Leaf,
    ask,
    connect_tls,
    connect_unix,
    http_over,
    read_to_end,
    said_by_the_door,
)

pytestmark = pytest.mark.sockets

GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def member(authority: Authority) -> Leaf:
    return authority.issue("mgt2", 0x0ABCDEF)


@pytest.fixture
def server() -> Iterator[DoorServer]:
    doors = DoorServer()
    doors.start()
    yield doors
    doors.stop(0.0)


class House:
    """A TLS and a unix door with one handler that each test sets."""

    def __init__(self, server: DoorServer, authority: Authority, folder: Path) -> None:
        self.server = server
        self.authority = authority
        self.path = folder / "control"
        self.context = authority.server_context(authority.issue("mgt1", 0x11))
        self.address = ("", 0)
        self.sockets = contextlib.ExitStack()

    def open(self, handler: Callable[[Request], Response], limits: Limits | None = None) -> None:
        self.server.listen_unix(Door("control", handler, limits), self.path, 0o600)
        door = Door("members", handler, limits)
        self.address = self.server.listen_tls(door, "127.0.0.1", 0, lambda: self.context)

    def tls(self, leaf: Leaf | None = None) -> socket.socket:
        sock = connect_tls(self.address, self.authority.client_context(leaf))
        return self.sockets.enter_context(sock)

    def unix(self) -> socket.socket:
        return self.sockets.enter_context(connect_unix(self.path))


@pytest.fixture
def house(server: DoorServer, authority: Authority, tmp_path: Path) -> Iterator[House]:
    house = House(server, authority, tmp_path)
    with house.sockets:
        yield house


def call(connection: http.client.HTTPConnection, method: str = "GET", path: str = "/") -> Any:
    connection.request(method, path)
    return json.load(connection.getresponse())


def count(request: Request) -> Response:
    request.memory["n"] = request.memory.get("n", 0) + 1
    return json_response(200, {"n": request.memory["n"], "path": request.path})


def who(request: Request) -> Response:
    certificate = request.peer.certificate
    facts = None if certificate is None else vars(certificate)
    return json_response(200, {"transport": request.peer.transport, "certificate": facts})


# -- HTTP ------------------------------------------------------------------------------------


def test_second_request_on_one_connection_shares_its_memory(house: House) -> None:
    """A connection is kept open, and its memory lasts as long; another has its own."""
    house.open(count)
    one, other = http_over(house.tls()), http_over(house.tls())
    assert [call(one)["n"], call(one)["n"], call(other)["n"]] == [1, 2, 1]


def test_pipelined_requests_are_answered_in_order(house: House) -> None:
    """Requests that arrive together are answered one after the other."""
    house.open(count)
    first, second = (f"GET /{n} HTTP/1.1\r\nhost: a\r\n" for n in (1, 2))
    answer = ask(house.unix(), f"{first}\r\n{second}connection: close\r\n\r\n".encode())
    assert answer.index(b'"path":"/1"') < answer.index(b'"path":"/2"')
    assert b"server:" not in answer.lower()


def test_http_1_0_client_reads_stream_to_the_end(house: House) -> None:
    """An HTTP/1.0 client gets no chunks: the body ends when the connection does."""
    house.open(lambda request: lines_response(iter([{"a": 1}, None, {"b": 2}])))
    head, _, body = ask(house.unix(), GET_1_0).partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b'{"a":1}\n{"b":2}\n'


def test_stream_sends_each_line_before_the_next_is_made(house: House) -> None:
    """A line of a chunked stream arrives while the iterator waits to make the next one."""
    arrived = threading.Event()

    def lines() -> Iterator[dict[str, bool]]:
        yield {"first": True}
        yield {"waited": arrived.wait(PATIENCE)}

    house.open(lambda request: lines_response(lines()))
    connection = http_over(house.tls())
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.getheader("transfer-encoding") == "chunked"
    assert json.loads(response.readline()) == {"first": True}
    arrived.set()
    assert json.loads(response.readline()) == {"waited": True}
    assert response.read() == b""


def test_stream_that_breaks_is_not_taken_for_whole(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """When an iterator of bytes fails, the client sees a connection that was cut."""

    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise OSError("disk")

    house.open(lambda request: Response(200, chunks()))
    connection = http_over(house.tls())
    connection.request("GET", "/")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    assert "a stream failed" in caplog.text


def test_stream_to_the_end_that_breaks_lacks_the_goodbye(house: House) -> None:
    """An HTTP/1.0 client tells a whole body from a cut one by TLS's close alert."""

    def chunks(request: Request) -> Iterator[bytes]:
        yield b"half"
        if request.path == "/broken":
            raise OSError("disk")

    house.open(lambda request: Response(200, chunks(request)))
    context = house.authority.client_context()
    for path, whole in ((b"/broken", False), (b"/", True)):
        raw = socket.create_connection(house.address, timeout=PATIENCE)
        with context.wrap_socket(raw, suppress_ragged_eofs=False) as sock:
            sock.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
            expected = contextlib.nullcontext() if whole else pytest.raises(OSError, match=r".")
            with expected:
                while sock.recv(65536):
                    pass


@pytest.mark.parametrize("transport", ["tls", "unix"])
def test_client_that_is_refused_in_mid_body_can_send_it_and_read_why(
    house: House, transport: str
) -> None:
    """The door takes the rest of a body that it will not have, so that the refusal is read."""
    house.open(count)
    connection = http_over(house.tls() if transport == "tls" else house.unix())
    connection.request("POST", "/", body=b"x" * 4_000_000)
    assert connection.getresponse().status == 413


def test_head_request_gets_no_body(house: House) -> None:
    """HEAD is answered without a body, also where the answer is a stream, and keeps the line."""
    house.open(lambda request: lines_response(iter([{"a": 1}])))
    connection = http_over(house.unix())
    for _ in range(2):
        connection.request("HEAD", "/")
        assert connection.getresponse().read() == b""


def test_client_that_waits_for_100_continue_is_told_so(house: House) -> None:
    """A client that asks first whether to send its body is asked to."""
    house.open(lambda request: json_response(200, request.json()))
    sock = house.unix()
    head = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n"
    sock.sendall(head + b"expect: 100-continue\r\n\r\n")
    assert sock.recv(1000).startswith(b"HTTP/1.1 100")
    assert ask(sock, b'{"a": 12}').endswith(b'{"a":12}\n')


def test_client_that_ends_its_side_still_gets_the_answer(house: House) -> None:
    """A half-closed unix connection carries the whole answer."""
    house.open(count)
    sock = house.unix()
    sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(sock).endswith(b'{"n":1,"path":"/"}\n')


def test_path_and_query_arrive_decoded(house: House) -> None:
    """Percent escapes are undone once, in the path and in the query."""
    house.open(lambda request: json_response(200, [request.path, dict(request.query)]))
    assert call(http_over(house.unix()), path="/a%20b?x=%2F&y=") == ["/a b", {"x": "/", "y": ""}]


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InputError, 400),
        (errors.ProtocolError, 400),
        (errors.AccessError, 403),
        (errors.RemovedError, 403),
        (errors.InvitationError, 403),
        (errors.RefusedError, 409),
        (errors.QuorumError, 503),
        (errors.PendingError, 503),
        (errors.EtcdUnavailableError, 500),
        (errors.CollectiveError, 500),
    ],
)
def test_error_of_a_handler_becomes_status_and_json(
    house: House, error: type[errors.CollectiveError], status: int
) -> None:
    """Each kind of error has its status, and crosses the door as itself."""

    def refuse(request: Request) -> Response:
        raise error("no", "ask")

    house.open(refuse)
    connection = http_over(house.unix())
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.status == status
    assert json.load(response) == {"error": {"code": error.code, "message": "no", "hint": "ask"}}


def test_defect_of_a_handler_is_logged_and_not_shown(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is a traceback in the log and "internal error" outside."""

    def break_down(request: Request) -> Response:
        raise ZeroDivisionError("inner workings")

    house.open(break_down)
    answer = ask(house.unix(), GET_1_0)
    assert answer.startswith(b"HTTP/1.1 500")
    assert answer.endswith(b'{"error":{"code":"failed","message":"internal error"}}\n')
    assert "ZeroDivisionError: inner workings" in caplog.text


def test_body_that_is_no_object_is_refused(house: House) -> None:
    """Asking a request for its JSON object answers 400 when there is none."""
    house.open(lambda request: json_response(200, request.json()))
    for body in (b"", b"[1]", b"{", b"[" * 60000, b"\xff"):
        raw = b"POST / HTTP/1.0\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        assert ask(house.unix(), raw).startswith(b"HTTP/1.1 400")


# -- who asks --------------------------------------------------------------------------------


def test_client_certificate_is_visible_to_the_handler(house: House, member: Leaf) -> None:
    """A verified certificate arrives as name and fingerprint."""
    house.open(who)
    facts = call(http_over(house.tls(member)))
    assert facts == {"transport": "tls", "certificate": vars(member.facts)}


def test_stranger_and_unix_peer_have_no_certificate(house: House) -> None:
    """Who shows no certificate has none, over TLS and over the unix socket."""
    house.open(who)
    assert call(http_over(house.tls())) == {"transport": "tls", "certificate": None}
    assert call(http_over(house.unix())) == {"transport": "unix", "certificate": None}


def test_certificate_without_a_name_counts_as_none(house: House) -> None:
    """A certificate that names nobody makes nobody a member."""
    house.open(who)
    assert call(http_over(house.tls(house.authority.issue(None, 5))))["certificate"] is None


def test_certificate_of_another_authority_gets_no_answer(house: House, tmp_path: Path) -> None:
    """A certificate that our CA did not sign ends the connection."""
    house.open(who)
    foreign = Authority(tmp_path, "foreign").issue("mgt2", 7)
    assert ask(house.tls(foreign), GET_1_0) == b""


def test_swapped_certificate_is_served_to_new_connections(house: House) -> None:
    """A certificate loaded into the context is served at once, and open connections go on."""
    house.open(count)
    with connect_tls(house.address, house.authority.client_context()) as old:
        before = old.getpeercert(True)
        assert call(http_over(old))["n"] == 1
        leaf = house.authority.issue("mgt1", 0x12)
        house.server.between_handshakes(lambda: house.context.load_cert_chain(leaf.file))
        with connect_tls(house.address, house.authority.client_context()) as new:
            assert new.getpeercert(True) != before
        assert call(http_over(old))["n"] == 2


def test_connections_after_one_without_a_context_are_served(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """When the caller has no context for a connection, that one is closed and the next served."""
    given = iter([None, house.context])

    def give() -> ssl.SSLContext:
        context = next(given)
        if context is None:
            raise errors.CollectiveError("no certificate yet")
        return context

    house.address = house.server.listen_tls(Door("members", count), "127.0.0.1", 0, give)
    with pytest.raises(OSError, match=r"."):
        house.tls()
    assert call(http_over(house.tls()))["n"] == 1
    assert "no certificate yet" in caplog.text


def test_session_is_never_resumed(house: House, member: Leaf) -> None:
    """A certificate is proved anew each time: no session carries an old CA's word along."""
    house.open(who)
    context = house.authority.client_context(member)
    with connect_tls(house.address, context) as first:
        call(http_over(first))
        session = first.session
    assert session is None or not session.has_ticket


# -- closing ---------------------------------------------------------------------------------


def test_close_where_cuts_open_connections_of_the_peer(house: House, member: Leaf) -> None:
    """An idle and a streaming connection of the peer are cut, and nobody else's."""
    closed = threading.Event()

    def answer(request: Request) -> Response:
        return count(request) if request.path == "/count" else lines_response(ticks(closed))

    house.open(answer)
    idle, streaming, stranger = house.tls(member), house.tls(member), house.tls()
    assert call(http_over(idle), path="/count")["n"] == 1
    assert call(http_over(stranger), path="/count")["n"] == 1
    streaming.sendall(GET_1_0)
    assert streaming.recv(10)
    certificate = member.facts
    assert house.server.close_where(lambda peer: peer.certificate == certificate) == 2
    assert read_to_end(idle) == b""
    read_to_end(streaming)
    assert closed.wait(PATIENCE)
    assert call(http_over(stranger), path="/count")["n"] == 2
    assert house.server.close_where(lambda peer: peer.certificate == certificate) == 0


def ticks(closed: threading.Event) -> Iterator[dict[str, int] | None]:
    """Yield for ever, and say so when closed."""
    pace = threading.Event()
    try:
        while True:
            yield {"tick": 1}
            yield None
            pace.wait(0.01)
    finally:
        closed.set()


@pytest.mark.parametrize("transport", ["tls", "unix"])
def test_client_that_leaves_closes_the_stream(house: House, transport: str) -> None:
    """The iterator behind a stream is closed soon after the client went away.

    It is held on to here, so that it is not closed by merely being forgotten.
    """
    closed = threading.Event()
    stream = ticks(closed)
    house.open(lambda request: lines_response(stream))
    sock = house.tls() if transport == "tls" else house.unix()
    sock.sendall(GET_1_0)
    assert sock.recv(10)
    sock.close()
    assert closed.wait(PATIENCE)


def test_silent_stream_notices_that_its_client_left(house: House) -> None:
    """A stream with nothing to say learns of a client that left by its empty chunks."""
    closed = threading.Event()

    def silence() -> Iterator[bytes]:
        pace = threading.Event()
        try:
            while True:
                yield b""
                pace.wait(0.01)
        finally:
            closed.set()

    house.open(lambda request: Response(200, silence()))
    sock = house.unix()
    sock.sendall(GET_1_0)
    assert sock.recv(10)
    sock.close()
    assert closed.wait(PATIENCE)


def test_unix_peer_that_does_not_read_is_cut(house: House) -> None:
    """The write deadline holds where the kernel has none of its own."""
    closed = threading.Event()

    def flood() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    house.open(lambda request: Response(200, flood()), Limits(write_seconds=0.3))
    house.unix().sendall(GET_1_0)
    assert closed.wait(PATIENCE)


def test_stop_lets_a_request_end_and_closes_what_waits(house: House) -> None:
    """Stopping closes idle connections at once and answers what was asked before."""
    entered, go = threading.Event(), threading.Event()

    def slow(request: Request) -> Response:
        entered.set()
        go.wait(PATIENCE)
        return json_response(200, "done")

    house.open(slow)
    idle, busy = house.tls(), house.unix()
    busy.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert entered.wait(PATIENCE)
    stopper = threading.Thread(target=house.server.stop, args=(6 * PATIENCE,))
    stopper.start()
    assert read_to_end(idle) == b""
    assert not house.path.exists()
    go.set()
    answer = read_to_end(busy)
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'"done"\n')
    stopper.join(PATIENCE)
    assert not stopper.is_alive()


def test_stop_cuts_what_is_late(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that does not return holds up stopping until the deadline, and no longer."""
    entered, go = threading.Event(), threading.Event()

    def stuck(request: Request) -> Response:
        entered.set()
        go.wait(PATIENCE)
        return json_response(200, "late")

    house.open(stuck)
    sock = house.unix()
    sock.sendall(GET_1_0)
    assert entered.wait(PATIENCE)
    house.server.stop(0.1)
    assert read_to_end(sock) == b""
    go.set()
    assert said_by_the_door(caplog) == []


def test_stop_listening_keeps_open_connections(house: House) -> None:
    """No new connection gets in, and those that are open go on."""
    house.open(count)
    connection = http_over(house.unix())
    call(connection)
    house.server.stop_listening()
    with pytest.raises(FileNotFoundError):
        house.unix()
    with pytest.raises(ConnectionRefusedError):
        house.tls()
    assert call(connection)["n"] == 2


# -- listening -------------------------------------------------------------------------------


def test_unix_socket_has_its_mode_whatever_the_umask(house: House) -> None:
    """The socket file is made with the mode that was asked for, and nothing else is left."""
    old = os.umask(0)
    try:
        house.open(count)
    finally:
        os.umask(old)
    assert stat.S_IMODE(house.path.stat().st_mode) == 0o600
    assert [entry.name for entry in house.path.parent.iterdir()] == ["control"]


def test_stale_unix_socket_is_replaced(house: House) -> None:
    """A socket file that nobody answers on makes way."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(house.path))
    house.open(count)
    assert call(http_over(house.unix()))["n"] == 1


def test_unix_socket_in_use_is_left_alone(house: House) -> None:
    """A second daemon is told, and the first one goes on answering."""
    house.open(count)
    with pytest.raises(errors.InputError, match=r"control: another process answers there"):
        house.server.listen_unix(Door("second", who), house.path, 0o600)
    assert call(http_over(house.unix()))["n"] == 1


def test_file_that_is_no_socket_is_left_alone(house: House) -> None:
    """A file in the place of the socket is an error, and keeps its content."""
    house.path.write_text("precious")
    with pytest.raises(errors.InputError, match="not a socket"):
        house.server.listen_unix(Door("control", count), house.path, 0o600)
    assert house.path.read_text() == "precious"
    assert [entry.name for entry in house.path.parent.iterdir()] == ["control"]


def test_folder_without_rights_is_an_access_error(house: House) -> None:
    """Not being let into the folder says so, and where."""
    folder = house.path.parent
    folder.chmod(0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(errors.AccessError, match=r"cannot listen on .*: permission denied"):
            house.server.listen_unix(Door("control", count), house.path, 0o600)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_taken_port_is_named(house: House) -> None:
    """The error for a port in use names address and port."""
    house.open(count)
    host, port = house.address
    with pytest.raises(errors.InputError) as caught:
        house.server.listen_tls(Door("second", count), host, port, lambda: house.context)
    assert str(caught.value) == f"cannot listen on {host}:{port}: address already in use"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
def test_address_that_is_not_here_is_named(house: House, host: str) -> None:
    """The error for an address of another machine, or of none, names it."""
    with pytest.raises(errors.InputError) as caught:
        house.server.listen_tls(Door("members", count), host, 0, lambda: house.context)
    assert host in str(caught.value)


def test_requests_leave_no_log_above_debug(
    house: House, member: Leaf, caplog: pytest.LogCaptureFixture
) -> None:
    """What is asked is nobody's business but the handler's."""
    caplog.set_level(logging.INFO)
    house.open(count)
    call(http_over(house.tls(member)))
    ask(house.unix(), GET_1_0)
    house.server.stop(1.0)
    assert said_by_the_door(caplog) == []
