"""Fixtures of the matrix of cuts: one stage for each version of etcd, kept between the cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from collective.failpoints import Step
from tests.faults.cut import Fault
from tests.faults.stage import Arena, Stage
from tests.harness import Cluster
from tools.etcd_versions import Etcd, find_etcds

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave every cell of the matrix to one version of etcd, unless COLLECTIVE_FULL is set.

    Like the squares of a chessboard: each version still plays every step and every fault.
    """
    if os.environ.get("COLLECTIVE_FULL"):
        return
    left_out = [item for item in items if _is_anothers(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _is_anothers(item: pytest.Item) -> bool:
    values: Any = (
        item.callspec.params if isinstance(item, pytest.Function) and _is_cell(item) else {}
    )
    if not values:
        return False
    versions = [found.version_text for found in find_etcds()]
    square = list(Step).index(values["step"]) + list(Fault).index(values["fault"])
    return square % len(versions) != versions.index(values["etcd"].version_text)


def _is_cell(item: pytest.Function) -> bool:
    return hasattr(item, "callspec") and {"step", "fault", "etcd"} <= item.callspec.params.keys()
