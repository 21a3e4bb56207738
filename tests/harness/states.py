"""States of a server in which it answers nobody, for as long as a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.processes import stopped
from tests.harness.server import Server


@contextmanager
def etcd_stopped(server: Server) -> Iterator[None]:
    """Stop etcd alone: the daemon is well, and does not notice."""
    assert server.etcd_pid is not None
    with stopped(server.etcd_pid):
        yield


@contextmanager
def all_stopped(server: Server) -> Iterator[None]:
    """Stop daemon and etcd, as where its machine pauses."""
    assert server.pid is not None
    with etcd_stopped(server), stopped(server.pid):
        yield
