"""Write, read, lock and set aside files so that neither a crash nor a full disk loses data.

It does not know what the files hold, where they belong or when to write them, and it keeps the
owner of no file: a new file belongs to whoever writes it.

Invariants:
  * A reader, and a machine after a power cut, sees the old content or the new one, never a part.
  * No file and no folder is, at any moment, open to more people than its mode says.
  * Nothing that was set aside is overwritten or deleted.
  * A lock file is never removed, so two holders can never lock two files of one name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType

from collective.errors import AccessError, CollectiveError, InputError, RefusedError

_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_CANNOT_MOVE = frozenset({errno.EBUSY, errno.EXDEV})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
_LOCK_POLL_SECONDS = 0.01
#: In a folder that cannot be moved: what was in it before.
ASIDE = "set-aside"
_STAYS = frozenset({ASIDE, "lost+found"})
_REASON = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def file_error(error: OSError, doing: str, path: Path) -> CollectiveError:
    """Translate what the system said about a file.

    Args:
        error: what was raised.
        doing: what failed, after "cannot": "write", "make folder".
        path: the file that the caller asked for, which need not be the one in the error.

    Returns:
        An AccessError where a right is missing, else a CollectiveError; to be raised "from" error.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    message = f"cannot {doing} {path}: {reason[:1].lower()}{reason[1:]}"
    if error.errno in _NO_RIGHT:
        return AccessError(message)
    if error.errno in _DISK_FULL:
        return CollectiveError(
            message, f"disk full: make room on the file system that holds {path.parent}"
        )
    return CollectiveError(message)


def read_private(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: there is no such file; the caller knows what that means.
        AccessError: the right to read it is missing.
        CollectiveError: it could not be read for another reason.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise file_error(error, "read", path) from error


def is_missing(path: Path) -> bool:
    """Tell whether a file is surely not there; one that may not be looked at is no such."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_mount(path: Path) -> bool:
    """Tell whether a file system is mounted at a path, be it a part of another one (bind)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return os.path.ismount(path)
    places = (line.split()[4].decode("unicode_escape") for line in mounts)
    return os.path.realpath(path) in places


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole, or leave what was there.

    When this returns, the content survives a power cut. A kill in the middle can leave a hidden
    temporary file, ``.NAME.<16 hex digits>.tmp``, with the same mode in the same folder.

    Args:
        path: the file; a symbolic link there is replaced, not followed.
        data: the whole content.
        mode: the permissions, exactly: the umask does not count.

    Raises:
        AccessError: the right to write there is missing.
        CollectiveError: the disk is full, the folder is missing, or the disk failed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            _write_new(temporary, data, mode)
            os.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        fsync_folder(path.parent)
    except OSError as error:
        raise file_error(error, "write", path) from error


def sweep_temporary(folder: Path) -> None:
    """Remove what a kill in the middle of ``write_atomically`` can leave in a folder."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def make_private_folder(path: Path, mode: int = 0o700) -> None:
    """Make a folder, with those above it, or take rights from one that grants too many.

    Folders above that are missing are made with 0755, less the umask. A folder that is there
    keeps its mode where that grants no more than asked.

    Args:
        path: the folder; a symbolic link to a folder is as good.
        mode: the most that the folder may grant; exactly this for a new folder.

    Raises:
        AccessError: it cannot be made or changed, or it belongs to somebody who is neither root
            nor this user: they could replace whatever is in it, also what root puts there.
        CollectiveError: it is no folder, or the disk is full.
    """
    try:
        for folder in reversed(path.parents):
            _make_folder(folder, 0o755)
        made = _make_folder(path, mode)
        _restrict(path, mode, exactly=made)
    except OSError as error:
        raise file_error(error, "make folder", path) from error


def set_aside(path: Path, aside_root: Path, reason: str, now: datetime) -> Path:
    """Move a file or a folder out of the way, into a folder of its own.

    Args:
        path: what to move; it must be on the same file system as aside_root.
        aside_root: the folder that collects what was set aside; made where missing.
        reason: why, in lower-case words with hyphens, for the name of the folder.
        now: the time, with its zone, for the name of the folder.

    Returns:
        Where it is now: ``<aside_root>/<UTC time>-<reason>[-n]/<name>``.

    Raises:
        InputError: the reason or the time has not that form.
        AccessError: a right is missing.
        CollectiveError: it is not there, is on another file system, or the disk failed.
    """
    stem = _aside_name(reason, now)
    make_private_folder(aside_root)
    try:
        folder = _make_unique_folder(aside_root, stem)
        target = folder / path.name
        try:
            os.rename(path, target)
        except OSError:
            with suppress(OSError):
                folder.rmdir()
            raise
        for changed in (folder, aside_root, path.parent):
            fsync_folder(changed)
    except OSError as error:
        raise file_error(error, f"move into {aside_root}", path) from error
    return target


def content_of(folder: Path) -> list[Path]:
    """Return what is in a folder, but for what a disk brings along and what was set aside there.

    Raises:
        CollectiveError: it cannot be looked at.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.name not in _STAYS)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise file_error(error, "read", folder) from error


