"""Handles of several servers on one etcd in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from collective.handle import Collective
from tests.harness.fake_etcd import FakeEtcd, nowhere

SECONDS = 10.0
Connect = Callable[[str], Collective]


class SharedEtcd(FakeEtcd):
    """One that several handles are connected to: one of them closes no other's connection."""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def etcd() -> FakeEtcd:
    """An etcd in memory."""
    return SharedEtcd()


@pytest.fixture
def connect(etcd: FakeEtcd) -> Iterator[Connect]:
    """Makes a handle of a server of some name."""
    made: list[Collective] = []

    def make(name: str) -> Collective:
        made.append(Collective(name, etcd, nowhere()))
        made[-1].wait_until_ready(SECONDS)
        return made[-1]

    yield make
    etcd.release()
    etcd.alive = True
    for handle in made:
        handle.close()
