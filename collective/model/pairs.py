"""Two sequences side by side that must be of one length, also on Python 3.9.

``zip(strict=True)`` is of Python 3.10; what an embedder imports runs on 3.9.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def paired(first: Collection[A], second: Collection[B]) -> Iterator[tuple[A, B]]:
    """Return the items of both, one of each at a time.

    Raises:
        ValueError: one has more of them.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} items beside {len(second)}")
    return zip(first, second)
