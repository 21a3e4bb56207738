"""What the supervision of etcd decides without a process."""

from __future__ import annotations

import os
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
