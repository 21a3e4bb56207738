"""Check decoded JSON against the fields of a dataclass, so that a value that exists is valid.

It knows the few kinds of fields that records and messages have, and no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "str | None": lambda value: value is None or isinstance(value, str),
    "int": _is_int,
    "float": _is_float,
    "bool": lambda value: isinstance(value, bool),
    "tuple[str, ...]": _is_texts,
}


def fields_of(cls: type[Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a dataclass's fields, lists of texts as tuples.

    Args:
        cls: a dataclass of a module with postponed annotations.
        raw: a decoded JSON object; what the dataclass does not have is left out.

    Raises:
        KeyError: a field without a default is missing.
        TypeError: a field holds something else than it should. A field of another kind, such as
            an enum, is passed on as it is, for the caller to convert.
    """
    values: dict[str, Any] = {}
    for name, field in cls.__dataclass_fields__.items():
        if name not in raw and field.default is not MISSING:
            continue
        value, kind = raw[name], str(field.type)
        check = _CHECKS.get(kind)
        if check is not None and not check(value):
            raise TypeError(f"{name} is no {kind}")
        values[name] = tuple(value) if kind == "tuple[str, ...]" else value
    return values
