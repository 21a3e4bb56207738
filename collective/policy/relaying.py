"""What a member that does not vote may ask of etcd through a voter, and in which form it is asked.

It is asked in one transaction that requires that the asking member's record is still the one on
which it was let in: so a server that is deleted in between gets nothing and writes nothing.

Safety properties:
  * No membership call and no maintenance passes; what is not listed here does not.
  * Our own records, but for invitations, are written by voters alone: so no server can make
    itself a voter and be given the CA's key.

Pure: it asks nobody.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collective.errors import AccessError, EtcdError, ProtocolError
from collective.model.view import INVITATIONS, PREFIX

Body = Mapping[str, Any]

#: Operations on keys: path to the name that it has within a transaction.
GUARDED = {
    "/kv/range": "range",
    "/kv/put": "put",
    "/kv/deleterange": "delete_range",
    "/kv/txn": "txn",
}
#: What touches no key: leases, and what etcd says of itself.
PLAIN = frozenset(
    (
        "/lease/grant",
        "/lease/keepalive",
        "/lease/revoke",
        "/cluster/member/list",
        "/maintenance/status",
    )
)
WATCH = "/watch"

#: What may be asked again when no answer came: it changes nothing, or nothing that matters.
REPEATABLE = frozenset(
    (
        "/kv/range",
        "/lease/grant",
        "/lease/keepalive",
        "/cluster/member/list",
        "/maintenance/status",
        WATCH,
    )
)
_MOST_NESTED = 4


@dataclass(frozen=True)
class Guard:
    """The record that must be unchanged: its key, and the revision of its last change."""

    key: str
    mod_revision: int


def check_relayed(path: str, body: Body) -> None:
    """Refuse what must not pass.

    Args:
        path: below ``/v3``.
        body: the JSON request.

    Raises:
        AccessError: it is not for a member that does not vote.
        ProtocolError: it is not what etcd takes.
    """
    if path not in GUARDED and path not in PLAIN and path != WATCH:
        raise AccessError(f"a member that does not vote may not ask etcd for {path[:60]}")
    if path not in GUARDED:
        return
    for begin, end in _written(GUARDED[path], body, _MOST_NESTED):
        if _touches_records(begin, end):
            raise AccessError("a member that does not vote may write invitations, and no record")


def guarded(path: str, body: Body, guard: Guard) -> dict[str, Any]:
    """Return the transaction that does an operation on keys while a record is unchanged."""
    compare = {
        "key": base64.b64encode(guard.key.encode("ascii")).decode("ascii"),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(guard.mod_revision),
    }
    return {"compare": [compare], "success": [{f"request_{GUARDED[path]}": dict(body)}]}


def unguarded(path: str, answer: Body) -> dict[str, Any] | None:
    """Return the answer to an operation out of that to its transaction.

    Returns:
        None when the record had changed, and nothing was done.

    Raises:
        EtcdError: the answer is none to such a transaction.
    """
    if not answer.get("succeeded", False):
        return None
    try:
        inner = dict(answer["responses"][0][f"response_{GUARDED[path]}"])
    except (KeyError, IndexError, TypeError, ValueError):
        raise EtcdError("etcd: an answer came without what was asked for") from None
    # etcd leaves all but the revision out of an inner header.
    return {**inner, "header": answer.get("header", {})}


def is_serializable(path: str, body: Body) -> bool:
    """Tell whether an operation is content with what one etcd holds, however old."""
    return path == "/kv/range" and bool(body.get("serializable", False))


def _written(kind: str, body: Any, depth: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the ranges of keys that an operation writes; an empty end is one key."""
    if not isinstance(body, Mapping) or depth == 0:
        raise ProtocolError("a request to etcd is broken, or nested too deep")
    if unknown := body.keys() - _FIELDS[kind]:
        raise ProtocolError(f"a request to etcd has an unknown {min(unknown)[:40]!r}")
    if kind in ("put", "delete_range"):
        yield _key(body, "key"), _key(body, "range_end")
    if kind != "txn":
        return
    for branch in ("success", "failure"):
        operations = body.get(branch, ())
        if not isinstance(operations, list | tuple):
            raise ProtocolError("a transaction for etcd is broken")
        for operation in operations:
            yield from _written_by(operation, depth)


def _written_by(operation: Any, depth: int) -> Iterator[tuple[bytes, bytes]]:
    if not isinstance(operation, Mapping) or len(operation) != 1:
        raise ProtocolError("a transaction for etcd is broken")
    for name, body in operation.items():
        kind = _KINDS.get(name)
        if kind is None:
            raise ProtocolError(f"a transaction for etcd has an unknown {name[:40]!r}")
        yield from _written(kind, body, depth - 1)


_KINDS = {f"request_{kind}": kind for kind in GUARDED.values()}
# The gateway knows a second spelling of each name (rangeEnd), which is not let through: what is
# judged here and what etcd reads must be the same.
_FIELDS = {
    "range": {
        *("key", "range_end", "limit", "revision", "sort_order", "sort_target", "serializable"),
        *("keys_only", "count_only", "min_mod_revision", "max_mod_revision"),
        *("min_create_revision", "max_create_revision"),
    },
    "put": {"key", "value", "lease", "prev_kv", "ignore_value", "ignore_lease"},
    "delete_range": {"key", "range_end", "prev_kv"},
    "txn": {"compare", "success", "failure"},
}


def _key(body: Body, name: str) -> bytes:
    try:
        return base64.b64decode(body.get(name, ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ProtocolError("a request to etcd has a key that is no base64") from None


def _touches_records(begin: bytes, end: bytes) -> bool:
    first, records = PREFIX.encode(), PREFIX[:-1].encode() + b"0"  # "0" comes after "/"
    if not end:
        return begin.startswith(first) and not begin.startswith(INVITATIONS.encode())
    # An end of one zero byte means: all keys from the beginning on.
    return begin < records and (end == b"\0" or end > first)
