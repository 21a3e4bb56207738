"""What a member that does not vote may ask of etcd through a voter, and in which form it is asked.

It is asked in one transaction that requires that the asking member's record is still the one on
which it was let in: so a server that is deleted in between gets nothing and writes nothing. How
much may be asked for at a time, ``slicing`` and the relay itself say; which commands, ``roles``.

Safety properties:
  * ``CALLS`` lists what passes; what is not listed does not, and of what is listed only the
    fields that are judged here, rewritten in the form in which they were judged.
  * Our own records are written by voters alone, invitations and everything to come under
    ``collective/`` included: only the keys of embedders are written. Nothing outside of
    ``collective/`` is read or written.
  * What the writes of a handle compare (its guard), and what says that a server is there, is
    written from that server alone.
  * A lease is its creator's: its id says whose it is, so nobody else prolongs it, revokes it or
    binds a key to it, at whichever voter.

Pure: it asks nobody.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collective.errors import AccessError, EtcdError, InputError, ProtocolError
from collective.model.keyspace import (
    COORDINATION,
    COORDINATION_ROOT,
    EVERYTHING,
    GUARDS,
    MOST_READS,
    ONLINE,
    STORE,
    online_key,
)
from collective.model.lease_ids import is_of, new_lease_id

Body = Mapping[str, Any]

#: How long a lease lives that is granted for a member that does not vote, in seconds.
LEAST_TTL, MOST_TTL = 1, 86400

WATCH = "/watch"
RANGE = "/kv/range"

_MOST_NESTED = 4
# As key and as end of a range: everything there is (etcd's api documentation, "Key ranges").
_ALL = base64.b64encode(b"\0").decode("ascii")
_READABLE = (EVERYTHING,)
_WRITABLE = (STORE, COORDINATION_ROOT)


@dataclass(frozen=True)
class Guard:
    """The record that must be unchanged: its key, and the revision of its last change."""

    key: str
    mod_revision: int


@dataclass(frozen=True)
class RelayedCall:
    """One of etcd's calls that passes.

    Attributes:
        checked: gets the name of who asks and the body; returns the body that is sent to etcd,
            or raises.
        operation: the name that it has within a transaction; "" for what touches no key.
        repeatable: whether it may be made again when no answer came: it changes nothing, or
            nothing that matters.
    """

    checked: Callable[[str, Body], dict[str, Any]]
    operation: str = ""
    repeatable: bool = False


def relayed(path: str, asker: str, body: Body) -> dict[str, Any]:
    """Return the body to send to etcd for a member that does not vote.

    Args:
        path: below ``/v3``.
        asker: the name of that member.
        body: the JSON request.

    Raises:
        AccessError: it is not for such a member.
        InputError: a time to live is not from 1 s to 1 day.
        ProtocolError: it is not what etcd takes.
    """
    call = CALLS.get(path)
    if call is None:
        raise AccessError(f"a member that does not vote may not ask etcd for {path[:60]}")
    return call.checked(asker, body)


def is_guarded(path: str) -> bool:
    """Tell whether a call touches keys, and is made in a transaction on the asker's record."""
    return bool(CALLS[path].operation)


def is_repeatable(path: str) -> bool:
    """Tell whether a call may be made again when no answer came."""
    call = CALLS.get(path)
    return call is not None and call.repeatable


def guarded(path: str, body: Body, guard: Guard) -> dict[str, Any]:
    """Return the transaction that does an operation on keys while a record is unchanged."""
    compare = {
        "key": base64.b64encode(guard.key.encode("ascii")).decode("ascii"),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(guard.mod_revision),
    }
    operation = {f"request_{CALLS[path].operation}": dict(body)}
    return {"compare": [compare], "success": [operation]}


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
        inner = dict(answer["responses"][0][f"response_{CALLS[path].operation}"])
    except (KeyError, IndexError, TypeError, ValueError):
        raise EtcdError("etcd: an answer came without what was asked for") from None
    # etcd leaves all but the revision out of an inner header.
    return {**inner, "header": answer.get("header", {})}


def is_serializable(path: str, body: Body) -> bool:
    """Tell whether an operation is content with what one etcd holds, however old."""
    return path == RANGE and bool(body.get("serializable", False))


