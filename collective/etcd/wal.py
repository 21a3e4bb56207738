"""How far etcd's write-ahead log goes, read off the disk while etcd does not run.

A member whose log ends before what it once promised must not vote: it would elect a leader that
lacks acknowledged writes. etcd cannot know that; whoever remembers the promise compares.

It changes nothing and checks no sums: etcd does, when it starts. Formats: ``wal/walpb`` and
``raft/raftpb`` of etcd, the same in 3.4 and 3.5 (both tried).

Invariants:
  * What lies after the first record that is not whole does not count, as for etcd itself.
  * No file, however broken, raises anything but a CollectiveError.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collective.files import file_error

# walpb.Record.type
_METADATA, _ENTRY, _STATE, _SNAPSHOT = 1, 2, 3, 5
# A segment is named after its number and the index of its first entry, in hexadecimal digits.
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_LENGTH = struct.Struct("<Q")
_PADDED = 1 << 63
_LENGTH_BITS = (1 << 56) - 1
# The first field of walpb.Record is its type, a number.
_TYPE_TAG = 1 << 3


@dataclass(frozen=True)
class LogEnd:
    """Whose log it is, and how far it goes.

    Attributes:
        member_id, cluster_id: of etcd, 0 where the log does not say.
        term: the newest that the member has promised to follow.
        index: of the last entry, or of the snapshot that stands for it.
    """

    member_id: int
    cluster_id: int
    term: int
    index: int


def read_log_end(folder: Path) -> LogEnd | None:
    """Read the end of a log.

    Only the last segment is read: each begins with the metadata and the state so far, and its name
    tells how far those before it go.

    Args:
        folder: ``member/wal`` of etcd's data.

    Returns:
        None where there is no segment.

    Raises:
        AccessError: the right to read it is missing.
        CollectiveError: the disk failed.
    """
    try:
        names = [m for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))]
        if not names:
            return None
        last = max(names, key=lambda name: name[1])
        before = max(0, int(last[2], 16) - 1)
        with (folder / last[0]).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return LogEnd(0, 0, 0, before)
            # A segment is 64 MB of room, most of it never written to, and so never read here.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _end(data, before)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(error, "read", folder) from error


def _end(data: mmap.mmap | bytes, before: int) -> LogEnd:
    """Read one segment; ``before`` is the index of the last entry of the one before.

    Of entries and states the last one counts: a new leader may overwrite entries that were never
    committed. Only that one is decoded, since a segment may hold half a million.
    """
    last: dict[int, slice] = {}
    snapshot = 0
    for kind, place in _records(data):
        last[kind] = place
        if kind == _SNAPSHOT:
            # Of this member's own state, or sent by the leader in place of entries.
            snapshot = max(snapshot, _number(_decoded(data, place), 1))
    metadata, state, entry = (
        _decoded(data, last[kind]) if kind in last else {} for kind in (_METADATA, _STATE, _ENTRY)
    )
    term = max(_number(state, 1), _number(entry, 2))
    index = max(snapshot, _number(entry, 3)) if entry else max(snapshot, before)
    return LogEnd(_number(metadata, 1), _number(metadata, 2), term, index)


def _records(data: mmap.mmap | bytes) -> Iterator[tuple[int, slice]]:
    """Yield type and place of each whole record.

    A frame is eight bytes, little-endian: the length of the record in the lower 56 bits and, where
    the highest bit is set, the number of bytes of padding in the lower three bits of the highest
    byte. A length of 0 is room that nothing was written to yet. A record begins with its type.
    """
    position, size = 0, len(data)
    unpack = _LENGTH.unpack_from
    while position + 8 < size:
        word = unpack(data, position)[0]
        length = word & _LENGTH_BITS
        begin = position + 8
        position = begin + length + (word >> 56 & 7 if word & _PADDED else 0)
        if length < 2 or position > size or data[begin] != _TYPE_TAG:
            return
        yield data[begin + 1], slice(begin, begin + length)


def _decoded(data: mmap.mmap | bytes, place: slice) -> dict[int, int | bytes]:
    """Return the fields of what a record holds."""
    payload = dict(_fields(data[place])).get(3, b"")
    return dict(_fields(payload)) if isinstance(payload, bytes) else {}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message, as long as it can be read."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(data, position)
            if position <= len(data):
                yield key >> 3, value
        elif kind == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                return
            yield key >> 3, data[position : position + length]
            position += length
        else:
            return


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number and where it ends; beyond the end of the data where it is cut off."""
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    return value, len(data) + 1


def _number(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0
