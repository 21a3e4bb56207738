"""Crowds at a door: connections that idle, peers that dawdle, strangers with bad proofs.

It does not judge: it says what happened.
"""

from __future__ import annotations

import json
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from collective.protocol import messages
from tests.fuzz.inputs import CERTIFICATE
from tests.fuzz.target import Target
from tests.harness.doors import http_over

_SLOWLY_SECONDS = 1.0


def allow_sockets(count: int) -> None:
    """Let this process open so many sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        wanted = count + 200 if hard == resource.RLIM_INFINITY else min(hard, count + 200)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def idle(target: Target, stack: ExitStack, count: int, with_tls: int) -> int:
    """Open connections that say nothing, each from another address.

    Args:
        target: where.
        stack: keeps them open.
        count: how many.
        with_tls: how many of them finish the handshake.

    Returns:
        How many got as far as they were to; the others were turned away.
    """
    allow_sockets(count)
    opened = 0
    for number in range(count):
        with suppress(OSError):
            tls = number * with_tls // count != (number + 1) * with_tls // count
            stack.enter_context(target.connect() if tls else target.dial())
            opened += 1
    return opened


@contextmanager
def dawdlers(target: Target, each: int) -> Iterator[None]:
    """Keep peers there that send a byte a second: in the handshake, a head, and a body."""
    done = threading.Event()
    head = b"GET /v1/enroll/challenge HTTP/1.1\r\nHost: "
    body = b"POST /v1/enroll/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    parts = ((b"\x16\x03\x01\x02\x00\x01\x00", False), (head, True), (body, True))
    threads = [
        threading.Thread(target=_dawdle, args=(target, begin, tls, done))
        for begin, tls in parts
        for _ in range(each)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _dawdle(target: Target, begin: bytes, tls: bool, done: threading.Event) -> None:
    while not done.is_set():
        with suppress(OSError):
            sock: socket.socket | ssl.SSLSocket = target.connect() if tls else target.dial()
            with sock:
                sock.sendall(begin)
                while not done.wait(_SLOWLY_SECONDS):
                    sock.sendall(b"x")


def claim_badly(target: Target, seconds: float, most: int) -> tuple[int, set[int]]:
    """Claim an invitation with bad proofs, each from another address, as often as it goes.

    Returns:
        How many, and the statuses of the answers.
    """
    claim = {
        "format": messages.FORMAT,
        "name": "mgt9",
        "role": "voter",
        "certificate": CERTIFICATE,
        "addresses": ["127.0.0.9"],
        "door_port": 13002,
        "peer_port": 13003,
        "signature": "00" * 64,
    }
    statuses, count, ends = set(), 0, time.monotonic() + seconds
    while time.monotonic() < ends and count < most:
        with target.connect() as sock:
            connection = http_over(sock)
            connection.request("GET", messages.CHALLENGE)
            connection.getresponse().read()
            connection.request("POST", messages.CLAIM, json.dumps(claim))
            response = connection.getresponse()
            statuses.add(response.status)
            response.read()
        count += 1
    return count, statuses
