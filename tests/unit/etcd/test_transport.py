"""The heads of answers that no etcd sends, and those that it does."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from collective.errors import EtcdUnavailableError
from collective.etcd.transport import Transport

SECONDS = 10.0


def answered(folder: Path, answer: bytes, times: int = 1) -> list[bytes | None]:
    """Make requests, each of which is answered so; return the bodies."""
    path = folder / "etcd"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            # One connection for all: an answer that is not its last one keeps it.
            sock, _ = listening.accept()
            with sock:
                for _ in range(times):
                    sock.recv(1 << 16)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        transport = Transport(path)
        try:
            return [transport.post("/v3/x", {}, SECONDS).body for _ in range(times)]
        finally:
            transport.close()
            thread.join()


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\n\r\n{}",
        b"Content-Length:2\r\nDate: Sun: x\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_answers_come_over_one_connection(tmp_path: Path, head: bytes) -> None:
    """However their length is told."""
    assert answered(tmp_path, b"HTTP/1.1 200 OK\r\n" + head, 3) == [b"{}"] * 3


@pytest.mark.parametrize("head", [b"Connection: close\r\n\r\n{}", b"\r\n{}"])
def test_answer_without_a_length_ends_with_the_connection(tmp_path: Path, head: bytes) -> None:
    """Which is not used again."""
    assert answered(tmp_path, b"HTTP/1.1 200 OK\r\n" + head) == [b"{}"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 17) + b"\r\n\r\n",
    ],
)
def test_answer_that_is_none_was_broken_off(tmp_path: Path, answer: bytes) -> None:
    """It says nothing about what has happened."""
    with pytest.raises(EtcdUnavailableError, match="broke off"):
        answered(tmp_path, answer)
