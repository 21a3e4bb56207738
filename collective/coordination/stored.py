"""The form of what coordination stores: keys, and JSON objects with a format that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from collective.errors import InputError, ProtocolError
from collective.model.keyspace import MOST_KEY

FORMAT = 1
_SHOWN = 60

T = TypeVar("T")


def key_of(kind: str, name: str, rest: int) -> str:
    """Return the beginning of the keys of a lock, an election or a group.

    Args:
        kind: such as ``locks``.
        name: as its users call it: any text.
        rest: the longest that comes behind it, in characters.

    Raises:
        InputError: it is no text, or too long for a key.
    """
    if not isinstance(name, str):
        raise InputError(f"the name in {kind} is of type {type(name).__name__}, expected str")
    key, most = f"{kind}/{quote(name, safe='')}/", MOST_KEY - rest
    if len(key) > most:
        raise InputError(
            f"the name {name[:_SHOWN]}... in {kind} takes {len(key)} characters of a key, at most "
            f"{most} are allowed",
            "choose a shorter one; what is no letter or digit takes 3 for each of its bytes",
        )
    return key


def read_record(what: str, value: bytes, make: Callable[[dict[str, Any]], T]) -> T:
    """Return what was stored.

    Args:
        what: it is, for the error.
        value: as it was stored.
        make: makes it out of the JSON object.

    Raises:
        ProtocolError: a newer release wrote it, or none.
    """
    try:
        raw = json.loads(value)
        if raw["format"] != FORMAT:
            raise ProtocolError(
                f"{what} has format {raw['format']}, this release knows {FORMAT}",
                "upgrade this server",
            )
        return make(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"{what} is what no release has written") from error
