"""Frames come whole and in order, however the bytes are cut; what is none is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InputError, ProtocolError
from collective.protocol.frames import (
    MOST_BYTES,
    Caller,
    Frame,
    Frames,
    Kind,
    check_message,
    frame,
    greeting,
    read_greeting,
    read_told,
    told,
)

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=12)


@given(sent=FRAMES, cuts=st.lists(st.integers(1, 30), max_size=60))
def test_frames_are_whole_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    """Each once, in order."""
    data = b"".join(frame(kind, payload) for kind, payload in sent)
    frames, heard = Frames(), list[Frame]()
    for size in [*cuts, len(data)]:
        part, data = data[:size], data[size:]
        heard += frames.feed(part)
    assert heard == sent


@pytest.mark.parametrize(
    "data", [b"\x09\0\0\0\0", b"\xff" * 5, b"\x03" + (MOST_BYTES + 1).to_bytes(4, "big")]
)
def test_no_frame_is_refused(data: bytes) -> None:
    """An unknown kind, or one that is too long, before its payload comes."""
    with pytest.raises(ProtocolError):
        list(Frames().feed(data))


def test_longest_message_passes_and_a_longer_one_does_not() -> None:
    """Nor what is no bytes."""
    longest = bytes(MOST_BYTES)
    check_message(longest)
    assert list(Frames().feed(frame(Kind.MESSAGE, longest))) == [(Kind.MESSAGE, longest)]
    for bad in (longest + b"\0", "text"):
        with pytest.raises(InputError):
            check_message(bad)  # type: ignore[arg-type]


def test_greeting_names_the_caller() -> None:
    """As the daemon has found it out; a newer or broken one is refused."""
    caller = Caller("mgt1", "127.0.0.1", "ab" * 32)
    ((kind, payload),) = Frames().feed(greeting(caller, 2.5))
    assert (kind, read_greeting(payload)) == (Kind.CALLER, (caller, 2.5))
    for change in ({"format": 2}, {"until": "2"}, {"until": True}, {"name": 3}):
        ((_, broken),) = Frames().feed(told(Kind.CALLER, {**read_told(payload), **change}))
        with pytest.raises(ProtocolError):
            read_greeting(broken)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    """Whatever came."""
    with pytest.raises(ProtocolError):
        read_told(payload)
