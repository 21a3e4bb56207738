"""Fixtures of the matrix of cuts: one stage for each version of etcd, kept between the cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.faults.stage import Arena, Stage
from tests.harness import Cluster
from tools.etcd_versions import Etcd

Lend = Callable[[int], AbstractContextManager[Stage]]


@pytest.fixture(scope="session")
def arena() -> Iterator[Arena]:
    """What keeps the stage."""
    made = Arena()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lend(arena: Arena, etcd: Etcd, show_logs_of: Callable[[Cluster], None]) -> Lend:
    """Lends so many servers, in whatever state the last cell has left them: whole."""

    @contextmanager
    def lent(servers: int) -> Iterator[Stage]:
        with arena.lend(etcd, servers) as stage:
            show_logs_of(stage.cluster)
            yield stage

    return lent
