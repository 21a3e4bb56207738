"""What a transaction is made of, in the JSON of etcd's gateway (its api documentation, "Txn").

Pure; the only encoder of keys, conditions and operations, for records and for embedders' keys.
"""

from __future__ import annotations

from binascii import b2a_base64
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]

_FIELD = {"MOD": "mod_revision", "CREATE": "create_revision", "VALUE": "value"}


@dataclass(frozen=True)
class PutRequest:
    """A key to write; ``lease`` 0 binds it to none."""

    key: str
    value: str
    lease: int = 0


def encode(text: str | bytes) -> str:
    """Return base64, as the gateway wants keys and values."""
    raw = text.encode("ascii") if isinstance(text, str) else text
    return b2a_base64(raw, newline=False).decode("ascii")


def prefix_end(prefix: str) -> str:
    """Return the first key after all those with the (ASCII) prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def comparison(key: str, target: str, wanted: int | bytes, differs: bool = False) -> Body:
    """Return the condition of a transaction that an aspect of a key is, or is not, what is wanted.

    Args:
        key: of the store.
        target: "MOD" or "CREATE", for a revision (0: there is no such key); "VALUE".
        wanted: revision or value.
        differs: whether it must be another one.
    """
    return {
        "key": encode(key),
        "target": target,
        "result": "NOT_EQUAL" if differs else "EQUAL",
        _FIELD[target]: encode(wanted) if isinstance(wanted, bytes) else str(wanted),
    }


def put_request(key: str, value: bytes, lease: int = 0) -> Body:
    """Return the operation that writes a key; lease 0 binds it to none."""
    put = {"key": encode(key), "value": encode(value)}
    return {"request_put": {**put, "lease": str(lease)} if lease else put}


def delete_request(key: str, end: str = "") -> Body:
    """Return the operation that deletes a key, or all keys from it to before an end."""
    bounds = {"key": encode(key)}
    return {"request_delete_range": {**bounds, "range_end": encode(end)} if end else bounds}


def range_request(key: str, end: str = "") -> Body:
    """Return the operation that reads a key, or all keys from it to before an end."""
    bounds = {"key": encode(key)}
    return {"request_range": {**bounds, "range_end": encode(end)} if end else bounds}
