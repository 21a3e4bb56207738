"""How the client reads an answer, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective import client
from collective.errors import AccessError, DaemonError, ProtocolError, RefusedError

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class Parts:
    """A socket that gives these parts, or raises them, then ends."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = [part for part in parts if part != b""]
        self.sent = b""
        self.closed = False

    def settimeout(self, _seconds: float) -> None:
        """Do nothing."""

    def sendall(self, data: bytes) -> None:
        """Keep what is sent."""
        self.sent += data

    def recv(self, _most: int) -> bytes:
        """Return the next part."""
        part = self._parts.pop(0) if self._parts else b""
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        """Be closed."""
        self.closed = True


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Parts]]:
    """What connects next gets the socket in the list, which must be closed in the end."""
    sockets: list[Parts] = []
    monkeypatch.setattr(client, "_connect", lambda _path, _seconds: sockets[0])
    yield sockets
    assert all(sock.closed for sock in sockets)


def lines(*parts: bytes) -> list[str]:
    return list(client._lines(Parts(*parts), client._Waiting(9.0, 9.0)))


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), max_size=4),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_answer_is_the_same_however_it_is_cut(texts: list[str], cuts: list[int]) -> None:
    """Where the kernel cuts the stream makes no difference, not even within a character."""
    whole = HEAD + b"".join(text.encode() + b"\n" for text in texts)
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    parts = [whole[a:b] for a, b in pairwise(edges)]
    assert lines(*parts) == texts


def test_line_that_was_cut_off_is_dropped() -> None:
    """Half a line is no answer: half an exit status could be another one."""
    assert lines(HEAD, b"o all\nx 1") == ["o all"]
    assert lines(HEAD) == lines(HEAD[:20]) == lines() == []


@pytest.mark.parametrize("head", [HEAD, b""])
def test_answer_without_an_end_is_cut(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken daemon cannot fill the command's memory, in the head or after it."""
    monkeypatch.setattr(client, "_MOST_BYTES", 1000)
    with pytest.raises(ProtocolError, match="without an end"):
        lines(head, *[b"x" * 100] * 20)


@pytest.mark.parametrize(
    "head", [b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"{}\r\n\r\n"]
)
def test_other_program_on_the_socket_is_told(head: bytes) -> None:
    """Nothing of what it says is printed as a result."""
    with pytest.raises(ProtocolError, match="is not collectived"):
        lines(head, b"o fine\nx 0\n")


def test_status_other_than_200_is_a_refusal_with_its_words() -> None:
    """A daemon of another release, which does not know the route."""
    with pytest.raises(ProtocolError, match="refused the request: no such route"):
        lines(b"HTTP/1.0 404 Not Found\r\n\r\nno such route\n")


def test_stream_gives_kind_and_text(answering: list[Parts]) -> None:
    """A letter, a space, and the text as it is, spaces and all."""
    answering.append(Parts(HEAD, b"s dial: mgt1\no   two\no \nx 0\n"))
    assert list(client.stream("p", "GET", "/v1/show", b"", 1.0, 1.0)) == [
        ("s", "dial: mgt1"),
        ("o", "  two"),
        ("o", ""),
        ("x", "0"),
    ]
    head, _, body = answering[0].sent.partition(b"\r\n\r\n")
    assert head.startswith(b"GET /v1/show HTTP/1.0\r\n")
    assert b"\r\nAccept: text/plain\r\n" in head
    assert body == b""


def answer(*values: Any) -> bytes:
    return HEAD + b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_ask_returns_the_result_and_drops_the_steps(answering: list[Parts]) -> None:
    """What is sent says its format and its length."""
    answering.append(Parts(answer({"step": "dial"}, {"result": {"a": 1}})))
    assert client.ask("p", "POST", "/v1/join", {"server": "mgt1"}, 1.0) == {"a": 1}
    head, _, body = answering[0].sent.partition(b"\r\n\r\n")
    assert json.loads(body) == {"format": 1, "server": "mgt1"}
    assert f"Content-Length: {len(body)}".encode() in head


def test_ask_raises_the_error_that_came(answering: list[Parts]) -> None:
    """With its class and its hint."""
    error = RefusedError("not now", "later").to_wire()
    answering.append(Parts(answer({"step": "dial"}, {"error": error})))
    with pytest.raises(RefusedError, match="not now") as caught:
        client.ask("p", "GET", "/v1/show", None, 1.0)
    assert caught.value.hint == "later"


def test_answer_with_steps_alone_is_an_error(answering: list[Parts]) -> None:
    """A daemon that died on the way gave no result, and that is not a success."""
    answering.append(Parts(answer({"step": "dial"})))
    with pytest.raises(DaemonError, match="without an answer"):
        client.ask("p", "GET", "/v1/show", None, 1.0)


@pytest.mark.parametrize("line", [b"<html>\n", b"[]\n", b"3\n", b"null\n", b"\xff\xfe\n"])
def test_line_that_is_no_object_is_a_protocol_error(answering: list[Parts], line: bytes) -> None:
    """No other error leaves, whatever comes."""
    answering.append(Parts(HEAD + line))
    with pytest.raises(ProtocolError):
        client.ask("p", "GET", "/v1/show", None, 1.0)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "did not answer within 7 s"),
        (ConnectionResetError(104, "Connection reset by peer"), "broke off: Connection reset"),
    ],
)
def test_transport_that_fails_is_one_sentence(
    answering: list[Parts], error: Exception, says: str
) -> None:
    """And where to look further."""
    answering.append(Parts(HEAD, error))
    with pytest.raises(DaemonError, match=says) as caught:
        list(client.stream("p", "GET", "/v1/show", b"", 7.0, 7.0))
    assert "journalctl" in str(caught.value.hint)


