"""How far etcd's write-ahead log goes, read off the disk while etcd does not run.

A member whose log ends before what it once promised must not vote: it would elect a leader that
lacks acknowledged writes. etcd cannot know that; whoever remembers the promise compares.

It changes nothing and checks no sums: etcd does, when it starts. Formats: ``server/storage/wal`` and
``raft/raftpb`` of etcd, the same in 3.4 and 3.5 (both tried).

Invariants:
  * What lies after the first record that is not whole does not count, as for etcd itself.
  * No file, however broken, raises anything but a CollectiveError.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from collective.files import file_error

# walpb.Record.type
_METADATA, _ENTRY, _STATE, _SNAPSHOT = 1, 2, 3, 5
# A segment is named after its number and the index of its first entry, in hexadecimal digits.
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_LENGTH = struct.Struct("<Q")
_PADDED = 1 << 63


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
        data = (folder / last[0]).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(error, "read", folder) from error
    return _end(data, max(0, int(last[2], 16) - 1))


def _end(data: bytes, before: int) -> LogEnd:
    """Read one segment; ``before`` is the index of the last entry of the one before."""
    end = LogEnd(0, 0, 0, before)
    for kind, payload in _records(data):
        fields = dict(_fields(payload))
        if kind == _ENTRY:
            # A new leader may overwrite entries that were never committed: the last one counts.
            end = replace(end, term=max(end.term, _number(fields, 2)), index=_number(fields, 3))
        elif kind == _SNAPSHOT:
            # Of this member's own state, or sent by the leader in place of entries.
            end = replace(end, index=max(end.index, _number(fields, 1)))
        elif kind == _STATE:
            end = replace(end, term=max(end.term, _number(fields, 1)))
        elif kind == _METADATA:
            ids = _number(fields, 1), _number(fields, 2)
            end = replace(end, member_id=ids[0], cluster_id=ids[1])
    return end


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and data of each whole record.

    A frame is eight bytes, little-endian: the length of the record in the lower 56 bits and, where
    the highest bit is set, the number of bytes of padding in the lower three bits of the highest
    byte. A length of 0 is room that nothing was written to yet.
    """
    position = 0
    while position + _LENGTH.size <= len(data):
        (word,) = _LENGTH.unpack_from(data, position)
        length = word & ((1 << 56) - 1)
        padding = word >> 56 & 7 if word & _PADDED else 0
        begin = position + _LENGTH.size
        if not length or begin + length + padding > len(data):
            return
        fields = dict(_fields(data[begin : begin + length]))
        payload = fields.get(3, b"")
        kind = fields.get(1)
        if not isinstance(kind, int) or not isinstance(payload, bytes):
            return
        yield kind, payload
        position = begin + length + padding


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
