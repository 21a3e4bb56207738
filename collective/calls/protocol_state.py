"""What one end of a call has heard, and what that means. No socket, no clock, no thread.

Invariants:
  * Messages are given in order, each once; what came before an end or an error is given first.
  * An end that was not said is never taken for one: it is a call that broke off.
"""

from __future__ import annotations

from collections import deque

from collective.errors import (
    CollectiveError,
    HandlerError,
    ProtocolError,
    RefusedError,
    from_wire,
)
from collective.protocol.frames import Failed, Frames, Kind, read_told

#: An end that lives says so this often, in seconds, and is taken for lost when it is silent for
#: that long.
BEAT_SECONDS = 2.0
SILENCE_SECONDS = 10.0

#: How long a call lasts where its caller does not say, in seconds.
SECONDS = 10.0


class ProtocolState:
    """What came from the other end.

    Attributes:
        has_ended: the other end has said that no more messages come.
        is_done: it has said that it is done with the call.
        error: what it said in place of that.
    """

    def __init__(self, what: str) -> None:
        """Begin.

        Args:
            what: the call, for errors.
        """
        self._what = what
        self._frames = Frames()
        self._messages: deque[bytes] = deque()
        #: Bytes of messages that were not taken.
        self.held = 0
        self.has_ended = self.is_done = False
        self.error: CollectiveError | None = None

    def hear(self, data: bytes) -> None:
        """Take bytes as they came.

        Raises:
            ProtocolError: they are no frames of a call.
        """
        for kind, payload in self._frames.feed(data):
            if self.is_over:
                continue
            if kind is Kind.MESSAGE:
                self._messages.append(payload)
                self.held += len(payload)
            elif kind is Kind.END:
                self.has_ended = True
            elif kind is Kind.DONE:
                self.has_ended = self.is_done = True
            elif kind is Kind.ERROR:
                self.error = self._read_error(payload)
            elif kind is not Kind.BEAT:
                raise ProtocolError(f"{self._what} holds a {kind.name} where none belongs")

    @property
    def is_over(self) -> bool:
        """Whether the other end says nothing more."""
        return self.is_done or self.error is not None

    @property
    def has_message(self) -> bool:
        """Whether a message has come that was not taken."""
        return bool(self._messages)

    def take(self) -> bytes | None:
        """Return the next message that has come, or None."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self.held -= len(message)
        return message

    def _read_error(self, payload: bytes) -> CollectiveError:
        raw = read_told(payload)
        told, failed = from_wire(raw), raw.get("failed")
        if failed == Failed.NOT_BEGUN.value:
            return RefusedError(f"{self._what} never began: {told.message}", told.hint)
        if failed == Failed.HIDDEN.value:
            return HandlerError(f"{self._what} failed there: {told.message}", told.hint)
        return HandlerError(f"{self._what} failed: {told.message}", told.hint, told)
