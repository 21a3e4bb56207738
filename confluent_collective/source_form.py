"""What of an entry somebody has set, without what Confluent derives from it and others.

Pure. What is derived (inherited attributes, values of expressions, the nodes of a group, the
index of user ids) every server computes by itself, with Confluent's own functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_collective.documents import NODEGROUPS, NODES

_COMPUTED = ("value", "broken")
#: Derived attributes of an entry itself, by its area.
_DERIVED = {NODEGROUPS: {"nodes"}}


def source_of(area: str, entry: Any) -> Any:
    """Return an entry as it was set; nothing of it is copied where nothing is left out.

    Args:
        area: of the entry.
        entry: as Confluent holds it.
    """
    if area not in (NODES, NODEGROUPS):
        return entry
    derived = _DERIVED.get(area, set())
    return {
        name: _attribute(value)
        for name, value in entry.items()
        if not (name.startswith("_") or name in derived or _is_inherited(value))
    }


def _is_inherited(value: Any) -> bool:
    return isinstance(value, Mapping) and "inheritedfrom" in value


def _attribute(value: Any) -> Any:
    if isinstance(value, Mapping) and "expression" in value:
        return {name: part for name, part in value.items() if name not in _COMPUTED}
    return value
