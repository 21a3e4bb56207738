"""Fixtures of the matrix of cuts: one stage for each version of etcd, kept between the cells."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from collective.failpoints import Step
from tests.faults.cut import Fault
from tests.faults.stage import Arena, Stage
from tests.harness import Cluster
from tests.harness.short_run import is_full
from tools.etcd_versions import Etcd, etcds_in_use

# Five faults in a row hold one multiple of five: with two versions of etcd, each step is cut once.
_PARTS = 10
_CHANGE_PARTS = 20
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
    """Play a tenth of the faults at steps with each version of etcd, in a short run.

    Two versions together still play every step of the matrix, and each of them every fault. Of the
    changes of leader it is a twentieth.
    COLLECTIVE_FULL, as "make faults" sets it, has all played.
    """
    if is_full():
        return
    left_out = {item for item in items if _is_for_the_full_run(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@functools.cache
def _versions() -> list[str]:
    return [found.version_text for found in etcds_in_use()]


def _is_for_the_full_run(item: pytest.Item) -> bool:
    values: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    step, etcd = values.get("step"), values.get("etcd")
    if not isinstance(step, Step) or etcd is None:
        return False
    fault = values.get("fault")
    rest = list(Fault).index(fault) if fault else zlib.crc32(item.name.split("-", 2)[-1].encode())
    parts = _PARTS if fault else _CHANGE_PARTS
    turn = parts // 2 * _versions().index(etcd.version_text) % parts
    return (list(Step).index(step) + rest) % parts != turn
