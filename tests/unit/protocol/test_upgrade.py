"""What is answered to a request for a tunnel: agreed, refused with the reason, or broken off."""

from __future__ import annotations

import pytest

from collective.errors import NoServiceError, ProtocolError, UnreachableError
from collective.protocol.upgrade import Upgrade

AGREED = b"HTTP/1.1 101 \r\nconnection: Upgrade\r\nupgrade: collective-call\r\n\r\n"
REFUSAL = b'{"error": {"code": "no-service", "message": "nobody serves it", "hint": "start it"}}'

SHORT = b"HTTP/1.1 500 \r\nContent-Length: 9\r\n\r\n{"


def hear(data: bytes, size: int) -> bool:
    """Let an answer come in parts."""
    asking = Upgrade("/v1/call/echo", "mgt2")
    assert asking.request.startswith(b"POST /v1/call/echo HTTP/1.1\r\n")
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return any(asking.hear(part) for part in parts)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_agreement_is_heard_when_it_is_whole(size: int) -> None:
    """However it comes."""
    assert not hear(AGREED[:-1], size)
    assert hear(AGREED, size)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_refusal_is_the_error_of_the_other_side(size: int) -> None:
    """Its class, text and hint."""
    head = b"HTTP/1.1 500 \r\nContent-Length: %d\r\n\r\n" % len(REFUSAL)
    with pytest.raises(NoServiceError, match="nobody serves it") as caught:
        hear(head + REFUSAL, size)
    assert caught.value.hint == "start it"


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 10", b"HTTP/1.1 500 \r\nContent-Length: 9\r\n\r\n{"]
)
def test_end_before_an_answer_is_no_agreement(begun: bytes) -> None:
    """Nothing has happened then."""
    asking = Upgrade("/v1/call/echo", "mgt2")
    assert not (begun and asking.hear(begun))
    with pytest.raises(UnreachableError, match="mgt2 broke off before"):
        asking.hear(b"")


def test_answer_that_is_none_is_told() -> None:
    """Something else listens there; or an old release that knows no calls."""
    with pytest.raises(ProtocolError, match="does not answer as it should"):
        hear(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 1000)
    with pytest.raises(UnreachableError):
        hear(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}", 1000)
