"""What belongs to one process, and is told when a child process was forked from it.

A child has the memory of its parent and none of its threads, and shares its sockets.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class OfOneProcess(Protocol):
    """Something that no child process may use."""

    def after_fork(self) -> None:
        """Let go of all in a child; no lock may be waited for: its holder may not be there."""


_KNOWN: WeakSet[OfOneProcess] = WeakSet()


def tell_after_fork(each: OfOneProcess) -> None:
    """Have something told in each child process, for as long as somebody holds it."""
    _KNOWN.add(each)


def _tell_all() -> None:
    for each in list(_KNOWN):
        each.after_fork()


os.register_at_fork(after_in_child=_tell_all)
