"""What is stored of Confluent's configuration: one document a key, and the names of the keys.

Pure: it stores nothing.

Invariants:
  * The same entry has the same bytes on every server.
  * Two names that differ in case only have one key, so only one of them can be there.
  * A document of a newer format is refused, never misread.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from collective.errors import InputError, ProtocolError

FORMAT = 1
ROOT = "confluent/v1/"
#: Areas of the configuration, as Confluent calls them.
NODES, NODEGROUPS, USERS, USERGROUPS = "nodes", "nodegroups", "users", "usergroups"
GLOBALS = "globals"
AREAS = (NODEGROUPS, NODES, USERGROUPS, USERS, GLOBALS)
#: Written with each change, and compared by each: so changes come one after the other.
CHANGE_KEY = ROOT + "change"
#: Which master key the secrets are encrypted with, without the key.
MASTER_KEY = ROOT + "master-key"
#: What each member says of itself; and the same under a lease while its Confluent runs.
MEMBERS, HERE = ROOT + "members/", ROOT + "here/"
#: The globals that all members share; the others are each server's own.
SHARED_GLOBALS = frozenset({"confluent_uuid", "max_node_index", "free_node_indexes"})

MOST_NAME = 255


class Document(NamedTuple):
    """An entry of the configuration, by its area and the name that Confluent knows it by."""

    area: str
    name: str
    entry: Any


def key_of(area: str, name: str) -> str:
    """Return the key of an entry: names compare without case.

    Raises:
        InputError: the name is too long.
    """
    if not name or len(name) > MOST_NAME:
        raise InputError(f"a name in {area} has {len(name)} characters, expected 1 to {MOST_NAME}")
    return f"{ROOT}{area}/{quote(name.casefold(), safe='')}"


def area_of(key: str) -> str | None:
    """Return the area that a key lies in, None for keys of another kind."""
    area = key[len(ROOT) :].partition("/")[0]
    return area if area in AREAS and key.startswith(ROOT) else None


def to_bytes(name: str, entry: Any) -> bytes:
    """Return what is stored of an entry."""
    return _json({"format": FORMAT, "name": name, "is": _tagged(entry)})


def from_bytes(area: str, key: str, value: bytes) -> Document:
    """Return an entry.

    Args:
        area, key: where it lies.
        value: what is stored there.

    Raises:
        ProtocolError: it is of a newer format, or none.
    """
    raw = read_object(key, value)
    if not isinstance(raw.get("name"), str) or "is" not in raw:
        raise ProtocolError(f"{key} holds no entry of Confluent's configuration")
    return Document(area, raw["name"], _untagged(raw["is"]))


def object_bytes(**fields: Any) -> bytes:
    """Return what is stored of a record that is none of Confluent's."""
    return _json({"format": FORMAT, **fields})


def read_object(key: str, value: bytes) -> dict[str, Any]:
    """Return a stored JSON object.

    Raises:
        ProtocolError: it is of a newer format, or none.
    """
    try:
        raw = json.loads(value)
        found = raw["format"]
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(f"{key} holds no record of this adapter") from None
    if found != FORMAT:
        raise ProtocolError(
            f"{key} has format {found!r:.20}, this release knows {FORMAT}",
            "update the adapter on this server",
        )
    return dict(raw)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


# JSON has no bytes, tuples and sets, and its keys are texts: these have an object with one tag.
def _tagged(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode("ascii")}
    if isinstance(value, tuple):
        return {"$tuple": [_tagged(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"$set": sorted(value)}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _tagged(item) for key, item in value.items()}
        return {"$dict": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise InputError(
        f"Confluent's configuration holds a {type(value).__name__}, which has no form"
    )


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$bytes": lambda raw: b64decode(raw),
    "$tuple": lambda raw: tuple(_untagged(item) for item in raw),
    "$set": set,
    "$dict": lambda raw: {_untagged(key): _untagged(item) for key, item in raw},
}


def _untagged(raw: Any) -> Any:
    if isinstance(raw, list):
        return [_untagged(item) for item in raw]
    if not isinstance(raw, dict):
        return raw
    if len(raw) == 1:
        ((tag, value),) = raw.items()
        if tag in _READERS:
            return _READERS[tag](value)
    return {key: _untagged(item) for key, item in raw.items()}
