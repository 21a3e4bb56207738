"""In the place of Confluent's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_KEPT: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Any]) -> None:
    """Begin a task."""
    task = asyncio.get_running_loop().create_task(work)
    _KEPT.add(task)
    task.add_done_callback(_KEPT.discard)
