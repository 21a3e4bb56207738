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
import re
from collections.abc import Iterable
from typing import Any

import collective
from collective.errors import CollectiveError, ProtocolError, RefusedError, UnreachableError
from confluent_collective.documents import MASTER_KEY, read_object

SERVICE = "confluent-master-key"
_ASK_SECONDS = 5.0
_LABEL = b"confluent master key"
_HEXADECIMAL = re.compile(r"[0-9a-f]{32,64}")


def mark_of(cfm: Any) -> str:
    """Return which master key Confluent has here, "" for none; it says nothing about the key.

    Args:
        cfm: ``confluent.config.configmanager``.
    """
    return _mark(cfm._masterkey, cfm._masterintegritykey)


def _mark(master: bytes | None, integrity: bytes | None) -> str:
    if master is None:
        return ""
    digest = hashlib.sha256(_LABEL)
    for key in (master, integrity or b""):
        digest.update(hashlib.sha256(key).digest())
    return digest.hexdigest()


def read_record(value: bytes) -> tuple[str, str]:
    """Return what is stored: which key it is, and the identity of the configuration.

    Raises:
        ProtocolError: it is no such record.
    """
    about = read_object(MASTER_KEY, value)
    found = (about.get("mark"), about.get("identity"))
    if not all(isinstance(each, str) and _HEXADECIMAL.fullmatch(each) for each in found):
        raise ProtocolError(f"{MASTER_KEY} does not say which master key there is")
    return found  # type: ignore[return-value]


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
            keys = json.loads(_answer_of(handle, name))
        except (CollectiveError, ValueError, RecursionError) as error:
            reasons.append(f"{name}: {error}")
            continue
        if _mark_in(cfm, keys) == wanted:
            cfm._restore_keys(keys, None, sync=False)
            return
        reasons.append(f"{name}: it has another key")
    raise UnreachableError(
        "no member gives this server Confluent's master key: "
        + "; ".join(reasons or ["none is there"]),
        "start Confluent on a member that has it",
    )


def _answer_of(handle: collective.Collective, name: str) -> bytes:
    """Return the first message of an answer: ``ask`` would keep all that a hostile one sends."""
    with handle.call(name, SERVICE, seconds=_ASK_SECONDS) as call:
        call.finish()
        return call.receive() or b""


def _mark_in(cfm: Any, keys: Any) -> str:
    """Return which key was answered, "" for none; Confluent's code reads it, and may raise."""
    try:
        integrity = keys.get("integritykey")
        second = None if integrity is None else cfm._parse_key(integrity)
        return _mark(cfm._parse_key(keys["cryptkey"]), second)
    except Exception:
        return ""
