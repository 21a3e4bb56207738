"""Start daemons as copies of a process that has imported all of it: Python's start costs 0.7 s.

    our process ── orders, over a socket ──> forge (one for each of us) ── fork ──> daemons

What runs in a copy is ``collective.daemon.main``, from its first line on, in a session, a folder
and an environment of its own. A daemon that needs another program around it, or variables for
Python, is started in the plain way (``processes.spawn``).

Invariants:
  * A daemon ends with its forge, and a forge with the process that has started it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from collective import failpoints
from tests.harness.processes import forked_by_one_thread, with_us

_MOST_BYTES = 1 << 16
_POLL_SECONDS = 0.01
#: Has a daemon say where its threads are, and how long that takes.
_TELL, _TELL_SECONDS = signal.SIGUSR2, 1.0
#: prctl(2): which signal comes when the parent ends.
_PR_SET_PDEATHSIG = 1


class Forged:
    """A daemon; like ``subprocess.Popen``, as far as that is wanted."""

    def __init__(self, forge: Forge, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forge = forge

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._forge.ask(status=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("collectived", timeout)
            time.sleep(_POLL_SECONDS)
        return code

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self._send(signal.SIGKILL)

    def tell_stacks(self) -> None:
        """Have it write into its log where each of its threads is."""
        self._send(_TELL)
        time.sleep(_TELL_SECONDS)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Forge:
    """The process that daemons are copies of; for several threads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._orders = ours
        # The last word tells what the copies are to those who look for daemons.
        # Not -m: the package imports this module itself, and Python warns of what that may do.
        run = "from tests.harness.forge import serve; serve()"
        words = ["-c", run, str(theirs.fileno()), "collectived"]
        forked_by_one_thread(
            lambda: subprocess.Popen(
                [*with_us(), sys.executable, *words],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        )
        theirs.close()

    def start(self, folder: Path, environment: Mapping[str, str], log: Path) -> Forged:
        """Start a daemon, as ``processes.spawn`` does."""
        pid = self.ask(folder=str(folder), environment=dict(environment), log=str(log))
        return Forged(self, pid)

    def ask(self, **order: Any) -> Any:
        """Have something done, and return what came of it."""
        with self._lock:
            self._orders.sendall(json.dumps(order).encode())
            return json.loads(self._orders.recv(_MOST_BYTES))


@cache
def forge() -> Forge:
    """Return the one of this process."""
    return Forge()


def _status_of(pid: int, ended: dict[int, int]) -> int | None:
    """Return the exit status of a copy, None while it runs; it may be asked for twice."""
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if not found:
            return None
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended[pid]


def _prepare(folder: str, environment: Mapping[str, str], log: str) -> None:
    """Become what a daemon finds when it is started."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    failpoints.obey(os.environ)
    faulthandler.register(_TELL, all_threads=True)
    sys.argv = ["collectived"]


def _serve(orders: socket.socket) -> int:
    """Carry out orders until nobody gives any; in a copy, run the daemon to its end."""
    from collective.daemon.main import main

    ended: dict[int, int] = {}
    while told := orders.recv(_MOST_BYTES):
        order = json.loads(told)
        if "status" in order:
            answer = _status_of(order["status"], ended)
        else:
            answer = os.fork()
            if answer == 0:
                orders.close()
                _prepare(**order)
                return main()
            ended.pop(answer, None)
        orders.sendall(json.dumps(answer).encode())
    return 0


def serve() -> None:
    """Be the forge, on the socket whose descriptor is the first argument."""
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
