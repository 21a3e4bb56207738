"""Ends a server at once, without looking for its processes first, and starts it again."""

from __future__ import annotations

import os
import signal

from tests.harness import Server


def kill(server: Server) -> None:
    """Kill the daemon with -9; its etcd dies with it."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


def start_again(server: Server) -> None:
    """Start a server that was killed."""
    server.end()
    server.start()