def is_long(path: str, body: Body) -> bool:
    """Tell whether a range has more than one key, whose values are asked for: see ``slicing``."""
    return path == RANGE and bool(body.get("range_end")) and not body.get("count_only", False)


def puts_anything(path: str, body: Body) -> bool:
    """Tell whether a call that passed may write a key; to delete one makes room."""
    if path == "/kv/put":
        return True
    return any(
        kind == "request_put" or (kind == "request_txn" and puts_anything(path, inner))
        for operation in _operations(body)
        for kind, inner in operation.items()
    )


def reads_of(body: Any) -> int:
    """Return how many keys, and ranges to remove, a transaction may look for, in all branches.

    etcd looks through the whole of a range before it does anything else, at each voter.
    """
    count = 0
    for operation in _operations(body):
        for kind, inner in operation.items():
            count += kind == "request_range" or bool(inner.get("range_end"))
            count += reads_of(inner) if kind == "request_txn" else 0
    return count


def operations_of(body: Any) -> int:
    """Return how many operations a transaction that passed has, in all its branches."""
    count = 0
    for operation in _operations(body):
        for kind, inner in operation.items():
            count += operations_of(inner) if kind == "request_txn" else 1
    return count


# What a watch tells ------------------------------------------------------------------------------

# Names in quotes are no part of base64, so they are counted right without reading the line.
_KEYS = re.compile(rb'"key": ?"')
_OURS = re.compile(rb'"key": ?"Y29sbGVjdGl2ZS[89+/]')  # EVERYTHING, in base64


def veiled(line: bytes) -> bytes:
    """Return a line of a watch without the keys and values that are not below ``collective/``.

    Of those it tells the revision alone: who waits for a revision is to see it come, whoever
    wrote it.
    """
    if len(_KEYS.findall(line)) == len(_OURS.findall(line)):
        return line
    try:
        message = json.loads(line)
        for event in message.get("result", {}).get("events", ()):
            if not base64.b64decode(event["kv"]["key"]).startswith(EVERYTHING.encode()):
                event["kv"] = {"key": "", "mod_revision": event["kv"]["mod_revision"]}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EtcdError("etcd: a line of a watch is broken") from error
    return json.dumps(message, separators=(",", ":")).encode()


# What is checked of each call --------------------------------------------------------------------


def _range(_asker: str, body: Body) -> dict[str, Any]:
    sent = _fields(body, _RANGE_FIELDS)
    _check_within(sent, _READABLE, "reads what is below collective/, and nothing else")
    return sent


def _put(asker: str, body: Body) -> dict[str, Any]:
    sent = _fields(body, {"key": _key, "value": _text, "lease": _number})
    _check_within(sent, _WRITABLE, _WRITES)
    _check_own(asker, sent)
    if int(sent.get("lease", 0)):
        _own_lease(asker, sent["lease"])
    elif base64.b64decode(sent.get("key", "")) == (COORDINATION + online_key(asker)).encode():
        raise AccessError(f"{asker} says that it is there under a lease, or not at all")
    return sent


def _delete(asker: str, body: Body) -> dict[str, Any]:
    sent = _fields(body, {"key": _key, "range_end": _key})
    _check_within(sent, _WRITABLE, _WRITES)
    _check_own(asker, sent)
    return sent


def _txn(asker: str, body: Body) -> dict[str, Any]:
    sent = _nested(asker, body, _MOST_NESTED)
    if reads_of(sent) > MOST_READS:
        raise InputError(
            f"a transaction of a server that does not vote reads keys and removes ranges "
            f"{reads_of(sent)} times, at most {MOST_READS} go in one",
            "divide it",
        )
    return sent


def _nested(asker: str, body: Any, depth: int) -> dict[str, Any]:
    if depth == 0:
        raise ProtocolError("a transaction for etcd is nested too deep")
    sent = _fields(body, {"compare": _list, "success": _list, "failure": _list})
    if "compare" in sent:
        sent["compare"] = [_compare(each) for each in sent["compare"]]
    for branch in ("success", "failure"):
        if branch in sent:
            sent[branch] = [_step(asker, each, depth) for each in sent[branch]]
    return sent


