"""States of a server in which it answers late, badly or not at all, while a block runs."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from tests.harness.disks import NoDiskError, frozen, put_on_own_disk
from tests.harness.processes import stopped
from tests.harness.server import Server

State = Callable[[Server], AbstractContextManager[None]]


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


@contextmanager
def etcd_out_of_descriptors(server: Server) -> Iterator[None]:
    """Have etcd open no file more than it has open, so no connection either."""
    assert server.etcd_pid is not None
    with no_more_descriptors(server.etcd_pid):
        yield


@contextmanager
def caller_out_of_descriptors(_: Server) -> Iterator[None]:
    """Have this process itself open no file more than it has open."""
    with no_more_descriptors(os.getpid()), ExitStack() as stack:
        with suppress(OSError):
            while True:
                stack.enter_context(open(os.devnull, "rb"))
        yield


@contextmanager
def no_more_descriptors(pid: int) -> Iterator[None]:
    """Have a process open no file more than it has open."""
    most = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd")) + 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def out_of_descriptors(server: Server) -> Iterator[None]:
    """Have the daemon open no file more than it has open."""
    assert server.pid is not None
    with no_more_descriptors(server.pid):
        yield


@contextmanager
def socket_gone(server: Server) -> Iterator[None]:
    """Take the control socket away, and put it back if none was made anew."""
    path = Path(server.layout.control_socket)
    aside = path.rename(path.with_suffix(".aside"))
    yield
    aside.rename(path)


@contextmanager
def disk_full(server: Server) -> Iterator[None]:
    """Leave no room on the disk that the server has for itself."""
    file = Path(f"/proc/{server.pid}/root{server.layout.data}", "filling")
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1M"], check=False, capture_output=True)
    yield
    file.unlink()


def states_of_own_disk(server: Server) -> dict[str, State]:
    """Give a server that does not run a disk of its own, where one can be.

    Returns:
        What can happen to that disk; nothing where there is none.
    """
    try:
        put_on_own_disk(server)
    except NoDiskError:
        return {}
    return {"disk full": disk_full, "disk frozen": frozen}
