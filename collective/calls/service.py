"""What serves calls on this server, for threads: a socket by the name of the service.

The socket is the registration: the daemon connects to it, and to nothing where there is none.

Invariants:
  * A handler begins only when its caller has been let in and knows so.
  * No server takes all places: half of them are left to the others.
  * What a handler raises, or that it never returns, disturbs no other call.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic

from collective.calls.call import Handler, ServedCall
from collective.errors import (
    ClosedError,
    CollectiveError,
    HandlerError,
    InputError,
    ProtocolError,
)
from collective.model.closing import Closing
from collective.model.layout import SOCKET_PATH_LIMIT
from collective.protocol.frames import HEAD_BYTES, Failed, Kind, read_greeting, read_head
from collective.protocol.listening import alone_in, bind_unix, identity, remove_socket

log = logging.getLogger(__name__)

#: How many calls of one service run at a time; further ones wait.
MOST = 64

# The folder is the daemon's user's alone. Who serves may be root, and the daemon has to get in.
_MODE = 0o666
_GREETING_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
_LOOK_SECONDS = 1.0


class Service(Closing):
    """A handler that other servers can call, until it is closed.

    Attributes:
        name: by which it is called.
    """

    def __init__(self, folder: Path, name: str, handler: Handler, most: int = MOST) -> None:
        """Begin to serve.

        Args:
            folder: where the daemon looks.
            name: of the service; it was checked.
            handler: called in a thread for each call; what it returns is sent as a last message.
            most: how many calls run at a time.

        Raises:
            InputError: another process serves that here.
            AccessError: no right to the folder.
        """
        self.name = name
        self._path = folder / name
        self._handler = handler
        self._places = _Places(most)
        self._lock = threading.Lock()
        self._calls: set[ServedCall] = set()
        self._ended = threading.Event()
        self._socket: socket.socket | None = None
        self._told = False
        if len(os.fsencode(self._path)) > SOCKET_PATH_LIMIT:
            raise InputError(f"{name!r} is too long a name for a service in {folder}")
        try:
            self._listen()
        except InputError as error:
            raise InputError(
                f"{name!r} cannot be served here: {error.message}",
                "each service is served by one process on a server",
            ) from error

    def close(self) -> None:
        """Serve no more calls; those that run are ended."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            self._unlisten()
            calls = list(self._calls)
        for call in calls:
            call.close()

    @property
    def is_closed(self) -> bool:
        """Whether it serves no more."""
        return self._ended.is_set()

    def beat(self) -> None:
        """Show the callers that we live."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.line.beat()

    def listen_again(self) -> None:
        """Listen anew, where the socket was taken away."""
        with self._lock:
            if not self._ended.is_set() and not self._is_there():
                self._unlisten()
                try:
                    self._listen()
                    self._told = False
                except CollectiveError as error:
                    # A daemon that is just restarted makes the folder anew; else it is in vain.
                    level = logging.DEBUG if self._told else logging.WARNING
                    log.log(level, "cannot serve calls for now: %s service=%s", error, self.name)
                    self._told = True

    # -- listening -------------------------------------------------------------------------

    def _listen(self) -> None:
        with alone_in(self._path.parent):
            listener = bind_unix(self._path, _MODE)
        listener.setblocking(True)
        self._identity = identity(self._path)
        self._socket = listener
        try:
            threading.Thread(
                target=self._accept, args=(listener,), name=f"serve-{self.name}", daemon=True
            ).start()
        except RuntimeError:
            self._unlisten()
            raise

    def _unlisten(self) -> None:
        listener, self._socket = self._socket, None
        if listener is not None:
            remove_socket(self._path, self._identity)
            with suppress(OSError):
                # Wakes the thread that accepts, which a close alone does not.
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def after_fork(self) -> None:
        """Close what is open in a child process: the service is its parent's."""
        # Their locks may have been held by a thread that is not there any more.
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._ended.set()
        listener, self._socket = self._socket, None
        if listener is not None:
            listener.close()
        for call in self._calls:
            call.line.after_fork()

    def _is_there(self) -> bool:
        try:
            return self._socket is not None and identity(self._path) == self._identity
        except OSError:
            return False

    def _accept(self, listener: socket.socket) -> None:
        while self._socket is listener:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                # Closed, or this process is out of something: then others end, and it goes on.
                if self._socket is listener:
                    log.warning("cannot accept a call: %s service=%s", error, self.name)
                    self._ended.wait(_PAUSE_SECONDS)
                continue
            try:
                threading.Thread(
                    target=self._serve, args=(sock,), name=f"call-{self.name}", daemon=True
                ).start()
            except RuntimeError as error:
                sock.close()
                log.warning("cannot serve a call: %s service=%s", error, self.name)

    # -- one call --------------------------------------------------------------------------

    def _serve(self, sock: socket.socket) -> None:
        try:
            call = self._begin(sock)
        except (OSError, CollectiveError) as error:
            log.debug("a call did not begin: %s service=%s", error, self.name)
            sock.close()
            return
        with self._lock:
            if self._ended.is_set():
                call.close()
                return
            self._calls.add(call)
        try:
            if self._get_place(call):
                try:
                    failure, why = self._run(call)
                finally:
                    self._places.leave(call.caller.name)
                call.end(failure, why)
            else:
                call.end(
                    ClosedError("no place was free while its caller waited"), Failed.NOT_BEGUN
                )
        finally:
            call.close()
            with self._lock:
                self._calls.discard(call)

    def _get_place(self, call: ServedCall) -> bool:
        """Wait until a handler may run, for as long as the caller does."""
        while call.seconds_left and not call.line.is_gone:
            if self._places.enter(call.caller.name, min(call.seconds_left, _LOOK_SECONDS)):
                return True
        return False

    def _begin(self, sock: socket.socket) -> ServedCall:
        """Hear who calls, and that it goes on.

        Raises:
            OSError, ProtocolError: it does not.
        """
        deadline = monotonic() + _GREETING_SECONDS
        caller, until = read_greeting(_read_frame(sock, Kind.CALLER, deadline))
        _read_frame(sock, Kind.START, deadline)
        return ServedCall(sock, self.name, until, caller)

    def _run(self, call: ServedCall) -> tuple[CollectiveError | None, Failed]:
        """Have a call handled; return what failed, as its caller is to be told."""
        if call.line.is_gone or not call.seconds_left:
            return ClosedError("nobody waits for it"), Failed.NOT_BEGUN
        where = (self.name, call.caller.name)
        try:
            reply = self._handler(call)
            if reply is not None:
                call.send(reply)
        except CollectiveError as error:
            log.debug("a call failed: %s service=%s from=%s", error, *where)
            return error, Failed.RAISED
        except BaseException:  # not even SystemExit ends a call without a word
            log.exception("a handler failed service=%s from=%s", *where)
            hidden = HandlerError("the handler raised an error", "its server's log has it")
            return hidden, Failed.HIDDEN
        return None, Failed.RAISED


class _Places:
    """Places for calls, of which each server may have half."""

    def __init__(self, most: int) -> None:
        self._most, self._share = most, max(1, most // 2)
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()

    def enter(self, name: str, seconds: float) -> bool:
        """Take a place for a call of a server; return whether there was one in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(name), seconds):
                return False
            self._taken[name] += 1
            return True

    def leave(self, name: str) -> None:
        """Give it back."""
        with self._changed:
            self._taken[name] -= 1
            self._changed.notify_all()

    def _is_free(self, name: str) -> bool:
        return self._taken[name] < self._share and sum(self._taken.values()) < self._most


def _read_frame(sock: socket.socket, wanted: Kind, deadline: float) -> bytes:
    """Read one frame and nothing behind it, and return its payload.

    Raises:
        OSError: it does not come.
        ProtocolError: another one comes.
    """
    kind, size = read_head(_read_exactly(sock, HEAD_BYTES, deadline))
    if kind is not wanted:
        raise ProtocolError("it does not begin as it should")
    return _read_exactly(sock, size, deadline)


def _read_exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(0.001, deadline - monotonic()))
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the caller went away")
        data += part
    return data
