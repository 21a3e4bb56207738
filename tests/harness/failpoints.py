"""The test's end of ``collective.failpoints``: hold a real server right after a step.

::

    with FailPoints(cluster) as points, points.at(Step.JOIN_ADOPT, mgt2) as held:
        command = mgt2.popen("join", ...)
        held.wait(10)                  # mgt2 stands still there
        mgt2.kill()                    # or held.go(), or held.drop()

It kills nothing by itself and judges nothing.

Invariants:
  * A step that no trap waits for is answered with "go" at once, and recorded all the same.
  * A trap holds one server, once; what it holds is let go when its ``with`` block ends.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from collective.failpoints import DROP, GO, VARIABLE, Step
from collective.model.closing import Closing
from tests.harness.cluster import Cluster
from tests.harness.server import Server
from tests.harness.waiting import HarnessError

_SAY_SECONDS = 5.0
_POLL_SECONDS = 0.2
_BACKLOG = 64


@dataclass(frozen=True)
class Reached:
    """One step that one server has reached."""

    server: str
    step: Step


class Held:
    """A trap: holds the first server that reaches a step."""

    def __init__(self, step: Step, server: Server | None) -> None:
        self.step = step
        self._wanted = server
        self._caught = threading.Event()
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._connection: socket.socket | None = None
        self._open = True

    @property
    def server(self) -> Server | None:
        """The server that is held, or was; None before one came."""
        return self._server

    def wait(self, seconds: float) -> Server:
        """Wait until a server stands at the step, and return it.

        Raises:
            HarnessError: none came in time.
        """
        if not self._caught.wait(seconds):
            raise HarnessError(f"not within {seconds:g} s: a server at {self.step.value}")
        assert self._server is not None
        return self._server

    def go(self) -> None:
        """Let the server go on, if it is held."""
        self._answer(GO)

    def drop(self) -> None:
        """Have the server behave as if a connection broke here, if it is held."""
        self._answer(DROP)

    def take(self, server: Server, step: Step, connection: socket.socket) -> bool:
        """Hold a server, if this trap is for it and has caught nobody yet."""
        with self._lock:
            if not self._open or self._server is not None or step is not self.step:
                return False
            if self._wanted is not None and server is not self._wanted:
                return False
            self._server, self._connection = server, connection
        self._caught.set()
        return True

    def close(self) -> None:
        """Hold nobody from now on."""
        with self._lock:
            self._open = False
        self.go()

    def _answer(self, word: str) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            _say(connection, word)


class FailPoints(Closing):
    """A socket that all servers of a cluster report their steps to.

    Make it before the servers are added: each gets its path in the environment.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._traps: list[Held] = []
        self._reached: list[Reached] = []
        path = cluster.root / "failpoints"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(_BACKLOG)
        # An accept that waits for ever is not woken by a close.
        self._socket.settimeout(_POLL_SECONDS)
        cluster.environment[VARIABLE] = str(path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="failpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let everybody go, and listen no more."""
        self._ended.set()
        self._thread.join(_SAY_SECONDS)
        self._socket.close()
        for trap in self._traps:
            trap.close()

    @property
    def reached(self) -> tuple[Reached, ...]:
        """All that was reached since the last ``forget``, in this order."""
        with self._lock:
            return tuple(self._reached)

    def forget(self) -> None:
        """Begin a new record."""
        with self._lock:
            self._reached.clear()

    @contextmanager
    def at(self, step: Step, server: Server | None = None) -> Iterator[Held]:
        """Hold the first server, or a certain one, that reaches a step."""
        held = Held(step, server)
        with self._lock:
            self._traps.append(held)
        try:
            yield held
        finally:
            with self._lock:
                self._traps.remove(held)
            held.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with suppress(OSError, ValueError):
                self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(_SAY_SECONDS)
        pid, step_text = connection.recv(256).decode().split()
        step, server = Step(step_text), self._server_of(int(pid))
        if server is None:
            _say(connection, GO)
            return
        with self._lock:
            self._reached.append(Reached(server.name, step))
            traps = list(self._traps)
        if not any(trap.take(server, step, connection) for trap in traps):
            _say(connection, GO)

    def _server_of(self, pid: int) -> Server | None:
        return next((s for s in self._cluster.servers.values() if s.pid == pid), None)


def _say(connection: socket.socket, word: str) -> None:
    with connection, suppress(OSError):
        connection.sendall(word.encode())
