"""The form of what coordination stores: JSON objects with a format; a newer one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from collective.errors import ProtocolError

FORMAT = 1

T = TypeVar("T")


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
