"""What the supervision of etcd decides without a process."""

from __future__ import annotations

import json
import os
from collections import deque
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.etcd import process
from collective.etcd.process import Ended, pause_before_restart
from collective.files import FolderLock


def test_pauses_grow_to_a_limit() -> None:
    """The first restart is quick, each next one waits longer, none waits for ever."""
    pauses = [pause_before_restart(n) for n in range(1, 40)]
    assert pauses[0] <= 0.5
    assert pauses == sorted(pauses)
    assert max(pauses) == pauses[-1] <= 60
    assert all(later <= 2 * sooner for sooner, later in pairwise(pauses))


@given(st.integers(-5, 10**9))
def test_any_count_of_failures_gives_a_pause(failures: int) -> None:
    """A crash loop of years overflows nothing."""
    assert 0 < pause_before_restart(failures) <= 60


@pytest.mark.parametrize(
    ("ended", "sentence"),
    [
        (Ended(1, 0.26, "no space left"), "etcd ended with code 1 after 0.3 s: no space left"),
        (Ended(0, 61.0, ""), "etcd ended with code 0 after 61.0 s"),
        (Ended(-9, 5.0, ""), "etcd was killed (9) after 5.0 s"),
    ],
)
def test_end_is_told_in_one_sentence(ended: Ended, sentence: str) -> None:
    """Code, signal and last words, for the log and for ``show``."""
    assert ended.sentence() == sentence


def noted(*lines: object) -> list[str]:
    words: deque[str] = deque(maxlen=12)
    for line in lines:
        text = line if isinstance(line, bytes) else json.dumps(line).encode()
        process._note(text + b"\n", words)
    return list(words)


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


def test_environment_of_etcd_holds_nothing_that_overrules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """etcd reads each of its options from ETCD_* too, and Go obeys the proxy variables."""
    for name in ("ETCD_LISTEN_CLIENT_URLS", "HTTPS_PROXY", "LD_PRELOAD", "SSLKEYLOGFILE", "TOKEN"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOME", "/root")
    seen = process._environment(os.environ)
    assert set(seen) <= {"PATH", "HOME", "LANG", "TZ", "GOMAXPROCS"}
    assert seen["HOME"] == "/root"


def test_end_of_an_orphan_spares_who_does_not_hold_the_lock(tmp_path: Path) -> None:
    """A process number in the file proves nothing: it may be another program's by now."""
    path = tmp_path / "etcd.lock"
    path.write_text(f"{os.getppid()}\n")
    process._end_orphan(path)
    os.kill(os.getppid(), 0)


@pytest.mark.parametrize("content", ["", "x", "999999999", "1\n2"])
def test_end_of_an_orphan_survives_any_content(tmp_path: Path, content: str) -> None:
    """A lock file that was cut off by a crash ends nobody, and no daemon."""
    path = tmp_path / "etcd.lock"
    path.write_text(content)
    process._end_orphan(path)


def test_end_of_an_orphan_spares_this_very_process(tmp_path: Path) -> None:
    """The daemon holds the lock itself for a moment before it forks."""
    path = tmp_path / "etcd.lock"
    with FolderLock.acquire(path):
        process._end_orphan(path)
    process._end_orphan(tmp_path / "missing")