def set_data_aside(path: Path, aside_root: Path, reason: str, now: datetime) -> Path | None:
    """Move a folder out of the way; of one that is a link or a mount point, what is in it.

    Such a folder stays: it says on which disk its data is to be.

    Args:
        path, aside_root, reason, now: as for ``set_aside``, but for the file system: where it is
            another one, what is in the folder goes into ``set-aside`` in the folder itself.

    Returns:
        Where it is now; None where there was nothing to move.

    Raises:
        CollectiveError: as for ``set_aside``.
    """
    if not path.is_symlink():
        try:
            return set_aside(path, aside_root, reason, now)
        except CollectiveError as error:
            cause = error.__cause__
            fixed = isinstance(cause, OSError) and cause.errno in _CANNOT_MOVE
            if not fixed or not path.is_dir():
                raise
    content = content_of(path)
    if not content:
        return None
    try:
        return _move_all(content, path.name, aside_root, _aside_name(reason, now))
    except CollectiveError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EXDEV:
            raise
    return _move_all(content, path.name, path / ASIDE, _aside_name(reason, now))


def _move_all(content: Sequence[Path], name: str, aside_root: Path, stem: str) -> Path:
    """Move files and folders into a folder that has a name, in one of its own."""
    make_private_folder(aside_root)
    try:
        folder = _make_unique_folder(aside_root, stem)
        target = folder / name
        target.mkdir(0o700)
        try:
            for path in content:
                os.rename(path, target / path.name)
        except OSError:
            with suppress(OSError):  # where something was moved, it stays
                target.rmdir()
                folder.rmdir()
            raise
        for changed in (target, folder, aside_root, content[0].parent):
            fsync_folder(changed)
    except OSError as error:
        raise file_error(error, f"move into {aside_root}", content[0].parent) from error
    return target


class FolderLock:
    """The lock that makes one process the only one to work on a folder.

    It is a flock(2) on a file that holds the process number of the holder, for people to read.
    The lock belongs to the open file: a child that inherited it holds it for as long as it
    lives, also when its parent has released it or is gone.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(
        cls,
        path: Path,
        seconds: float = 0.0,
        *,
        holder: str = "collectived",
        inheritable: bool = False,
    ) -> FolderLock:
        """Take the lock, or fail.

        Args:
            path: the lock file, in the folder that it guards; made where missing.
            seconds: how long to wait for it.
            holder: what holds such a lock, for the refusal.
            inheritable: whether a program that this process executes keeps the lock.

        Raises:
            RefusedError: another process holds it.
            AccessError: the right to the file is missing.
            CollectiveError: it cannot be opened, locked or written.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not lock_file(fd, seconds):
                    raise _held_by(fd, path, holder)
                os.set_inheritable(fd, inheritable)
                lock = cls(path, fd)
                lock.write_pid(os.getpid())
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise file_error(error, "lock", path) from error
        return lock

    def write_pid(self, pid: int) -> None:
        """Write down which process holds the lock, such as a child that inherited it.

        Raises:
            CollectiveError: the disk is full or failed.
        """
        line = f"{pid}\n".encode()
        try:
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))
        except OSError as error:
            raise file_error(error, "write", self.path) from error

    def fileno(self) -> int:
        """Return the file descriptor, or -1 after release."""
        return self._fd

    def release(self) -> None:
        """Let go of the lock; a child that inherited it goes on holding it."""
        # LOCK_UN would take the lock from such a child too; closing does not (flock(2)).
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def lock_file(fd: int, seconds: float) -> bool:
    """Take the flock(2) of an open file; False when another process held it for so many seconds.

    Raises:
        OSError: it cannot be locked.
    """
    deadline = monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                return False
            Event().wait(_LOCK_POLL_SECONDS)
        else:
            return True


def _held_by(fd: int, path: Path, holder: str) -> RefusedError:
    first = os.pread(fd, 32, 0).split(b"\n")[0]
    pid = f" (pid {int(first)})" if first.isdigit() else ""
    return RefusedError(f"another {holder}{pid} already runs on {path.parent}")


def _write_new(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_folder(path: Path) -> None:
    """Make what was renamed or made in a folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_folder(path: Path, mode: int) -> bool:
    """Make one folder and tell whether it was missing."""
    if path.is_dir():
        return False
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return False
    fsync_folder(path.parent)
    return True


def _restrict(path: Path, mode: int, *, exactly: bool) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        _refuse_foreign(path, found.st_uid, os.geteuid())
        granted = stat.S_IMODE(found.st_mode)
        wanted = mode if exactly else granted & ~(0o777 & ~mode)
        if granted != wanted:
            os.fchmod(fd, wanted)
    finally:
        os.close(fd)


def _refuse_foreign(path: Path, owner: int, user: int) -> None:
    if owner in (0, user):
        return
    expected = _user(user) if user == 0 else f"{_user(user)} or {_user(0)}"
    raise AccessError(
        f"cannot use folder {path}: it belongs to {_user(owner)}, expected {expected}",
        f"run this as {_user(owner)} if the folder is rightly theirs; if not, move it away, and a "
        f"new one is made, or, if you trust what is in it, 'chown -R {user} {path}'",
    )


def _user(number: int) -> str:
    """Return a user with name and number, for people."""
    try:
        return f"user {pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"user {number}"


def _aside_name(reason: str, now: datetime) -> str:
    if not _REASON.fullmatch(reason):
        raise InputError(f"a reason must be lower-case words with hyphens, found {reason[:80]!r}")
    if now.tzinfo is None:
        raise InputError(f"the time to set data aside at must have a zone, found {now}")
    return f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{reason}"


def _make_unique_folder(parent: Path, stem: str) -> Path:
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            number += 1
        else:
            return folder
