"""A mapping over another one that is not changed: what is looked at is copied first.

So a change is computed by code that changes in place, on the configuration as it is, and nobody
sees it before it is committed. What is not looked at costs nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class Overlay(MutableMapping[str, Any]):
    """The mapping."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self._base = base
        self._own: dict[str, Any] = {}
        self._gone: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        if name in self._gone:
            raise KeyError(name)
        self._own[name] = made = copy.deepcopy(self._base[name])
        return made

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value
        self._gone.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._own.pop(name, None)
        self._gone.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._own or (name not in self._gone and name in self._base)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._base if name not in self._gone)
        yield from [name for name in self._own if name not in self._base]

    def __len__(self) -> int:
        return (
            len(self._base)
            - len(self._gone & self._base.keys())
            + len(self._own.keys() - self._base.keys())
        )
