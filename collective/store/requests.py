"""What a call of the API asks for, as one transaction, and what its outcome means to the caller.

Pure: both faces of the store, for threads and for asyncio, are made from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from collective.errors import ConflictError, InputError
from collective.model.keyspace import STORE
from collective.store.leases import Lease
from collective.store.values import (
    Condition,
    Delete,
    DeletePrefix,
    Outcome,
    Put,
    Transaction,
    absent,
    holds,
    lease_id,
    unchanged,
)


def put(
    key: str,
    value: bytes,
    lease: Lease | int = 0,
    if_revision: int | None = None,
    when: Sequence[Condition] = (),
    space: str = STORE,
) -> Transaction:
    """Return the transaction of ``Store.put``.

    Raises:
        InputError: it is no key, no value, or no lease.
        LeaseExpiredError: the lease has ended.
    """
    operation = Put(key, value, lease_id(key, lease))
    return Transaction(_conditions(key, if_revision, when), (operation,), space=space)


def delete(
    key: str,
    if_revision: int | None = None,
    when: Sequence[Condition] = (),
    space: str = STORE,
) -> Transaction:
    """Return the transaction of ``Store.delete``."""
    return Transaction(_conditions(key, if_revision, when), (Delete(key),), space=space)


def delete_prefix(prefix: str, everything: bool = False, space: str = STORE) -> Transaction:
    """Return the transaction of ``Store.delete_prefix``.

    Raises:
        InputError: it is no prefix, or empty, which is more than anybody means.
    """
    if not prefix and not everything:
        raise InputError(
            "an empty prefix would delete the whole store", "give everything=True if that is meant"
        )
    if prefix and everything:
        raise InputError(f"either {prefix!r} is to be deleted or everything, not both")
    return Transaction(then=(DeletePrefix(prefix),), space=space)


def expecting(key: str, value: bytes | None) -> Condition:
    """Return the condition that a key has a value; None is for no such key."""
    return absent(key) if value is None else holds(key, value)


def require(outcome: Outcome, key: str) -> Outcome:
    """Return an outcome whose conditions held.

    Raises:
        ConflictError: one did not.
    """
    if not outcome.succeeded:
        raise ConflictError(
            f"{key} was not written: what the write was made on has changed, or the lock that it "
            f"was made under is lost (revision {outcome.revision})",
            "read again, and decide again",
        )
    return outcome


def deleted(outcome: Outcome) -> int:
    """Return how many keys a deletion took."""
    count = outcome.results[0]
    assert isinstance(count, int)
    return count


def to_json(key: str, value: Any) -> bytes:
    """Return a value as JSON.

    Raises:
        InputError: it cannot be written so.
    """
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"the value of {key} cannot be written as JSON: {error}") from None


def from_json(key: str, value: bytes | None, default: Any) -> Any:
    """Return what ``to_json`` wrote; the default where there is no value.

    Raises:
        InputError: it is no JSON.
    """
    if value is None:
        return default
    try:
        return json.loads(value)
    except ValueError:
        raise InputError(f"what is stored under {key} is no JSON") from None


def _conditions(
    key: str, if_revision: int | None, when: Sequence[Condition]
) -> tuple[Condition, ...]:
    if if_revision is None:
        return tuple(when)
    return (*when, unchanged(key, if_revision))
