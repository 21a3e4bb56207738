"""The connection of a call, without any waiting: what threads and loops share.

Invariants:
  * Its descriptor is closed when nobody uses it any more, never under somebody who waits for it.
  * Whoever waits in it is woken when it is closed.
  * Who sends holds ``sending`` from the first byte of a frame to its last.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

from collective.calls.polling import has_hung_up
from collective.calls.protocol_state import SILENCE_SECONDS, ProtocolState
from collective.errors import ClosedError, CollectiveError, DeadlineError, ProtocolError
from collective.protocol.frames import Kind, frame

_READ = 65536
_BEAT = frame(Kind.BEAT)
# What a sender hears and nobody takes.
_MOST_HELD = 1 << 20


@dataclass(frozen=True)
class TimeLeft:
    """How long may be waited, in seconds, and what is raised then."""

    seconds: float
    error: CollectiveError


class CallConnection:
    """One end of a connection.

    Attributes:
        what: the call, for errors.
        sending: held by who sends.
    """

    def __init__(
        self,
        sock: socket.socket,
        what: str,
        seconds: float,
        began: float,
        broken: Callable[[str], CollectiveError],
        *,
        serves: bool = False,
    ) -> None:
        """Take over a connection.

        Args:
            sock: to the other end.
            what: the call, for errors.
            seconds: how long it may last.
            began: when it did, by the monotonic clock.
            broken: makes the error of a call that did not come to its end.
            serves: whether the call is served at this end: then nothing is heard any more of who
                has hung up without saying that it was done.
        """
        self.what = what
        self.sending = threading.Lock()
        self._sock = sock
        self._seconds = seconds
        self._deadline = began + seconds
        self._broken = broken
        self._serves = serves
        self._talk = ProtocolState(what)
        self._heard = monotonic()
        self._hearing = threading.Lock()
        self._guard = threading.Lock()
        self._users = 0
        self._receivers = 0
        self._closed = False
        sock.setblocking(False)

    # -- its life --------------------------------------------------------------------------

    @property
    def seconds_left(self) -> float:
        """How long the call may last still."""
        return max(0.0, self._deadline - monotonic())

    @property
    def is_over(self) -> bool:
        """Whether who serves the call is done with it; what it said before may be untaken."""
        return self._talk.is_over

    @property
    def is_gone(self) -> bool:
        """Whether the other end has hung up; what it said before may be unread."""
        with self._guard:
            return self._closed or has_hung_up(self._sock.fileno())

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the descriptor stay what it is.

        Raises:
            ClosedError: it is closed already.
        """
        with self._guard:
            self.check_open()
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                self._close_unused()

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Be the one who hears what comes: what another takes, nobody who waits is told of.

        Raises:
            ClosedError: it is closed already.
        """
        with self.in_use():
            with self._hearing:
                self._receivers += 1
            try:
                yield
            finally:
                with self._hearing:
                    self._receivers -= 1

    def close(self) -> None:
        """End the call, wake who waits in it, and close the descriptor when nobody uses it."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._shut()
            self._close_unused()

    def check_open(self) -> None:
        """Raise unless it is open.

        Raises:
            ClosedError: we have ended it.
        """
        if self._closed:
            raise ClosedError(f"{self.what} was ended here")

    def after_fork(self) -> None:
        """Close the descriptor in a child process, which is no end of the call."""
        self._closed = True
        self._guard, self.sending = threading.Lock(), threading.Lock()
        self._sock.close()

    def _close_unused(self) -> None:
        if self._closed and not self._users:
            self._sock.close()

    def _shut(self) -> None:
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- while it is in use ----------------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor that becomes readable or writable."""
        return self._sock.fileno()

    def has_next(self) -> bool:
        """Take what has come, and return whether ``take`` has something to give.

        At most one part is read, however much has come: who waits looks at the clock in between.

        Raises:
            HandlerError: what serves the call has failed.
            InDoubtError, ClosedError: the call broke off, or we have ended it.
        """
        self.check_open()
        if not self._is_settled():
            self._hear()
        if self._serves and self._talk.has_message and not self._talk.has_ended and self.is_gone:
            # It may have said that no more comes, behind what was read so far.
            self._hear_all()
            if not self._talk.has_ended:
                raise self._broken("broke off")
        return self._is_settled()

    def is_done(self) -> bool:
        """Drop what has come, and return whether who serves the call has ended it well.

        Raises:
            HandlerError: it has failed.
            InDoubtError, ClosedError: the call broke off, or we have ended it.
        """
        self.check_open()
        if not self._talk.is_over:
            self._hear()
        if not self._talk.is_over and self.is_gone:
            self._hear_all()
            if not self._talk.is_over:
                raise self._broken("broke off")
        if self._talk.error is not None:
            raise self._talk.error
        while not self._talk.is_done and self._talk.take() is not None:
            pass
        return self._talk.is_done

    def take(self) -> bytes | None:
        """Return the next message, None where there is none."""
        return self._talk.take()

    def send_now(self, data: memoryview) -> memoryview:
        """Send what can be sent at once, and return the rest.

        Raises:
            HandlerError: what serves the call has failed.
            InDoubtError, ClosedError: the call broke off, or an end has ended it.
        """
        self._overhear()
        if not self._serves and self._talk.is_over:
            # Who serves it may have failed, and takes what is sent for nothing.
            raise self._why_not_sent()
        try:
            return data[self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
        except BlockingIOError:
            return data
        except OSError as error:
            raise self._why_not_sent() from error

    def beat(self) -> None:
        """Show that we live, unless something is being sent anyway."""
        if not self.sending.acquire(blocking=False):
            return
        try:
            with suppress(OSError), self.in_use():
                sent = self._sock.send(_BEAT, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                if sent < len(_BEAT):
                    self._shut()  # a part of a frame is out, and nothing can follow it
        except ClosedError:
            pass
        finally:
            self.sending.release()

    def patience_to_send(self) -> TimeLeft:
        """Return how long may be waited for room now, and what is raised after that."""
        return self.patience(None, hears=self._overhear())

    def patience(self, until: float | None, *, hears: bool = True) -> TimeLeft:
        """Return how long may be waited now, and what is raised after that.

        Args:
            until: when this wait ends by itself, by the monotonic clock; None for never.
            hears: whether it is for bytes from the other end, which shows signs of life.
        """
        late = self._broken(f"did not end within {self._seconds:g} s")
        ends = [(self._deadline, late)]
        if hears:
            silent = self._broken(f"fell silent for {SILENCE_SECONDS:g} s")
            ends.append((self._heard + SILENCE_SECONDS, silent))
        if until is not None:
            ends.append((until, DeadlineError(f"{self.what}: no message came in time")))
        end, error = min(ends, key=lambda pair: pair[0])
        return TimeLeft(max(0.0, end - monotonic()), error)

    def discard(self) -> bool:
        """Read and forget what has come; return False where the other end has hung up."""
        try:
            while self._sock.recv(_READ):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _is_settled(self) -> bool:
        if self._talk.has_message:
            return True
        if self._talk.error is not None:
            raise self._talk.error
        return self._talk.has_ended

    def _hear(self) -> bool:
        """Take a part of what has come; return whether there was any.

        Raises:
            CollectiveError: the call broke off.
        """
        with self._hearing:
            return self._hear_part()

    def _overhear(self) -> bool:
        """Do the same while sending, where nobody else does and little waits to be taken.

        Returns:
            Whether somebody hears what comes: then silence means something.
        """
        with self._hearing:
            if self._receivers:
                return True
            if self._talk.held >= _MOST_HELD:
                return False
            self._hear_part()
            return True

    def _hear_part(self) -> bool:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.check_open()
            if self._talk.has_ended or self._talk.is_over:
                return False
            raise self._broken("broke off")
        self._heard = monotonic()
        try:
            self._talk.hear(data)
        except ProtocolError as error:
            # What follows cannot be understood; what came before it is given first.
            self._talk.error = self._broken(f"does not speak as it should: {error.message}")
            self._shut()
        if self._talk.is_over and not self._serves:
            # Who serves it waits for this, so that nothing it said is lost.
            self._shut()
        return True

    def _hear_all(self) -> None:
        with suppress(CollectiveError):
            while self._hear():
                pass

    def _why_not_sent(self) -> CollectiveError:
        """Find out what the other end said before it closed."""
        if self._closed:
            return ClosedError(f"{self.what} was ended here")
        self._hear_all()
        if self._talk.error is not None:
            return self._talk.error
        if self._talk.is_done:
            return ClosedError(f"{self.what}: the other end has ended it and takes no more")
        return self._broken("broke off")
