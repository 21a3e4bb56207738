"""Run one etcd as a child: start it, start it again when it ends, stop it.

It does not know what the member is for; the arguments come in whole.

Invariants:
  * Never two etcds on one data folder: the child inherits a locked file, so the lock lasts as
    long as either this process or the child lives.
  * The child dies with the thread that forked it (PR_SET_PDEATHSIG), and that thread lives as
    long as the daemon.
  * A child that ends with code 0 by itself is not started again here: that is how etcd says that
    its member was removed. The caller finds out and decides.
  * A child that once answered is not started again without its data: it would take part in the
    collective as a member that has forgotten what it promised.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collective.errors import CollectiveError, EtcdError, RefusedError
from collective.etcd.binary import Etcd
from collective.etcd.connections import reset_stuck
from collective.etcd.etcd_log import EtcdLog
from collective.files import FolderLock, make_private_folder

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 15.0
_DEATH_SECONDS = 5.0
_HEALTHY_SECONDS = 30.0
_ORPHAN_SECONDS = 5.0


def pause_before_restart(failures: int) -> float:
    """Return how long to wait, in seconds, after so many failures in a row."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(max(failures - 1, 0), 10)))


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit code, negative for a signal.
        seconds: how long it ran.
        reason: its last words, or "".
    """

    code: int
    seconds: float
    reason: str

    def sentence(self) -> str:
        """Return one sentence for people."""
        how = f"ended with code {self.code}" if self.code >= 0 else f"was killed ({-self.code})"
        words = f": {self.reason}" if self.reason else ""
        return f"etcd {how} after {self.seconds:.1f} s{words}"


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What is to run; each ``start`` makes one, which is like no other.

    Attributes:
        arguments, data, variables: see ``EtcdProcess.start``.
    """

    arguments: tuple[str, ...]
    data: Path | None
    variables: Mapping[str, str]


