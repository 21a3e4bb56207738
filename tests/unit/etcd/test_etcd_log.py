"""What is heard of etcd's log: its warnings in ours, and its last words."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.etcd.etcd_log import _MOST_KINDS, QUIET_SECONDS, EtcdLog, read_entry

SLOW = {
    "level": "warn",
    "ts": "2026-11-29T05:17:09.1Z",
    "caller": "etcdserver/util.go:170",
    "msg": "apply request took too long",
    "took": "1.2s",
    "expected-duration": "100ms",
    "prefix": "read-only range ",
    "request": 'key:"collective/v1/"',
}


class Ears(logging.Handler):
    """Hears what is logged at warning or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep level and text."""
        self.heard.append((record.levelname, record.getMessage()))


@pytest.fixture(name="ears")
def _ears() -> Iterator[Ears]:
    ears = Ears()
    logger = logging.getLogger("collective.etcd.etcd_log")
    logger.addHandler(ears)
    yield ears
    logger.removeHandler(ears)


def said(*lines: object, now: list[float] | None = None) -> EtcdLog:
    """Return the log of an etcd that wrote these lines, a second apart."""
    clock = now or [0.0]
    log = EtcdLog(lambda: clock[0])
    for line in lines:
        log.take(line if isinstance(line, bytes) else json.dumps(line).encode())
        clock[0] += 1
    return log


def test_warning_of_etcd_is_a_warning_here(ears: Ears) -> None:
    """With what makes it worth reading, and without what fills a screen."""
    said(SLOW)
    told = "etcd says: apply request took too long (took=1.2s expected-duration=100ms)"
    assert ears.heard == [("WARNING", told)]


def test_error_of_etcd_is_an_error_here(ears: Ears) -> None:
    """And what went wrong is in its line."""
    said({"level": "error", "msg": "failed to allocate", "error": "no space left on device"})
    told = "etcd says: failed to allocate (no space left on device)"
    assert ears.heard == [("ERROR", told)]


@pytest.mark.parametrize(
    "message",
    [
        "simple token is not cryptographically signed",
        "Running http and grpc server on single port. This is not recommended for production.",
        "prober detected unhealthy status",
        "3bc6571cd0b7b5f0 stepped down to follower since quorum is not active",
    ],
)
def test_what_each_start_or_absent_member_brings_is_not_told(ears: Ears, message: str) -> None:
    """The daemon tells who is gone, in one line; etcd does in hundreds."""
    said({"level": "warn", "msg": message}, {"level": "info", "msg": "ready to serve"})
    assert ears.heard == []


def test_flood_of_one_kind_makes_a_line_a_minute_with_its_count(ears: Ears) -> None:
    """A slow disk warns at each write."""
    said(*[{**SLOW, "took": f"{n}ms"} for n in range(150)])
    assert [text.rpartition(")")[2] for _, text in ears.heard] == ["", " times=60", " times=60"]


def test_messages_that_differ_by_a_number_are_of_one_kind(ears: Ears) -> None:
    """Such as those that name a member's id."""
    said(*[{"level": "warn", "msg": f"dropped message to {n:016x}"} for n in range(10, 30)])
    assert len(ears.heard) == 1


def test_however_many_kinds_there_are_the_journal_is_not_flooded(ears: Ears) -> None:
    """Nor is memory filled with them."""
    kinds = ["".join(c) for c in itertools.islice(itertools.product("xyz", repeat=7), 500)]
    log = said(*[{"level": "warn", "msg": kind} for kind in kinds], now=[0.0])
    assert len(ears.heard) == len(log._told) == _MOST_KINDS


@given(st.text(max_size=600))
def test_line_stays_one_line(text: str) -> None:
    """Whatever somebody at the peer port has etcd write."""
    entry = read_entry(json.dumps({"level": "warn", "msg": text, "error": text}).encode())
    assert len(entry.text.splitlines()) <= 1
    assert entry.text.isprintable()
    assert len(entry.text) <= 300


def test_the_quiet_time_is_that_of_the_invariant() -> None:
    """One line a minute."""
    assert QUIET_SECONDS == 60


def noted(*lines: object) -> list[str]:
    """Return what may say why an etcd ended that wrote these lines."""
    log = EtcdLog()
    for line in lines:
        text = line if isinstance(line, bytes) else json.dumps(line).encode()
        log.take(text + b"\n")
    return list(log._words)


def test_last_words_are_the_errors_alone() -> None:
    """Of etcd's chatter only what may be the reason of its end is kept."""
    assert noted(
        {"level": "info", "msg": "starting"},
        {"level": "warn", "msg": "slow", "error": "disk"},
        {"level": "error", "msg": "cannot bind", "error": "address in use"},
        {"level": "fatal", "msg": "discovery failed"},
    ) == ["cannot bind (address in use)", "discovery failed"]


def test_panic_is_told_rather_than_its_stack() -> None:
    """The stack after it, which is longer than what is kept, does not push it out."""
    stack = [b"goroutine 1 [running]:", b"main.main()", b"\t/go/src/main.go:12 +0x1d"] * 20
    words = noted(b"panic: tocommit(7) is out of range", b"", *stack)
    assert words[-1] == "panic: tocommit(7) is out of range"


def test_usage_error_is_told() -> None:
    """etcd 3.4 prints one line, then all its options."""
    words = noted(b"flag provided but not defined: -x", b"Usage:", b"  etcd [flags]")
    assert words[-1] == "flag provided but not defined: -x"


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"3", b"null", b'"level"', b"{}", b'{"level": 3}', b"\xff\xfe", b"{"]
)
def test_any_line_of_a_log_is_survived(line: bytes) -> None:
    """What a crashing program writes does not end its supervision."""
    noted(line)


def test_endless_line_is_cut() -> None:
    """The reason fits in a line of ``show``."""
    assert [len(word) for word in noted({"level": "fatal", "msg": "x" * 5000})] == [300]
