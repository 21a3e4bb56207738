"""Decoded JSON against the fields of a dataclass, and back, so that a value that exists is valid.

It knows the kinds of fields that records and messages have: texts, numbers, flags and enums; one
of these or None; tuples and mappings of them; other dataclasses. ``Annotated[KIND, TEST, ...]``
takes of a kind what passes each test. What has another annotation is passed on as it is.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Optional, Union, get_args, get_origin, get_type_hints

#: Gets decoded JSON and returns the value; raises KeyError, TypeError or ValueError.
_Reader = Callable[[Any], Any]

#: Among the tests of a tuple: items that do not fit are left out, and what is no list is empty.
PASSING_OVER = object()


_UNIONS = (Union, getattr(types, "UnionType", Union))


class UnfitError(TypeError):
    """A field holds something else than it should.

    Attributes:
        args: the name of the field, and its kind.
    """

    def __str__(self) -> str:
        """Say so, without the value: it may be a secret."""
        return f"{self.args[0]} is no {self.args[1]}"


def fields_of(cls: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a dataclass's fields.

    Args:
        cls: a dataclass.
        raw: a decoded JSON object; what the dataclass does not have is left out.

    Raises:
        KeyError: a field without a default is missing.
        UnfitError: a field holds something else than it should.
    """
    values: dict[str, Any] = {}
    for name, kind, is_needed, read in _fields(cls):
        if name not in raw and not is_needed:
            continue
        value = raw[name]
        try:
            values[name] = read(value)
        except (KeyError, TypeError, ValueError):
            raise UnfitError(name, kind) from None
    return values


def plain(value: Any) -> Any:
    """Return the JSON form of a value; what is in a mapping is JSON already."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.value if isinstance(value, Enum) else value


@lru_cache(None)
def _fields(cls: Any) -> tuple[tuple[str, str, bool, _Reader], ...]:
    """Return name, kind, whether it is needed, and reader of each field."""
    kinds = _kinds(cls)
    return tuple(
        (f.name, str(f.type), f.default is MISSING, _reader(kinds[f.name])) for f in fields(cls)
    )


def _kinds(cls: Any) -> dict[str, Any]:
    if sys.version_info < (3, 10):
        return _kinds_of_texts(cls)
    return get_type_hints(cls, include_extras=True)


def _kinds_of_texts(cls: Any) -> dict[str, Any]:
    """Return the kinds of fields where ``KIND | None`` is no kind: Python 3.9."""
    kinds: dict[str, Any] = {}
    for each in reversed(cls.__mro__[:-1]):
        fields_here = vars(each).get("__annotations__", {})
        texts = {name: _as_optional(text) for name, text in fields_here.items()}
        scope = {**vars(sys.modules[each.__module__]), "Optional": Optional}
        holder = type("Kinds", (), {"__annotations__": texts})
        kinds.update(get_type_hints(holder, scope, include_extras=True))
    return kinds


def _as_optional(text: str) -> str:
    kind = text.removesuffix(" | None")
    return text if kind == text else f"Optional[{kind}]"


def _reader(kind: Any) -> _Reader:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if PASSING_OVER in inner:
            return _those_that_fit(_reader(get_args(inner[0])[0]))
        return _tested(_reader(inner[0]), inner[1:])
    if origin in _UNIONS:
        (one,) = (_reader(each) for each in inner if each is not type(None))
        return lambda value: None if value is None else one(value)
    if origin is tuple:
        item = _reader(inner[0])
        return lambda value: tuple(item(each) for each in _must(isinstance(value, list), value))
    if origin is Mapping:
        item = _reader(inner[1])
        return lambda value: {
            key: item(each) for key, each in _must(isinstance(value, dict), value).items()
        }
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if is_dataclass(kind):
        return _reader_of_parts(kind)
    check = _CHECKS.get(kind, lambda value: True)
    return lambda value: _must(check(value), value)


def _reader_of_parts(cls: Any) -> _Reader:
    return lambda value: cls(**fields_of(cls, _must(isinstance(value, dict), value)))


def _must(is_fit: bool, value: Any) -> Any:
    if not is_fit:
        raise TypeError
    return value


def _tested(read: _Reader, tests: tuple[Callable[[Any], bool], ...]) -> _Reader:
    def tested(value: Any) -> Any:
        found = read(value)
        return _must(all(test(found) for test in tests), found)

    return tested


def _those_that_fit(read: _Reader) -> _Reader:
    def fitting(value: Any) -> Any:
        found = []
        for item in value if isinstance(value, list) else ():
            try:
                found.append(read(item))
            except (KeyError, TypeError, ValueError):
                continue
        return tuple(found)

    return fitting


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: Mapping[Any, Callable[[Any], bool]] = {
    str: lambda value: isinstance(value, str),
    int: _is_int,
    float: lambda value: _is_int(value) or (isinstance(value, float) and math.isfinite(value)),
    bool: lambda value: isinstance(value, bool),
}
