"""The CONNECT proxy, over real sockets on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from collective.protocol.tunnel_proxy import TunnelProxy

pytestmark = pytest.mark.sockets

SECONDS = 10.0
DIALLED = ("192.0.2.1", 13003)


@pytest.fixture
def target() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    while part := connection.recv(1000):
                        connection.sendall(part)

        threading.Thread(target=serve, daemon=True).start()
        yield ("127.0.0.1", listener.getsockname()[1])
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def detour(target: tuple[str, int]) -> Iterator[TunnelProxy]:
    """One that leads to it."""
    made = TunnelProxy({DIALLED: target})
    made.start()
    yield made
    made.stop()


def ask(detour: TunnelProxy, request: bytes) -> tuple[socket.socket, bytes]:
    sock = socket.create_connection(("127.0.0.1", detour.port), timeout=SECONDS)
    sock.sendall(request)
    return sock, sock.recv(1000)


def test_connection_is_led_elsewhere(detour: TunnelProxy) -> None:
    """What is dialled is nobody's address; what answers is the target."""
    sock, answer = ask(detour, b"CONNECT 192.0.2.1:13003 HTTP/1.1\r\nHost: x\r\n\r\n")
    with sock:
        assert answer.startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"hello")
        assert sock.recv(1000) == b"hello"


def test_way_that_is_given_later_is_taken(detour: TunnelProxy, target: tuple[str, int]) -> None:
    """Also one to an IPv6 address, in brackets."""
    detour.lead({("fd00::1", 13003): target})
    sock, answer = ask(detour, b"CONNECT [fd00::1]:13003 HTTP/1.1\r\n\r\n")
    with sock:
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_line",
    [
        b"CONNECT 127.0.0.1:22 HTTP/1.1",
        b"CONNECT 192.0.2.1:13002 HTTP/1.1",
        b"GET http://192.0.2.1:13003/ HTTP/1.1",
        b"CONNECT unix: HTTP/1.1",
        b"\xff\xff",
    ],
)
def test_what_was_not_given_is_refused(detour: TunnelProxy, request_line: bytes) -> None:
    """It is no open proxy: other hosts, other ports, other methods."""
    sock, answer = ask(detour, request_line + b"\r\n\r\n")
    with sock:
        assert answer.startswith(b"HTTP/1.1 403 ")


def test_request_without_an_end_is_dropped(detour: TunnelProxy) -> None:
    """A head that is too long closes the connection, and nothing is connected."""
    sock, answer = ask(detour, b"CONNECT " + b"x" * 20000)
    with sock:
        assert answer == b""


def test_target_that_is_down_is_told() -> None:
    """The client hears it at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    detour = TunnelProxy({DIALLED: ("127.0.0.1", port)})
    detour.start()
    try:
        sock, answer = ask(detour, b"CONNECT 192.0.2.1:13003 HTTP/1.1\r\n\r\n")
        with sock:
            assert answer.startswith(b"HTTP/1.1 502 ")
    finally:
        detour.stop()