class EtcdProcess:
    """The one etcd of this server."""

    def __init__(
        self,
        binary: Etcd,
        working_folder: Path,
        lock_path: Path,
        on_removed: Callable[[], None],
    ) -> None:
        """Start the supervising thread; no etcd yet.

        Args:
            binary: what to run.
            working_folder: where etcd makes its client socket.
            lock_path: the lock file of the data folder.
            on_removed: called, on a thread of its own, when etcd ended with code 0 by itself; who
                is called may start it again.
        """
        self.binary = binary
        self._folder = working_folder
        self._lock_path = lock_path
        self._on_removed = on_removed
        self._change = threading.Condition()
        self._wanted: _Wanted | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._failure: str | None = None
        self._used = False
        self._has_warned = False
        self._thread = threading.Thread(target=self._supervise, name="etcd", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why etcd ended, until it has answered again; None while it is well, or not wanted."""
        return self._failure

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def has_answered(self) -> None:
        """Note that the child is well; until then the last failure is what there is to tell."""
        self._failure = None
        self._used = True

    def start(
        self,
        arguments: Sequence[str],
        data: Path | None = None,
        used: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Run etcd with these arguments until ``stop``; returns at once.

        Args:
            arguments: that follow the name of the program.
            data: what must be there when a child is started that has answered before.
            used: whether one has, in an earlier run of the daemon.
            variables: of the environment, besides the few that it gets always.
        """
        with self._change:
            self._wanted = _Wanted(tuple(arguments), data, dict(variables or {}))
            self._used = used
            self._failure = None
            self._change.notify_all()

    def stop(self, seconds: float) -> None:
        """End the child: SIGTERM, and SIGKILL when it has not ended in so many seconds."""
        with self._change:
            self._wanted = None
            self._change.notify_all()
            child = self._child
        if child is not None:
            _end(child, seconds)
        with self._change:
            self._change.wait_for(lambda: self._child is None, timeout=seconds + _DEATH_SECONDS)
            self._failure = None

    def kill(self) -> None:
        """End the child at once, by SIGKILL.

        It is safe: etcd tells nobody of a write that is not on disk.
        """
        self.stop(0.0)

    def reset_stuck(self, addresses: Collection[str]) -> int:
        """End the child's connections to these addresses that wait long to send again.

        Returns:
            How many there were.
        """
        pid = self.pid
        if pid is None:
            return 0
        try:
            return reset_stuck(pid, addresses)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS) and not self._has_warned:
                self._has_warned = True
                log.warning("etcd may be late after a partition, and cannot be helped: %s", error)
            return 0  # or it has ended, and its connections with it

    def close(self, seconds: float) -> None:
        """Stop, and end the supervising thread."""
        self.stop(seconds)
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(seconds)

    def _supervise(self) -> None:
        failures = 0
        while (wanted := self._next_wanted()) is not None:
            try:
                ended = self._run_once(wanted)
            except (OSError, CollectiveError) as error:
                ended = Ended(127, 0.0, f"it cannot be started: {error}")
            failures = 1 if ended.seconds > _HEALTHY_SECONDS else failures + 1
            # What failed before is of a membership that is over, or was of other arguments.
            if ended.code == 0:
                failures = 0
                self._rest(wanted, ended)
            elif not self._failed(wanted, ended, failures):
                failures = 0

    def _next_wanted(self) -> _Wanted | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._wanted is not None)
            return None if self._closed else self._wanted

    def _rest(self, wanted: _Wanted, ended: Ended) -> None:
        with self._change:
            if self._wanted is not wanted:
                return
            self._wanted = None
            self._failure = f"{ended.sentence()}; it does so when its member was removed"
        log.warning("etcd ended by itself: was this member removed?")
        threading.Thread(target=self._on_removed, name="removed", daemon=True).start()

    def _failed(self, wanted: _Wanted, ended: Ended, failures: int) -> bool:
        """Say so and wait before the next start; tell whether the same is wanted still."""
        pause = pause_before_restart(failures)
        with self._change:
            if self._wanted is not wanted:
                return False
            self._failure = ended.sentence()
            log.error("%s; next start in %.1f s failures=%d", ended.sentence(), pause, failures)
            return not self._change.wait_for(lambda: self._wanted is not wanted, timeout=pause)

    def _run_once(self, wanted: _Wanted) -> Ended:
        begun = time.monotonic()
        lock = _lock(self._lock_path)
        try:
            child = self._fork(wanted, lock)
        finally:
            lock.release()
        said = EtcdLog()
        assert child.stderr is not None
        for line in child.stderr:
            said.take(line)
        code = child.wait()
        with self._change:
            self._child = None
            self._change.notify_all()
        return Ended(code, time.monotonic() - begun, said.last_words)

    def _fork(self, wanted: _Wanted, lock: FolderLock) -> subprocess.Popen[bytes]:
        make_private_folder(self._folder)
        (self._folder / "etcd:1").unlink(missing_ok=True)
        with self._change:
            if self._wanted is not wanted:
                raise EtcdError("etcd was stopped before it started")
            if self._used and wanted.data is not None and not wanted.data.exists():
                raise EtcdError(f"its data is gone from {wanted.data}")
            self._child = subprocess.Popen(
                [*_death_signal(), str(self.binary.path), *wanted.arguments],
                cwd=self._folder,
                env={**_environment(os.environ), **wanted.variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )
            lock.write_pid(self._child.pid)
            return self._child


def _death_signal() -> list[str]:
    """Return the prefix that makes the kernel kill etcd when our thread ends (setpriv(1))."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--"]


def _environment(ours: os._Environ[str]) -> dict[str, str]:
    """Return what etcd may see: no ETCD_* variable may overrule an argument, no proxy is used."""
    return {k: v for k, v in ours.items() if k in ("PATH", "HOME", "LANG", "TZ", "GOMAXPROCS")}


def _end(child: subprocess.Popen[bytes], seconds: float) -> None:
    if not seconds:
        child.kill()
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        log.warning("etcd did not end in %.0f s and is killed", seconds)
        child.kill()


def _lock(path: Path) -> FolderLock:
    """Take the lock, ending an etcd that outlived its daemon."""
    try:
        return FolderLock.acquire(path, holder="etcd", inheritable=True)
    except RefusedError:
        _end_orphan(path)
    return FolderLock.acquire(path, _ORPHAN_SECONDS, holder="etcd", inheritable=True)


def _end_orphan(path: Path) -> None:
    """Kill the process that the lock names, if it is an etcd that holds this very lock."""
    try:
        pid = int(path.read_text())
        target = os.stat(path)
        holds = any(
            os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), target)
            for fd in os.listdir(f"/proc/{pid}/fd")
            if os.path.exists(f"/proc/{pid}/fd/{fd}")
        )
        ours = os.getpid() in (pid, _parent_of(pid))
        if holds and not ours:
            log.warning("an etcd outlived its daemon and is ended pid=%d", pid)
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError, IndexError):
        return


def _parent_of(pid: int) -> int:
    """Return the parent of a process, see proc(5): the second field after the name."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
