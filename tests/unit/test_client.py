"""How the client reads an answer, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective import client
from collective.errors import DaemonError, ProtocolError, RefusedError

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


class Parts:
    """The receiving end of a socket, which gives these parts, then the end."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = [part for part in parts if part]

    def recv(self, _most: int) -> bytes:
        """Return the next part."""
        return self._parts.pop(0) if self._parts else b""


def lines(*parts: bytes) -> list[dict[str, Any]]:
    return list(client._lines(Parts(list(parts)), 1.0))


@given(
    documents=st.lists(
        st.dictionaries(st.sampled_from(["step", "result"]), st.text()), max_size=4
    ),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    ended=st.booleans(),
)
def test_answer_is_the_same_however_it_is_cut(
    documents: list[dict[str, str]], cuts: list[int], ended: bool
) -> None:
    """Where the kernel cuts the stream makes no difference, nor does a missing last newline."""
    body = b"\n".join(json.dumps(d, ensure_ascii=False).encode() for d in documents)
    whole = HEAD + body + (b"\n" if ended else b"")
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    parts = [whole[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert lines(*parts) == documents


def test_answer_without_a_body_has_no_lines() -> None:
    """A head alone, or nothing at all, gives nothing; the caller says that nothing came."""
    assert lines(HEAD) == lines() == []


def test_answer_that_ends_in_its_head_is_a_protocol_error() -> None:
    """Half a head is never read as half a result."""
    with pytest.raises(ProtocolError):
        lines(HEAD[:20])


def test_error_line_becomes_its_class_after_the_lines_before() -> None:
    """Steps are delivered before the error that ended them."""
    error = RefusedError("not now", "later").to_wire()
    stream = client._lines(
        Parts([HEAD, b'{"step":"dial"}\n', json.dumps({"error": error}).encode()]), 1
    )
    assert next(stream) == {"step": "dial"}
    with pytest.raises(RefusedError, match="not now") as caught:
        next(stream)
    assert caught.value.hint == "later"


@pytest.mark.parametrize("line", [b"<html>", b"[]", b"3", b"null", b"\xff\xfe", b'{"a":'])
def test_line_that_is_no_object_is_a_protocol_error(line: bytes) -> None:
    """Whatever answers on that socket, it is no daemon of ours."""
    with pytest.raises(ProtocolError):
        client._decoded(line)
    with pytest.raises(ProtocolError):
        lines(HEAD, line)


@pytest.mark.parametrize("head", [HEAD, b""])
def test_answer_without_an_end_is_cut(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken daemon cannot fill the command's memory, in the head or after it."""
    monkeypatch.setattr(client, "_MOST_BYTES", 1000)
    with pytest.raises(ProtocolError, match="without an end"):
        lines(head, *[b"x" * 100] * 20)


def test_answer_with_steps_alone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that died on the way gave no result, and that is not a success."""
    monkeypatch.setattr(client, "stream", lambda *_: iter([{"step": "dial"}]))
    with pytest.raises(DaemonError, match="without an answer"):
        client.ask("socket", "GET", "/v1/show", None, 1.0)


def test_missing_socket_says_how_to_start_the_daemon() -> None:
    """The commonest trouble of all has its own sentence and hint."""
    with pytest.raises(DaemonError, match="does not run here") as caught:
        client.ask("/nonexistent/control.sock", "GET", "/v1/show", None, 1.0)
    assert caught.value.hint == "start it: systemctl start collectived"
