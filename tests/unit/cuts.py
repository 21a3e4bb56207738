"""Cut a server off in the middle of a change, as kill -9 does, without a process to kill."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class Killed(BaseException):
    """The process ends here, as far as the test can tell."""


def killed_at(
    patch: pytest.MonkeyPatch, module: ModuleType, name: str, times: int = 1, before: bool = False
) -> None:
    """Let a function work so many times, and end the process right after the last, or before it.

    Args:
        patch: undoes it.
        module: where the function is called by that name.
        name: of the function.
        times: which of its calls it is.
        before: whether that call does nothing any more.
    """
    real: Callable[..., Any] = getattr(module, name)
    left = [times]

    def step(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and before:
            raise Killed
        result = real(*args, **options)
        if left[0] == 0:
            raise Killed
        return result

    patch.setattr(module, name, step)
