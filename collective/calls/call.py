"""One end of a call, for threads.

Invariants:
  * No wait outlasts the call's deadline, nor ten seconds in which the other end shows no sign of
    life.
  * One thread may send while another receives.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

from collective.calls import polling
from collective.calls.call_connection import CallConnection, TimeLeft
from collective.errors import (
    AccessError,
    ClosedError,
    CollectiveError,
    DaemonError,
    DeadlineError,
    InDoubtError,
)
from collective.model.closing import Closing
from collective.protocol import messages
from collective.protocol.frames import Caller, Failed, Kind, failure, frame, message
from collective.protocol.upgrade import Upgrade

_READ = 65536
_LEAST_SECONDS = 0.001


class Call(Closing):
    """Messages to the other end, and messages from there, until either has had enough.

    Use it as a context manager; to iterate over it gives the messages that come.

    Attributes:
        line: the connection, for whoever waits in another way than a thread.
    """

    def __init__(self, line: CallConnection) -> None:
        self.line = line
        self._finished = False

    @classmethod
    def over(cls, sock: socket.socket, what: str, seconds: float, began: float) -> Call:
        """Return a caller's end of a connection.

        Args:
            sock: to the other end.
            what: the call, for errors.
            seconds: how long it may last.
            began: when it did, by the monotonic clock.
        """

        def broken(why: str) -> CollectiveError:
            return InDoubtError(f"{what} {why}", "it may have been carried out, or in part")

        return cls(CallConnection(sock, what, seconds, began, broken))

    @property
    def seconds_left(self) -> float:
        """How long the call may last still."""
        return self.line.seconds_left

    def start(self) -> None:
        """Have the handler begin, once: before that nothing has happened.

        Raises:
            ClosedError: we have ended it; nothing has happened.
            InDoubtError: the call broke off.
        """
        self._write(frame(Kind.START))

    def send(self, data: bytes) -> None:
        """Send a message, of 1 MiB at most; waits while the other end is behind in reading.

        Raises:
            InputError: it is none, or too long.
            ClosedError: we have ended the call, or the other end has.
            CollectiveError: the call broke off, or its time was up; see ``receive``.
        """
        self._write(self.framed(data))

    def finish(self) -> None:
        """Say that no more messages come from here; what the other end sends still comes."""
        try:
            self._write(self.farewell())
        except ClosedError:
            self.line.check_open()  # else the other end is done, and needs not be told

    def receive(self, seconds: float | None = None) -> bytes | None:
        """Return the next message, None where the other end has no more.

        Args:
            seconds: how long to wait for it; None for as long as the call lasts.

        Raises:
            DeadlineError: there was none in so many seconds; the call goes on.
            HandlerError: what serves the call has failed.
            InDoubtError: the call broke off, or its time is up.
            ClosedError: we have ended it.
        """
        until = None if seconds is None else monotonic() + seconds
        with self.line.receiving():
            while not self.line.has_next():
                _wait(self.line, polling.READABLE, partial(self.line.patience, until))
            return self.line.take()

    def __iter__(self) -> Iterator[bytes]:
        while (found := self.receive()) is not None:
            yield found

    def wait_done(self) -> None:
        """Wait until the handler is done with the call; what it still sends is dropped.

        An end of the messages is no proof that it did all it was to do: it may say that early.

        Raises:
            HandlerError: it has failed.
            InDoubtError: the call broke off, or its time is up.
            ClosedError: we have ended it.
        """
        with self.line.receiving():
            while not self.line.is_done():
                _wait(self.line, polling.READABLE, partial(self.line.patience, None))

    def close(self) -> None:
        """End the call; what did not come, or did not arrive there yet, is dropped."""
        self.line.close()

    def framed(self, data: bytes) -> bytes:
        """Return a message as it is to be sent.

        Raises:
            InputError, ClosedError: as ``send``.
        """
        self.line.check_open()
        if self._finished:
            raise ClosedError(f"{self.line.what}: we said that there is no more to come")
        return message(data)

    def farewell(self) -> bytes:
        """Return what says that no more comes from here, nothing where that was said."""
        self.line.check_open()
        said, self._finished = self._finished, True
        return b"" if said else frame(Kind.END)

    def _write(self, data: bytes) -> None:
        with self.line.sending, self.line.in_use():
            rest = memoryview(data)
            try:
                while rest := self.line.send_now(rest):
                    _wait(self.line, polling.WRITABLE, self.line.patience_to_send)
            except BaseException:
                if len(rest) < len(data) and not self.line.is_over:
                    # A part of the message is out, and nothing can follow it.
                    self.line.close()
                raise


class ServedCall(Call):
    """A call as who serves it has it.

    Attributes:
        caller: who calls.
    """

    def __init__(self, sock: socket.socket, service: str, until: float, caller: Caller) -> None:
        """Take over a connection.

        Args:
            sock: to the caller.
            service: by its name.
            until: when the call's time is up, by the monotonic clock.
            caller: who calls.
        """
        what = f"{caller.name}'s call to {service}"
        hint = f"{caller.name} waits for it no more"

        def broken(why: str) -> CollectiveError:
            return ClosedError(f"{what} {why}", hint)

        now = monotonic()
        super().__init__(CallConnection(sock, what, until - now, now, broken, serves=True))
        self.caller = caller

    def end(self, error: CollectiveError | None = None, why: Failed = Failed.RAISED) -> None:
        """Say that it is done, or what failed, and wait until the caller has heard so.

        Args:
            error: what failed, None for nothing.
            why: what that error is.
        """
        with suppress(CollectiveError):
            self._write(frame(Kind.DONE) if error is None else failure(error, why))
            with self.line.in_use():
                # To close before, or on what was not read, could destroy what was said.
                while self.line.discard():
                    patience = partial(self.line.patience, None, hears=False)
                    _wait(self.line, polling.READABLE, patience)
        self.close()


def _wait(line: CallConnection, wanted: int, patience: Callable[[], TimeLeft]) -> None:
    now = patience()
    if now.seconds > 0 and polling.wait_for(line.fileno(), wanted, now.seconds):
        return
    line.check_open()
    # Somebody else may have heard of the other end meanwhile.
    then = patience()
    if then.seconds <= 0:
        raise then.error


def dial(door: Path, server: str, service: str, seconds: float) -> Call:
    """Open the way to a service on another server; its handler begins with ``Call.start``.

    Args:
        door: the daemon's socket for calls.
        server: by its name.
        service: by its name.
        seconds: how long the call may last.

    Raises:
        UnreachableError, NoServiceError: nobody is there.
        InputError: there is no member of this name.
        CollectiveError: what else the daemons say. Nothing has happened.
    """
    began = monotonic()
    what = f"the call to {service} on {server}"

    def left() -> float:
        return max(_LEAST_SECONDS, began + seconds - monotonic())

    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _not_reached(error, what, seconds) from error
    try:
        asking = Upgrade(_target(server, service, seconds), what)
        sock.settimeout(left())
        sock.connect(str(door))
        sock.settimeout(left())
        sock.sendall(asking.request)
        sock.settimeout(left())
        while not asking.hear(sock.recv(_READ)):
            sock.settimeout(left())
        return Call.over(sock, what, seconds, began)
    except OSError as error:
        sock.close()
        raise _not_reached(error, what, seconds) from error
    except BaseException:
        sock.close()
        raise


@contextmanager
def told_apart(what: str) -> Iterator[None]:
    """Tell who has sent something, and whose handle is closed then, that it may have happened."""
    try:
        yield
    except ClosedError as error:
        raise InDoubtError(
            f"{what} was ended here, with its handle", "it may have been carried out, or in part"
        ) from error


def _target(server: str, service: str, seconds: float) -> str:
    """Return path and query of the request for a call."""
    query = f"format={messages.FORMAT}&seconds={max(seconds, _LEAST_SECONDS):.3f}"
    return f"{messages.CALL}/{server}/{service}?{query}"


def _not_reached(error: OSError, what: str, seconds: float) -> CollectiveError:
    """Translate why the daemon's socket could not be used; nothing has happened then."""
    if isinstance(error, (TimeoutError, socket.timeout)):
        return DeadlineError(f"{what} was not answered within {seconds:g} s; nothing has happened")
    if isinstance(error, PermissionError):
        return AccessError(
            f"{what}: no right to collectived's socket for calls",
            "run as the daemon's user, or as root",
        )
    if isinstance(error, (FileNotFoundError, ConnectionError)):
        return DaemonError(
            f"{what}: collectived does not answer here", "see why: journalctl -u collectived"
        )
    return DaemonError(f"{what}: collectived cannot be asked: {error.strerror or error}")


Handler = Callable[[ServedCall], "bytes | None"]
