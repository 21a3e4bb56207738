# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Compare the files of a bundle with the SHA-256 that each was pinned to.

It imports nothing of Ansible: the project's unit tests try it as it is. It does not know whether
the manifest itself is genuine: only the SHA-256 of the whole bundle, from its maker, tells that.

Invariants:
  * A file that is not in the manifest is as wrong as one that differs.
  * What is neither a plain file nor a folder, such as a link, is wrong.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from typing import IO

#: In the form of sha256sum(1), so that it can be checked by hand too.
MANIFEST = "SHA256SUMS"
#: What the role adds to a folder.
MARK = ".complete"

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_ODD = "no plain file"
_CHUNK = 1 << 20


class PinError(Exception):
    """There is nothing to compare with. The text says why."""


def problems(path: str) -> list[str]:
    """Return a sentence for each file of a bundle that is not as it was pinned.

    Args:
        path: of the archive, or of the folder that it was unpacked in.

    Raises:
        PinError: it has no manifest, or one that cannot be read.
        OSError, tarfile.TarError, EOFError: it cannot be read.
    """
    found, manifest = _folder(path) if os.path.isdir(path) else _archive(path)
    if manifest is None:
        raise PinError(f"there is no {MANIFEST} in it: make it anew, with 'make bundle'")
    return differences(parse(manifest), found)


def parse(manifest: str) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path in the bundle.

    Raises:
        PinError: a line has another form, or names a file outside, or twice.
    """
    pinned: dict[str, str] = {}
    for number, line in enumerate(manifest.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise PinError(f"line {number} of {MANIFEST} has no SHA-256 and path")
        name = match[2]
        if name.startswith("/") or ".." in name.split("/") or name in pinned:
            raise PinError(f"line {number} of {MANIFEST} names {name}, outside of it or again")
        pinned[name] = match[1]
    return pinned


def differences(pinned: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return a sentence for each file that differs, is missing, or should not be there."""
    said = []
    for name, expected in sorted(pinned.items()):
        if name not in found:
            said.append(f"{name} is missing, expected with the SHA-256 {expected}")
        elif found[name] == _ODD:
            said.append(f"{name} is {_ODD}, expected one with the SHA-256 {expected}")
        elif found[name] != expected:
            said.append(f"{name} has the SHA-256 {found[name]}, expected {expected}")
    more = sorted(set(found) - set(pinned))
    return said + [f"{name} is there, and {MANIFEST} does not name it" for name in more]


def _folder(path: str) -> tuple[dict[str, str], str | None]:
    found = {}
    manifest = None
    for folder, folders, files in os.walk(path):
        for name in sorted(folders + files):
            full = os.path.join(folder, name)
            mode = os.lstat(full).st_mode
            own = os.path.relpath(full, path)
            if stat.S_ISDIR(mode) or own == MARK:
                continue
            if not stat.S_ISREG(mode):
                found[own] = _ODD
            elif own == MANIFEST:
                with open(full, encoding="utf-8", errors="replace") as text:
                    manifest = text.read()
            else:
                with open(full, "rb") as content:
                    found[own] = _sum(content)
    return found, manifest


def _archive(path: str) -> tuple[dict[str, str], str | None]:
    found: dict[str, str] = {}
    manifest = None
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if member.isdir() and ".." not in member.name.split("/"):
                continue
            if content is None or member.name in found:
                found[member.name] = _ODD
            elif member.name == MANIFEST:
                manifest = content.read().decode("utf-8", "replace")
            else:
                found[member.name] = _sum(content)
    return found, manifest


def _sum(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while True:
        chunk = content.read(_CHUNK)
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
