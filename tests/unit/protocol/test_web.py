"""Requests and answers keep secrets out of sight and show errors in one form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from collective.errors import ProtocolError, QuorumError
from collective.protocol.tunnel import Tunnel
from collective.protocol.web import MOST_VALUES, Request, Requester, Response, lines_response

UNIX = Requester("unix", "uid=0")


def request(body: bytes) -> Request:
    return Request("POST", "/join", {}, body, UNIX, {"nonce": "hidden"})


def lines(response: Response) -> list[Any]:
    assert not isinstance(response.body, bytes | Tunnel)
    return [json.loads(line) for line in b"".join(response.body).splitlines()]


def test_body_with_an_object_is_returned() -> None:
    """A JSON object is what a request's body holds."""
    assert request(b'{"a": 1}').json() == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 60000, b"9" * 5000])
def test_body_without_an_object_is_a_protocol_error(body: bytes) -> None:
    """Whatever else comes is one kind of error, and its text does not repeat the body."""
    with pytest.raises(ProtocolError, match=r"the body of POST /join is not (a )?JSON( object)?$"):
        request(body).json()


@pytest.mark.parametrize("body", [b"[" * 100000, b'{"a":[' + b"{}," * 70000 + b"1]}"])
def test_body_with_too_many_values_is_refused_before_it_is_taken_apart(body: bytes) -> None:
    """Three octets become an object of eighty: what it costs is bounded by what it holds."""
    with pytest.raises(ProtocolError, match=f"has more than {MOST_VALUES} values$"):
        request(body).json()


def test_repr_holds_neither_body_nor_memory() -> None:
    """A request or an answer that gets into a log shows no content."""
    text = repr(request(b"hidden")) + repr(Response(200, b"hidden"))
    assert "hidden" not in text


def test_error_of_a_stream_becomes_its_last_line() -> None:
    """The reader of a stream learns why it ended."""

    def items() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise QuorumError("gone")

    assert lines(lines_response(items())) == [
        {"a": 1},
        {"error": {"code": "quorum", "message": "gone"}},
    ]


def test_defect_of_a_stream_shows_nothing_of_itself() -> None:
    """An unexpected exception, or an object that is no JSON, ends in "internal error"."""

    def items() -> Iterator[dict[str, object]]:
        yield {"a": object()}

    assert lines(lines_response(items())) == [
        {"error": {"code": "failed", "message": "internal error"}}
    ]


def test_stream_that_was_never_started_is_closed_with_its_source() -> None:
    """Closing the answer closes what it reads from, even before the first line."""

    class Source:
        closed = False

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> dict[str, int]:
            raise StopIteration

        def close(self) -> None:
            self.closed = True

    source = Source()
    body: Any = lines_response(source).body
    body.close()
    assert source.closed