def _step(asker: str, operation: Any, depth: int) -> dict[str, Any]:
    if not isinstance(operation, Mapping) or len(operation) != 1:
        raise ProtocolError("a transaction for etcd is broken")
    ((name, body),) = operation.items()
    if name == "request_txn":
        return {name: _nested(asker, body, depth - 1)}
    check = _STEPS.get(name)
    if check is None:
        raise ProtocolError(f"a transaction for etcd has an unknown {name[:40]!r}")
    sent = check(asker, body)
    if name == "request_range" and is_long(RANGE, sent):
        raise AccessError("a member that does not vote reads single keys in a transaction")
    return {name: sent}


def _compare(raw: Any) -> dict[str, Any]:
    sent = _fields(raw, _COMPARE_FIELDS)
    _check_within(sent, _READABLE, "compares what is below collective/, and nothing else")
    return sent


def _watch(_asker: str, body: Body) -> dict[str, Any]:
    sent = _fields(body, {"create_request": _as_it_is})
    wanted = _fields(sent.get("create_request"), _WATCH_FIELDS)
    # All revisions are told, see ``veiled``, so that a cache knows how new it is.
    if (wanted.get("key"), wanted.get("range_end")) != (_ALL, _ALL):
        _check_within(wanted, _READABLE, "watches what is below collective/, or all revisions")
    # Else one line has whatever a thousand revisions have written.
    return {"create_request": {**wanted, "fragment": True}}


def _grant(asker: str, body: Body) -> dict[str, Any]:
    sent = _fields(body, {"TTL": _number, "ID": _number})
    seconds = int(sent.get("TTL", 0))
    if not LEAST_TTL <= seconds <= MOST_TTL:
        raise InputError(
            f"a lease of {seconds} s for {asker}, which does not vote: it may live from "
            f"{LEAST_TTL} s to {MOST_TTL} s, a day",
            "a lease is prolonged as long as its holder lives",
        )
    if int(sent.get("ID", 0)):
        return {"TTL": sent["TTL"], **_own_lease(asker, sent["ID"])}
    return {"TTL": sent["TTL"], "ID": str(new_lease_id(asker))}


def _lease(asker: str, body: Body) -> dict[str, Any]:
    return _own_lease(asker, _fields(body, {"ID": _number}).get("ID", "0"))


def _time_left(_asker: str, body: Body) -> dict[str, Any]:
    """Let it read how long any lease has, an invitation's above all, and not which keys it has."""
    return _fields(body, {"ID": _number})


def _own_lease(asker: str, number: str) -> dict[str, Any]:
    if not is_of(asker, int(number)):
        raise AccessError(f"the lease {number} is none of {asker}'s")
    return {"ID": number}


def _nothing(_asker: str, body: Body) -> dict[str, Any]:
    return _fields(body, {})


_WRITES = "writes what is below collective/store/ and collective/coordination/, and no record"


def _check_within(body: Body, spaces: tuple[str, ...], what: str) -> None:
    """Refuse a range of keys that is in none of some spaces, whole."""
    begin = base64.b64decode(body.get("key", ""))
    end = base64.b64decode(body.get("range_end", ""))
    for space in spaces:
        last = space[:-1].encode() + b"0"  # which comes after "/"
        # No end is one key; an end of one zero byte, all there are from the beginning on.
        if begin.startswith(space.encode()) and (not end or b"\0" < end <= last):
            return
    raise AccessError(f"a member that does not vote {what}")


def _check_own(asker: str, body: Body) -> None:
    """Refuse to touch what another member's writes compare: it would forge what became of them.

    And what says that another one is there.
    """
    begin = base64.b64decode(body.get("key", ""))
    end = base64.b64decode(body.get("range_end", "")) or begin + b"\0"
    presence = COORDINATION + online_key(asker)
    for space, own, what in (
        (GUARDS, _Keys.below(f"{GUARDS}{asker}/"), "guard"),
        (COORDINATION + ONLINE, _Keys.only(presence), "presence"),
    ):
        if _Keys.below(space).meets(begin, end) and not own.has(begin, end):
            raise AccessError(f"{asker}, which does not vote, writes no {what} but its own")


