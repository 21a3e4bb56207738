"""The end of etcd's write-ahead log, from segments made here as etcd makes them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.etcd.wal import LogEnd, read_log_end

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
ROOM = bytes(4096)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(**fields: int | bytes) -> bytes:
    """Encode a protobuf message; the name of a field is f and its number."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def frame(kind: int, payload: bytes) -> bytes:
    record = message(f1=kind, f2=12345, f3=payload)
    padding = -len(record) % 8
    word = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", word) + record + bytes(padding)


def entry(term: int, index: int, data: bytes = b"x" * 13) -> bytes:
    return frame(ENTRY, message(f1=0, f2=term, f3=index, f4=data))


def state(term: int, commit: int) -> bytes:
    return frame(STATE, message(f1=term, f2=7, f3=commit))


def head(member: int = 11, cluster: int = 22) -> bytes:
    return frame(CRC, b"") + frame(METADATA, message(f1=member, f2=cluster))


def snapshot(index: int, term: int) -> bytes:
    return frame(SNAPSHOT, message(f1=index, f2=term))


def write(folder: Path, number: int, first: int, *parts: bytes) -> None:
    (folder / f"{number:016x}-{first:016x}.wal").write_bytes(b"".join(parts))


def test_folder_without_a_segment_has_no_end(tmp_path: Path) -> None:
    """Neither a missing folder nor one with etcd's temporary files is a log."""
    assert read_log_end(tmp_path / "missing") is None
    (tmp_path / "0.tmp").write_bytes(ROOM)
    assert read_log_end(tmp_path) is None


@pytest.mark.parametrize(
    ("parts", "term", "index"),
    [
        ((), 0, 0),
        ((state(1, 0),), 1, 0),
        ((entry(1, 1), entry(1, 2), state(1, 2)), 1, 2),
        ((entry(1, 1), entry(1, 2), ROOM), 1, 2),
        # A vote for a later term, with no entry of it yet.
        ((entry(1, 1), state(5, 1)), 5, 1),
        # A new leader overwrites what was never committed.
        ((entry(1, 1), entry(1, 2), entry(1, 3), state(1, 1), entry(2, 2), state(2, 2)), 2, 2),
        # Our own snapshot lies behind the end; one from the leader stands for what is missing.
        ((entry(1, 1), entry(1, 2), snapshot(1, 1)), 1, 2),
        ((entry(1, 1), state(3, 900), snapshot(900, 3)), 3, 900),
        ((entry(1, 1), snapshot(900, 3), entry(3, 901), state(3, 901)), 3, 901),
        # Long entries, and an empty one.
        ((entry(1, 1, b"y" * 70000), entry(1, 2, b"")), 1, 2),
        ((entry(300, 1 << 40),), 300, 1 << 40),
    ],
)
def test_last_entry_counts(
    tmp_path: Path, parts: tuple[bytes, ...], term: int, index: int
) -> None:
    """Whatever lies before it, and whatever room lies after."""
    write(tmp_path, 0, 0, head(), snapshot(0, 0), *parts)
    assert read_log_end(tmp_path) == LogEnd(11, 22, term, index)


def test_newest_segment_counts(tmp_path: Path) -> None:
    """It repeats metadata and state; its name says how far the earlier ones go."""
    write(tmp_path, 0, 0, head(), *(entry(1, number) for number in range(1, 300)))
    write(tmp_path, 1, 300, head(), state(4, 299), ROOM)
    assert read_log_end(tmp_path) == LogEnd(11, 22, 4, 299)
    write(tmp_path, 1, 300, head(), state(4, 299), entry(4, 300), ROOM)
    assert read_log_end(tmp_path) == LogEnd(11, 22, 4, 300)
    write(tmp_path, 16, 1000, b"")
    assert read_log_end(tmp_path) == LogEnd(0, 0, 0, 999)


def test_torn_last_record_does_not_count(tmp_path: Path) -> None:
    """Cut off at any byte, the log ends with the entry before: nobody was promised the last."""
    whole = head() + entry(2, 1) + entry(2, 2)
    last = entry(2, 3)
    for cut in range(len(last)):
        write(tmp_path, 0, 0, whole + last[:cut])
        assert read_log_end(tmp_path) == LogEnd(11, 22, 2, 2), cut
        write(tmp_path, 0, 0, whole + last[: min(cut, 8)] + ROOM)
        assert read_log_end(tmp_path) == LogEnd(11, 22, 2, 2), cut


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_no_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, after: bool
) -> None:
    """Whatever is on the disk, the answer is a number or none."""
    folder = tmp_path_factory.mktemp("wal")
    write(folder, 0, 0, (head() + entry(2, 7) if after else b"") + junk)
    end = read_log_end(folder)
    assert end is not None
    assert end.index >= 0
