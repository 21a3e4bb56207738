"""Confluent's master key: it goes from member to member over a call, and is stored nowhere else.

What is stored is which key it is (``documents.MASTER_KEY``): a hash, from which a key of 256
random bits cannot be found.

Invariants:
  * Only members are answered (the daemon lets nobody else call), and only the key that is stored
    as the collective's.
  * A key that is not the one of the collective is never taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import collective
from collective.errors import CollectiveError, RefusedError, UnreachableError

SERVICE = "confluent-master-key"
_ASK_SECONDS = 5.0
_LABEL = b"confluent master key"


def mark_of(cfm: Any) -> str:
    """Return which master key Confluent has here, "" for none; it says nothing about the key.

    Args:
        cfm: ``confluent.config.configmanager``.
    """
    if cfm._masterkey is None:
        return ""
    digest = hashlib.sha256(_LABEL)
    for key in (cfm._masterkey, cfm._masterintegritykey or b""):
        digest.update(hashlib.sha256(key).digest())
    return digest.hexdigest()


def serve(handle: collective.Collective, cfm: Any, wanted: str) -> collective.Service:
    """Answer other members with the key.

    Args:
        handle: on the collective.
        cfm: Confluent's module.
        wanted: which key is the collective's.
    """

    def answer(_call: Any) -> bytes:
        if mark_of(cfm) != wanted:
            raise RefusedError(f"{handle.name} does not have the collective's master key itself")
        return json.dumps(cfm._dump_keys(None, False)).encode("ascii")

    return handle.serve(SERVICE, answer)


def fetch(handle: collective.Collective, cfm: Any, wanted: str, members: Iterable[str]) -> None:
    """Get the key from a member that has it, and give it to Confluent.

    Args:
        handle: on the collective.
        cfm: Confluent's module; its key is kept where it is that one.
        wanted: which key is the collective's.
        members: whom to ask, by name.

    Raises:
        UnreachableError: nobody who was asked gives it; the text says why each did not.
    """
    reasons = []
    for name in members:
        try:
            raw = handle.ask(name, SERVICE, seconds=_ASK_SECONDS)
            keys = json.loads(raw)
        except (CollectiveError, ValueError) as error:
            reasons.append(f"{name}: {error}")
            continue
        former = (cfm._masterkey, cfm._masterintegritykey)
        cfm._masterkey = cfm._parse_key(keys["cryptkey"])
        has_integrity = "integritykey" in keys
        cfm._masterintegritykey = cfm._parse_key(keys["integritykey"]) if has_integrity else None
        if mark_of(cfm) == wanted:
            cfm._restore_keys(keys, None, sync=False)
            return
        cfm._masterkey, cfm._masterintegritykey = former
        reasons.append(f"{name}: it has another key")
    raise UnreachableError(
        "no member gives this server Confluent's master key: "
        + "; ".join(reasons or ["none is there"]),
        "start Confluent on a member that has it",
    )