@dataclass(frozen=True)
class _Keys:
    """Keys from one on to one that is not among them."""

    begin: bytes
    end: bytes

    @classmethod
    def below(cls, folder: str) -> _Keys:
        """Return all below what ends in a slash."""
        return cls(folder.encode(), folder[:-1].encode() + b"0")

    @classmethod
    def only(cls, key: str) -> _Keys:
        """Return one key."""
        return cls(key.encode(), key.encode() + b"\0")

    def meets(self, begin: bytes, end: bytes) -> bool:
        """Tell whether a range has any of them."""
        return begin < self.end and end > self.begin

    def has(self, begin: bytes, end: bytes) -> bool:
        """Tell whether they have all of a range."""
        return self.begin <= begin and end <= self.end


# The forms of fields -----------------------------------------------------------------------------

_Form = Callable[[Any, str], Any]


def _fields(body: Any, forms: Mapping[str, _Form]) -> dict[str, Any]:
    """Return an object with its fields in the form in which they are judged.

    The gateway knows a second spelling of each name (rangeEnd), which is not let through: what is
    judged here and what etcd reads must be the same.

    Raises:
        ProtocolError: it is none, or has other fields.
    """
    if not isinstance(body, Mapping):
        raise ProtocolError("a request to etcd is broken")
    if unknown := body.keys() - forms.keys():
        raise ProtocolError(f"a request to etcd has an unknown {min(unknown)[:40]!r}")
    return {name: forms[name](value, name) for name, value in body.items()}


def _key(value: Any, name: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ProtocolError(f"a request to etcd has a {name} that is no base64") from None
    return base64.b64encode(raw).decode("ascii")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ProtocolError(f"a request to etcd has a {name} that is no text")
    return value


def _number(value: Any, name: str) -> str:
    text = str(value) if type(value) is int else value
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 19):
        raise ProtocolError(f"a request to etcd has a {name} that is no number")
    return str(int(text))


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError(f"a request to etcd has a {name} that is neither true nor false")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ProtocolError(f"a request to etcd has a {name} that is no list")
    return list(value)


def _in_order(value: Any, name: str) -> Any:
    # etcd3gw always says so. In another order a range could not be read slice by slice.
    if value not in (0, "NONE", "KEY"):
        raise ProtocolError(f"a member that does not vote reads keys in their order, not {name}")
    return value


def _as_it_is(value: Any, _name: str) -> Any:
    return value


def _operations(body: Body) -> Iterator[Mapping[str, Any]]:
    for branch in ("success", "failure"):
        yield from body.get(branch, ())


_RANGE_FIELDS: Mapping[str, _Form] = {
    "key": _key,
    "range_end": _key,
    "limit": _number,
    "revision": _number,
    "sort_order": _in_order,
    "sort_target": _in_order,
    "serializable": _flag,
    "keys_only": _flag,
    "count_only": _flag,
}
_COMPARE_FIELDS: Mapping[str, _Form] = {
    "key": _key,
    "target": _as_it_is,
    "result": _as_it_is,
    "version": _number,
    "create_revision": _number,
    "mod_revision": _number,
    "lease": _number,
    "value": _text,
}
_WATCH_FIELDS: Mapping[str, _Form] = {
    "key": _key,
    "range_end": _key,
    "start_revision": _number,
    "progress_notify": _flag,
    "fragment": _flag,
}
_STEPS: Mapping[str, Callable[[str, Body], dict[str, Any]]] = {
    "request_range": _range,
    "request_put": _put,
    "request_delete_range": _delete,
}

#: All that passes.
CALLS: Mapping[str, RelayedCall] = {
    RANGE: RelayedCall(_range, "range", repeatable=True),
    "/kv/put": RelayedCall(_put, "put"),
    "/kv/deleterange": RelayedCall(_delete, "delete_range"),
    "/kv/txn": RelayedCall(_txn, "txn"),
    WATCH: RelayedCall(_watch, repeatable=True),
    "/lease/grant": RelayedCall(_grant, repeatable=True),
    "/lease/keepalive": RelayedCall(_lease, repeatable=True),
    "/lease/revoke": RelayedCall(_lease),
    "/lease/timetolive": RelayedCall(_time_left, repeatable=True),
    "/cluster/member/list": RelayedCall(_nothing, repeatable=True),
    "/maintenance/status": RelayedCall(_nothing, repeatable=True),
}
