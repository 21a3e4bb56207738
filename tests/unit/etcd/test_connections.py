"""Which connections of another process are ended, and which never are."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from collective.etcd.connections import Sending, reset_stuck

ESTABLISHED, FIN_WAIT = 1, 4
HERE = {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("sending", "stuck"),
    [
        (Sending(ESTABLISHED, 0, 0), False),
        (Sending(ESTABLISHED, 0, 3), False),
        (Sending(ESTABLISHED, 1, 3), False),
        (Sending(ESTABLISHED, 2, 1), True),
        (Sending(ESTABLISHED, 7, 12), True),
        (Sending(ESTABLISHED, 7, 0), False),
        (Sending(FIN_WAIT, 7, 1), False),
    ],
)
def test_connection_is_stuck_that_waits_for_an_acknowledgement_and_has_backed_off(
    sending: Sending, stuck: bool
) -> None:
    """Backed off with all acknowledged is one whose other end does not read."""
    assert sending.is_stuck is stuck


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection, in this process."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = stack.enter_context(socket.create_connection(listener.getsockname()))
        far = stack.enter_context(listener.accept()[0])
        yield near, far


def test_idle_connection_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is as well as can be: nothing waits."""
    assert reset_stuck(os.getpid(), HERE) == 0
    near, far = pair
    near.sendall(b"well")
    assert far.recv(4) == b"well"


def test_connection_is_left_alone_whose_other_end_does_not_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A member that is stopped for a moment loses nothing."""
    near, far = pair
    near.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += near.send(bytes(65536))
    assert reset_stuck(os.getpid(), HERE) == 0
    while sent:
        sent -= len(far.recv(65536))


def test_process_that_has_ended_is_an_error() -> None:
    """Its connections have ended with it, which is for the caller to know."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises((ProcessLookupError, FileNotFoundError)):
        reset_stuck(child, HERE)
