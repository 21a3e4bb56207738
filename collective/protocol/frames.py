"""What passes over a call between two servers: frames of a kind, a length and a payload.

Pure: bytes in, frames out. It opens nothing and waits for nothing.

The caller begins with START; what serves it then knows that nobody gave up before. MESSAGE goes
both ways. END says that no more messages come from this side. DONE, or ERROR in its place, comes
from who serves it, and is the end of the call. BEAT says that a side lives, and nothing else.

Invariants:
  * No more than one frame of the greatest size is ever held, however the bytes come.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from collective.errors import CollectiveError, InputError, ProtocolError
from collective.protocol.messages import Greeting

#: The most bytes of one message.
MOST_BYTES = 1 << 20
#: The longest that a call may last, in seconds: a week.
MOST_SECONDS = 7 * 86400.0

_HEAD = struct.Struct(">BI")
HEAD_BYTES = _HEAD.size


class Kind(IntEnum):
    """What a frame is."""

    BEAT = 0
    CALLER = 1
    START = 2
    MESSAGE = 3
    END = 4
    ERROR = 5
    DONE = 6


class Failed(str, Enum):
    """What the error of a call is.

    RAISED is what the handler has raised, HIDDEN stands for something that is told to nobody, and
    with NOT_BEGUN it never ran.
    """

    RAISED = "raised"
    HIDDEN = "hidden"
    NOT_BEGUN = "not-begun"


Frame = tuple[Kind, bytes]


@dataclass(frozen=True)
class Caller:
    """Who calls, as the daemon of who is called has found it out.

    Attributes:
        name: of the server.
        address: IP address, as its record has it.
        fingerprint: SHA-256 (hex) of the certificate that it has shown.
    """

    name: str
    address: str
    fingerprint: str


def greeting(caller: Caller, until: float) -> bytes:
    """Return the frame that names the caller, as it is sent.

    Args:
        caller: who calls.
        until: when its time is up, by the monotonic clock, which all processes here share.
    """
    named = Greeting(caller.name, caller.address, caller.fingerprint, until)
    return told(Kind.CALLER, named.to_wire())


def read_greeting(payload: bytes) -> tuple[Caller, float]:
    """Read what ``greeting`` wrote: who calls, and when the call's time is up.

    Raises:
        ProtocolError: it is no such frame.
    """
    named = Greeting.from_wire(read_told(payload))
    return Caller(named.name, named.address, named.fingerprint), named.until


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """Return a frame as it is sent."""
    return _HEAD.pack(kind, len(payload)) + payload


def check_message(payload: bytes) -> None:
    """Refuse what is no message.

    Raises:
        InputError: it is not bytes, or too long.
    """
    if not isinstance(payload, bytes):
        raise InputError(f"a message must be bytes, found {type(payload).__name__}")
    if len(payload) > MOST_BYTES:
        raise InputError(
            f"a message of {len(payload)} bytes is too long, at most {MOST_BYTES}",
            "send it in parts: a call takes any number of messages",
        )


def message(payload: bytes) -> bytes:
    """Return a message as it is sent.

    Raises:
        InputError: it is none.
    """
    check_message(payload)
    return frame(Kind.MESSAGE, payload)


def told(kind: Kind, value: Mapping[str, Any]) -> bytes:
    """Return a frame that holds a JSON object, as it is sent."""
    return frame(kind, json.dumps(value).encode())


def failure(error: CollectiveError, why: Failed) -> bytes:
    """Return the frame that tells what failed, as it is sent."""
    return told(Kind.ERROR, {**error.to_wire(), "failed": why.value})


def read_told(payload: bytes) -> dict[str, Any]:
    """Read a frame that holds a JSON object.

    Raises:
        ProtocolError: it does not.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ProtocolError("a frame of a call holds no JSON object")
    return value


def read_head(data: bytes) -> tuple[Kind, int]:
    """Read the first ``HEAD_BYTES`` of a frame: its kind, and the length of its payload.

    Raises:
        ProtocolError: they are none.
    """
    number, size = _HEAD.unpack(data)
    if size > MOST_BYTES:
        raise ProtocolError(f"a frame of {size} bytes is longer than {MOST_BYTES}")
    try:
        return Kind(number), size
    except ValueError:
        raise ProtocolError(f"a call holds a frame of the unknown kind {number}") from None


class Frames:
    """Takes bytes as they come, and gives the frames that are whole."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete; to be read to its end.

        Raises:
            ProtocolError: what came is no frame.
        """
        self._rest += data
        while len(self._rest) >= HEAD_BYTES:
            kind, size = read_head(bytes(self._rest[:HEAD_BYTES]))
            end = HEAD_BYTES + size
            if len(self._rest) < end:
                return
            payload = bytes(self._rest[HEAD_BYTES:end])
            del self._rest[:end]
            yield kind, payload
