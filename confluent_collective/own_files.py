"""Confluent's own files: whose configuration they are, and the copy of one that is replaced.

A mark beside them names the collective's configuration that they were written for, and how they
were left: the size and the time of each. A Confluent that is started without the adapter does not
know the mark, so what it writes shows.

Invariants:
  * A configuration that is not the collective's is copied aside, whole, before it is replaced
    (P7). So is one that anything but this adapter has written to.
  * What is found is compared before Confluent writes, and noted only after it was copied.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from confluent_collective.documents import AREAS

log = logging.getLogger(__name__)

MARK = "collective-of"
#: What Confluent writes of a configuration; some kinds of databases add an ending.
_WRITTEN = {"globals", "collective", "transactioncount", "idmap", *AREAS}
_NOT_MOVED = {"myname", MARK, f"{MARK}.part"}


class OwnFiles:
    """Those of the server that this process runs on."""

    def __init__(self, folder: Path) -> None:
        """Look at them; nothing is changed.

        Args:
            folder: Confluent's ``cfg``; it need not be there.
        """
        self._folder = folder
        # From the thread that writes Confluent's files, too.
        self._lock = threading.Lock()
        identity, _, left = self._read_mark().partition("\n")
        #: Whose they are, "" where that is not known.
        self._identity = identity if left.strip() == self._look() else ""

    def keep_aside(self, identity: str) -> Path | None:
        """Copy a configuration aside that is another one than the collective's, once.

        Args:
            identity: of the collective's configuration, and of its key.

        Returns:
            The folder of the copy, None where there was nothing to copy.
        """
        if self._identity == identity:
            return None
        aside = self._copy_aside()
        with self._lock:
            self._identity = identity
            self._write_mark()
            _fsync(self._folder / MARK)
            _fsync(self._folder)
        return aside

    def clear(self) -> None:
        """Delete a configuration; for what is to be written in its place."""
        for each in self._files():
            if each.name.partition(".")[0] in _WRITTEN:
                each.unlink()

    def note(self) -> None:
        """Note how they are now, if they are known to be the collective's.

        A note that is lost costs a copy at the next start, and nothing else.
        """
        with self._lock:
            if self._identity:
                try:
                    self._write_mark()
                except OSError as error:
                    log.warning("cannot note how Confluent's files are: %s", error)

    def _read_mark(self) -> str:
        try:
            return (self._folder / MARK).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    def _write_mark(self) -> None:
        mark = self._folder / MARK
        part = mark.with_name(f"{MARK}.part")
        part.write_text(f"{self._identity}\n{self._look()}\n", "ascii")
        part.replace(mark)

    def _files(self) -> list[Path]:
        return [
            each
            for each in sorted(self._folder.glob("*"))
            if each.is_file() and each.name not in _NOT_MOVED
        ]

    def _look(self) -> str:
        """Return how they are, in one line."""
        pieces = []
        for each in self._files():
            with suppress(FileNotFoundError):  # one that comes and goes beside a database
                about = each.stat()
                pieces.append(f"{quote(each.name)}:{about.st_size}:{about.st_mtime_ns}")
        return " ".join(pieces)

    def _copy_aside(self) -> Path | None:
        kept = self._files()
        if not kept:
            return None
        stem = f"{self._folder.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}-"
        # It has its name when it is whole: one that is still .part was cut off.
        part = Path(tempfile.mkdtemp(".part", stem, self._folder.parent))
        for each in kept:
            shutil.copy2(each, part / each.name)
            _fsync(part / each.name)
        aside = part.with_name(part.name[: -len(".part")])
        part.rename(aside)
        _fsync(self._folder.parent)
        log.warning("the configuration that was here before is in %s", aside)
        return aside


def _fsync(path: Path) -> None:
    """Make a file, or what was renamed in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
