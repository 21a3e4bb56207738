"""Which tests are done by one process, where several share the work.

Tests that use one stage after the other stay together, and so do those of a file where they are
quick. All others go, one by one, to whoever is free.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest

#: Files whose tests use a stage for each version of etcd, see ``tests/faults/stage.py``.
_STAGED = re.compile(r"tests/faults/test_(?:matrix|leader_changes)\.py::\w+\[etcd-([\d.]+)")
_QUICK = "tests/unit/"


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler of xdist that keeps together what belongs together."""
    scheduler = import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduler._split_scope = share_of
    return scheduler


def share_of(nodeid: str) -> str:
    """Return a name that is the same for tests that belong together."""
    staged = _STAGED.match(nodeid)
    if staged is not None:
        return f"stage of etcd {staged.group(1)}"
    return nodeid.partition("::")[0] if nodeid.startswith(_QUICK) else nodeid