class Clock(Parts):
    """A socket whose parts come after so many seconds each, of a clock that nobody waits for."""

    def __init__(self, *parts: tuple[float, bytes]) -> None:
        super().__init__()
        self.now = 100.0
        self._seconds, self._coming = 0.0, list(parts)

    def settimeout(self, seconds: float) -> None:
        """Keep it."""
        self._seconds = seconds

    def recv(self, _most: int) -> bytes:
        """Return the next part, or nothing in time."""
        after, part = self._coming.pop(0) if self._coming else (1e9, b"")
        self.now += min(after, self._seconds)
        if after > self._seconds:
            raise TimeoutError
        return part


BEATS = [(0.5, b"\n")] * 99


@pytest.mark.parametrize(
    ("parts", "says", "took"),
    [
        ([], "did not answer within 5 s", 5.0),
        ([(0.1, HEAD), *BEATS[:3]], "did not answer within 5 s", 6.6),
        ([(0.1, HEAD), *BEATS[:3], (0.0, b"s dial: mgt1\n")], "did not answer within 5 s", 6.6),
        ([(0.1, HEAD)], "did not answer within 20 s", 20.0),
        ([(0.1, HEAD), *BEATS], "got no further within 20 s", 20.0),
        ([(0.1, HEAD), *BEATS[:9], (0.4, b"s dial: mgt1\n"), *BEATS], "no further", 25.0),
    ],
)
def test_daemon_that_hangs_is_told_from_one_at_work(
    parts: list[tuple[float, bytes]],
    says: str,
    took: float,
    answering: list[Parts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stopped one kept a command for all of its 60 s; one of before an update does not beat."""
    sock = Clock(*parts)
    monkeypatch.setattr(client, "monotonic", lambda: sock.now)
    answering.append(sock)
    with pytest.raises(DaemonError, match=says):
        list(client.stream("p", "POST", "/v1/delete", b"", 20.0, 5.0))
    assert sock.now - 100.0 == pytest.approx(took)


def test_full_queue_at_the_socket_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon runs, so to start it is no way out."""

    class Full(Parts):
        def connect(self, _path: str) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("_socket.socket", lambda *_: Full())
    with pytest.raises(DaemonError, match="too many wait") as caught:
        client.ask("p", "GET", "/v1/show", None, 1.0)
    assert "start it" not in str(caught.value.hint)


def test_missing_socket_says_how_to_start_the_daemon(tmp_path: Path) -> None:
    """The commonest trouble of all has its own sentence and hint."""
    path = tmp_path / "control.sock"
    for says in ("there is no socket", "nobody answers"):
        with pytest.raises(DaemonError, match=f"does not run here: {says}") as caught:
            client.ask(str(path), "GET", "/v1/show", None, 1.0)
        assert caught.value.hint is not None
        assert caught.value.hint.endswith("its log says why: journalctl -u collectived")
        path.touch()


def test_socket_without_the_right_is_an_access_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says as whom, since sudo was forgotten."""

    class Closed(Parts):
        def connect(self, _path: str) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("_socket.socket", lambda *_: Closed())
    with pytest.raises(AccessError, match="no right to talk") as caught:
        client.ask("p", "GET", "/v1/show", None, 1.0)
    assert "you are user" in str(caught.value.hint)
