"""What hinders a start of etcd before there is a process."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.member import etcd_supervisor
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.errors import CollectiveError
from tests.unit.identities import record_of, view_of

FULL = "cannot write trusted.pem: no space left on device"


class Disk:
    """A disk that is full for so many writes; afterwards etcd is started."""

    def __init__(self, full: int) -> None:
        self.left, self.started, self.stopping = full, threading.Event(), threading.Event()

    def write(self) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise CollectiveError(FULL)
        return view_of(record_of("mgt1"))

    def supervisor(self) -> EtcdSupervisor:
        backend = SimpleNamespace(start=lambda *_: self.started.set(), failure=None)
        trust = SimpleNamespace(write_files=self.write)
        plan = SimpleNamespace(name="mgt1", votes=True)
        parts: Any = backend, lambda: plan, trust, None, None, self.stopping
        return EtcdSupervisor(*parts)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_supervisor, "_START_AGAIN_SECONDS", 0.01)


def test_etcd_whose_files_cannot_be_written_says_so_and_starts_when_they_can() -> None:
    """A full disk once left a server without an etcd, and without a word, for good."""
    disk = Disk(full=2)
    etcd = disk.supervisor()
    with pytest.raises(CollectiveError, match="no space"):
        etcd._start_again()
    assert etcd.failure == f"etcd is not started: {FULL}"
    assert disk.started.wait(10.0)
    assert etcd.failure is None


@pytest.mark.parametrize("full", [0, 2])
def test_etcd_begins_in_the_end_whatever_could_not_be_written(full: int) -> None:
    """What a server that returns has heard is written as well, before it may start."""
    disk, before = Disk(full), Disk(full)
    etcd = disk.supervisor()
    etcd.begin(lambda: bool(before.write()))
    assert disk.started.is_set()
    assert (etcd.failure, etcd.may_live.is_set()) == (None, True)


def test_etcd_that_is_hindered_is_not_tried_after_the_end_of_this_life() -> None:
    """Nobody would end it."""
    disk = Disk(full=1 << 30)
    etcd = disk.supervisor()
    begin = threading.Thread(target=etcd.begin, args=(lambda: True,))
    begin.start()
    disk.stopping.set()
    begin.join(10.0)
    assert not begin.is_alive()
    assert not disk.started.is_set()


def test_etcd_that_may_not_start_for_another_reason_names_it() -> None:
    """It is a fault of ours, and the log has all of it."""
    etcd = Disk(0).supervisor()

    def fail() -> bool:
        raise ValueError("no such thing")

    etcd.begin(fail)
    assert etcd.failure == "etcd was not started: no such thing"
