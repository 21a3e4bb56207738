"""Temporary folders with short paths, which also go away when their owner was killed.

A folder's name has the owner's process id, and the owner holds it locked (flock on the folder
itself) while it lives. Whoever makes the next folder removes those whose owner is gone.

Invariants:
  * A folder of a live owner is never removed: the lock tells, also across containers that share
    the folder but not the process ids.
  * The processes that run in a folder are ended before it is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness.processes import end_processes_in

_PREFIX = "clv-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-\w+")
# A socket address has 108 bytes (unix(7)); the servers need some fifty of them below the base.
_LONGEST_BASE = 50


@contextmanager
def temporary_folder(base: Path | None = None) -> Iterator[Path]:
    """Make a folder for the servers of one cluster, and remove it with all that runs in it.

    Args:
        base: where to make it, None for where temporary files are.
    """
    base = base or _base()
    remove_stale_folders(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        remove_folder(folder)
        os.close(lock)


def lasting_folder(prefix: str) -> Path:
    """Make a folder that stays until ``remove_folder``, whoever made it."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_base()))


def remove_folder(folder: Path) -> None:
    """End what runs in a folder, and remove it."""
    end_processes_in(folder)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders(base: Path) -> None:
    """Remove the folders of owners that are dead."""
    for folder in base.glob(f"{_PREFIX}*"):
        match = _NAME.fullmatch(folder.name)
        if match is not None and not Path("/proc", match[1]).exists():
            with suppress(OSError):  # another user's, or somebody else removes it just now
                _remove_if_unlocked(folder)


def _remove_if_unlocked(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(folder)
    finally:
        os.close(lock)


def _base() -> Path:
    base = tempfile.gettempdir()
    return Path(base if len(os.fsencode(base)) <= _LONGEST_BASE else "/tmp")
