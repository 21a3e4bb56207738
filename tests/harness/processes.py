"""Start processes that end with us, and find and end those that run in a folder.

A daemon or an etcd belongs to a folder if its working directory is in it: daemons are started
so, and their etcds run in a folder below. So no list of ids is kept that could grow stale, and
nothing else is ever ended, not even a shell that somebody has in that folder.

Three nets, so that nothing outlives a run:
  * ``setpriv --pdeathsig KILL``: the kernel ends the process when the *thread* that forked it
    ends (prctl(2)). So all are forked by one thread, which lives as long as this process, whatever
    thread asks. An etcd dies with its daemon in the same way.
  * The folder's owner ends what runs in it before the folder is removed.
  * Where there is no setpriv, or the owner was killed: the next owner's sweep of stale folders.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tests.harness.waiting import HarnessError, wait_until

T = TypeVar("T")

_END_SECONDS = 10.0
_STOP_SECONDS = 10.0
_PROGRAMS = {b"collective.daemon.main", b"collectived", b"etcd"}
_forker = ThreadPoolExecutor(1, "forker")


def spawn(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, outlive: bool
) -> subprocess.Popen[bytes]:
    """Start a process in a folder and in a session of its own, so that Ctrl-C does not reach it.

    Args:
        command: program and arguments.
        folder: its working directory.
        environment: all of its environment.
        log: where its output is added.
        outlive: whether it lives on when this process ends.
    """

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [*([] if outlive else with_us()), *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    return forked_by_one_thread(fork)


def with_us() -> list[str]:
    """Return the words before a command that have it end with this process, where they can be."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--"]


def forked_by_one_thread(fork: Callable[[], T]) -> T:
    """Start a process in the thread that lives as long as this process."""
    return _forker.submit(fork).result()


def processes_in(folder: Path, *, below: bool = True) -> list[int]:
    """Return the ids of the daemons and etcds whose working directory is a folder.

    Args:
        folder: where to look; a folder that is gone meanwhile still counts.
        below: whether folders in it count too.
    """
    root = os.path.realpath(folder)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it ended, is a zombie, or is another user's
                cwd = os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)")
                if cwd == root or (below and cwd.startswith(root + "/")):
                    found.append(int(entry))
    return [pid for pid in found if _is_program(pid)]


def reap(pid: int, seconds: float) -> None:
    """Wait for the end of a child of ours that was forked.

    Raises:
        HarnessError: it did not end; it is killed.
    """
    try:
        wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], seconds, f"end of the child {pid}")
    except HarnessError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _is_program(pid: int) -> bool:
    """Tell a daemon or an etcd, or setpriv on its way to become one, from anything else."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) in _PROGRAMS for word in words)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone.

    After SIGSTOP each of them stands still when this returns: the kernel stops one thread after
    the other, and one that still runs may answer somebody.
    """
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    if number is signal.SIGSTOP:
        wait_until(lambda: all(map(_stands_still, pids)), _STOP_SECONDS, f"{pids} stand still")


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Have processes stand still in a ``with`` block: they keep all they have, and say nothing."""
    try:
        send(pids, signal.SIGSTOP)
        yield
    finally:
        send(pids, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Tell whether no thread of a process runs; one that is gone does not."""
    try:
        states = [
            Path(task.path, "stat").read_text().rpartition(")")[2].split()[0]
            for task in os.scandir(f"/proc/{pid}/task")
        ]
    except OSError:
        return not os.path.exists(f"/proc/{pid}")
    return all(state in "TtZX" for state in states)


def end_processes_in(folder: Path) -> None:
    """Kill what runs in a folder, and wait until it is gone.

    Raises:
        HarnessError: something is still there after ten seconds.
    """

    def gone() -> bool:
        pids = processes_in(folder)
        send(pids, signal.SIGKILL)
        return not pids

    wait_until(gone, _END_SECONDS, f"end of the processes in {folder}")
