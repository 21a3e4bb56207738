"""What is stored of Confluent's configuration: one document a key, and the names of the keys.

Pure: it stores nothing.

Invariants:
  * The same entry has the same bytes on every server.
  * Two names that differ in case only have one key, so only one of them can be there.
  * A document of a newer format is refused, never misread.
  * What any member may have written there is refused unless Confluent's code can live with it.
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
_GLOBALS_ARE: Mapping[str, tuple[type, ...]] = {
    "confluent_uuid": (str,),
    "max_node_index": (int,),
    "free_node_indexes": (list, set, tuple),
}
SHARED_GLOBALS = frozenset(_GLOBALS_ARE)

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
    raw = _read(key, value, _untagged)
    if isinstance(raw.get("name"), str) and "is" in raw:
        return Document(area, raw["name"], raw["is"])
    raise ProtocolError(f"{key} holds no entry of Confluent's configuration")


def check_document(key: str, document: Document) -> None:
    """Refuse what Confluent's code, or another server, would not take for this entry.

    Raises:
        ProtocolError: its name is that of another key, or it has not the form of its area.
    """
    area, name, entry = document
    try:
        is_its_own = key_of(area, name) == key
    except (InputError, ValueError):  # a name that cannot be written as UTF-8
        is_its_own = False
    if not is_its_own:
        raise ProtocolError(f"{key} holds an entry of another name: {name!a:.60}")
    if not _FORMS[area](name, entry):
        raise ProtocolError(f"{key} holds no {area} as Confluent has them")


def object_bytes(**fields: Any) -> bytes:
    """Return what is stored of a record that is none of Confluent's."""
    return _json({"format": FORMAT, **fields})


def read_object(key: str, value: bytes) -> dict[str, Any]:
    """Return a stored JSON object.

    Raises:
        ProtocolError: it is of a newer format, or none.
    """
    return _read(key, value, None)


def _read(key: str, value: bytes, hook: Callable[[dict[str, Any]], Any] | None) -> dict[str, Any]:
    try:
        raw = json.loads(value, object_hook=hook)
        found = raw["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ProtocolError(f"{key} holds no record of this adapter") from None
    if found != FORMAT:
        raise ProtocolError(
            f"{key} has format {found!r:.20}, this release knows {FORMAT}",
            "update the adapter on this server",
        )
    return dict(raw)


def _is_node(_name: str, entry: Any) -> bool:
    return _is_attributes(entry, "groups") and _are_texts(entry.get("groups", []))


def _is_group(_name: str, entry: Any) -> bool:
    return _is_attributes(entry)


def _is_account(_name: str, entry: Any) -> bool:
    return _is_named(entry) and isinstance(entry.get("id"), (str, int, type(None)))


def _is_shared_global(name: str, entry: Any) -> bool:
    return name in SHARED_GLOBALS and isinstance(entry, _GLOBALS_ARE[name])


def _is_attributes(entry: Any, *others: str) -> bool:
    """Tell whether all but some of it are attributes: a value, a secret or an expression each."""
    return _is_named(entry) and all(
        _is_named(value) and isinstance(value.get("expression", ""), str)
        for name, value in entry.items()
        if name not in others
    )


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(name, str) for name in entry)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_FORMS: Mapping[str, Callable[[str, Any], bool]] = {
    NODES: _is_node,
    NODEGROUPS: _is_group,
    USERS: _is_account,
    USERGROUPS: _is_account,
    GLOBALS: _is_shared_global,
}


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
    "$bytes": b64decode,
    "$tuple": tuple,
    "$set": set,
    "$dict": dict,
}


def _untagged(raw: dict[str, Any]) -> Any:
    """Return what an object stands for; what is in it was read before."""
    if len(raw) == 1:
        ((tag, value),) = raw.items()
        if tag in _READERS:
            return _READERS[tag](value)
    return raw
