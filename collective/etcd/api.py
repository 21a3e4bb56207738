"""The calls that this project makes to etcd, over whatever carries them.

``collective.etcd.gateway`` carries them to the etcd here, ``daemon.nonvoting.remote_etcd`` to
another server's.

Nothing is retried here: a membership call that failed may have happened, so the caller reads the
state again (kubeadm issue 3317).

Invariants:
  * Every call has a deadline, see ``collective.etcd.deadline``.
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd.requests import (
    PutRequest,
    comparison,
    delete_request,
    encode,
    prefix_end,
    put_request,
    range_request,
)
from collective.model.keyspace import EVERYTHING
from collective.model.lease_ids import COLLECTIVE, new_lease_id

STATUS, RANGE = "/maintenance/status", "/kv/range"
# As key and as end of a range: everything there is (etcd's api documentation, "Key ranges").
_ALL = "\0"
_COMPACTED = "has been compacted"
_LEASE_TAKEN = "lease already exists"
_LEASE_TRIES = 3
# No key was ever changed at it.
_NO_REVISION = (1 << 63) - 1


def hex_id(member_id: int) -> str:
    """Return an etcd id as it is written everywhere, "" for none."""
    return f"{member_id:016x}" if member_id else ""


@dataclass(frozen=True)
class EtcdMember:
    """A member as etcd lists it; ``name`` is empty until it has started."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    learner: bool


@dataclass(frozen=True)
class Status:
    """What one etcd says of itself; this proves no quorum.

    Attributes:
        member_id, leader: ids, leader is 0 when it knows none.
        term, index, applied: raft numbers.
        revision: of its key space.
        db_size: bytes.
    """

    member_id: int
    leader: int
    term: int
    index: int
    applied: int
    revision: int
    version: str
    db_size: int
    learner: bool
    errors: tuple[str, ...]


@dataclass(frozen=True)
class KeyValue:
    """One key; ``lease`` is 0 where there is none."""

    key: str
    value: bytes
    mod_revision: int
    lease: int


@dataclass(frozen=True)
class Page:
    """A part of a range.

    Attributes:
        cluster: the id of etcd's cluster.
        revision: at which it was read.
        kvs: the keys, in the gateway's JSON.
        more: whether there are more keys behind them.
    """

    cluster: int
    revision: int
    kvs: Sequence[Mapping[str, Any]]
    more: bool


class Lines(Protocol):
    """A stream of lines; iterating raises EtcdUnavailableError when it breaks off."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None:
        """End it, also while another thread waits for a line."""


class EtcdApi(ABC):
    """The calls that this project makes to etcd, over whatever carries them."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @abstractmethod
    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call.

        Args:
            path: below ``/v3``.
            body: the JSON request.

        Raises:
            EtcdUnavailableError: no answer, or not before the deadline; the call may have
                happened.
            EtcdError: etcd answered with an error.
        """

    @abstractmethod
    def lines(self, path: str, body: Mapping[str, Any], seconds: float) -> Lines:
        """Make a call whose answer is a line for each message, until one side ends it.

        Args:
            path: below ``/v3``.
            body: the JSON request.
            seconds: silence for so long breaks it off.

        Raises:
            EtcdUnavailableError: no answer.
        """

    def status(self) -> Status:
        """Return what this etcd says of itself."""
        raw = self.call(STATUS, {})
        return Status(
            member_id=_number(raw, "header", "member_id"),
            leader=int(raw.get("leader", 0)),
            term=int(raw.get("raftTerm", 0)),
            index=int(raw.get("raftIndex", 0)),
            applied=int(raw.get("raftAppliedIndex", 0)),
            revision=int(raw["header"].get("revision", 0)),
            version=str(raw.get("version", "")),
            db_size=int(raw.get("dbSize", 0)),
            learner=bool(raw.get("isLearner", False)),
            errors=tuple(str(e) for e in raw.get("errors", ())),
        )

    def members(self) -> list[EtcdMember]:
        """Return the member list: local on etcd 3.4, linearizable from 3.5."""
        return _members(self.call("/cluster/member/list", {}))

    def add_learner(self, url: str) -> tuple[int, list[EtcdMember]]:
        """Add a learner; return its id and the list that etcd answered with."""
        raw = self.call("/cluster/member/add", {"peerURLs": [url], "isLearner": True})
        return _number(raw, "member", "ID"), _members(raw)

    def promote(self, member_id: int) -> None:
        """Make a learner a voter; etcd refuses while it has not caught up."""
        self.call("/cluster/member/promote", {"ID": str(member_id)})

    def remove(self, member_id: int) -> None:
        """Remove a member."""
        self.call("/cluster/member/remove", {"ID": str(member_id)})

    def update_member(self, member_id: int, url: str) -> None:
        """Give a voter another URL; never a learner, which it would make a voter."""
        self.call("/cluster/member/update", {"ID": str(member_id), "peerURLs": [url]})

    def move_leader(self, member_id: int) -> None:
        """Hand leadership to another voter; only the leader can."""
        self.call("/maintenance/transfer-leadership", {"targetID": str(member_id)})

    def range(self, prefix: str, serializable: bool = False) -> tuple[int, list[KeyValue]]:
        """Read all keys with a prefix; return the revision and the keys.

        A linearizable range (the default) is the proof of a quorum.
        """
        body: dict[str, Any] = {"key": encode(prefix), "range_end": encode(prefix_end(prefix))}
        if serializable:
            body["serializable"] = True
        raw = self.call(RANGE, body)
        revision, found = _number(raw, "header", "revision"), list(raw.get("kvs", ()))
        # A voter gives to one without a vote no more at a time than it has room for.
        while raw.get("more") and raw.get("kvs"):
            after = base64.b64decode(found[-1]["key"]) + b"\0"
            raw = self.call(RANGE, {**body, "key": encode(after), "revision": str(revision)})
            found += raw.get("kvs", ())
        return revision, [key_value(kv) for kv in found]

    def commit_and_range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        """Read all keys with a prefix at a commit that is made for it and changes nothing.

        A transaction that might delete a key goes through the log, whichever branch is taken
        (etcd's server/etcdserver/v3_server.go, Txn and isTxnReadonly): so there is an entry
        that every member must follow, but neither key, revision nor event.

        Raises:
            EtcdError: as ``call``; a full database of etcd 3.4 takes none.
        """
        end = prefix_end(prefix)
        never = comparison(prefix, "MOD", _NO_REVISION)
        raw = self.call(
            "/kv/txn",
            {
                "compare": [never],
                "success": [delete_request(prefix)],
                "failure": [range_request(prefix, end)],
            },
        )
        try:
            found = raw["responses"][0]["response_range"].get("kvs", ())
        except (KeyError, IndexError, TypeError, AttributeError):
            raise EtcdError("etcd: an answer came without what was asked for") from None
        return _number(raw, "header", "revision"), [key_value(kv) for kv in found]

    def page(self, begin: str | bytes, end: str, limit: int, revision: int = 0) -> Page:
        """Read some keys of a range, in their order, from what the etcd here holds.

        Args:
            begin, end: the range, without its end.
            limit: of how many keys at most.
            revision: to read at; 0 for the newest that is here.

        Raises:
            EtcdError: the revision has been compacted.
        """
        body = {
            "key": encode(begin),
            "range_end": encode(end),
            "limit": str(limit),
            "serializable": True,
        }
        raw = self.call(RANGE, {**body, "revision": str(revision)} if revision else body)
        return Page(
            _number(raw, "header", "cluster_id"),
            revision or _number(raw, "header", "revision"),
            raw.get("kvs", ()),
            bool(raw.get("more", False)),
        )

    def newest(self) -> tuple[int, int]:
        """Return the cluster's id and its newest revision, linearizably: that proves a quorum."""
        raw = self.call(RANGE, {"key": encode(EVERYTHING), "count_only": True})
        return _number(raw, "header", "cluster_id"), _number(raw, "header", "revision")

    def transact(
        self, unchanged: Mapping[str, int], puts: Sequence[PutRequest], deletes: Sequence[str] = ()
    ) -> tuple[bool, int]:
        """Write all or nothing.

        Args:
            unchanged: key to the mod revision that it must still have, 0 for absent.
            puts: what to write.
            deletes: keys to delete.

        Returns:
            Whether it was written, and the revision.
        """
        compare = [comparison(key, "MOD", revision) for key, revision in unchanged.items()]
        success = [put_request(put.key, put.value.encode(), put.lease) for put in puts]
        success += [delete_request(key) for key in deletes]
        raw = self.call("/kv/txn", {"compare": compare, "success": success})
        return bool(raw.get("succeeded", False)), _number(raw, "header", "revision")

    def grant_lease(self, seconds: int, owner: str = COLLECTIVE) -> int:
        """Return the id of a new lease.

        Args:
            seconds: its time to live.
            owner: the server whose lease it is, see ``collective.model.lease_ids``.
        """
        for left in reversed(range(_LEASE_TRIES)):
            body = {"TTL": str(seconds), "ID": str(new_lease_id(owner))}
            try:
                return _number(self.call("/lease/grant", body), "ID")
            except EtcdError as error:
                # By chance, or granted by a call that was made again since no answer came.
                if _LEASE_TAKEN not in error.message or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def prolong_lease(self, lease: int) -> bool:
        """Give a lease its whole time again; False when it has ended."""
        raw = self.call("/lease/keepalive", {"ID": str(lease)})
        if "result" not in raw:
            raise EtcdError(
                f"etcd: the lease was not prolonged: {str(raw.get('error', raw))[:200]}"
            )
        return int(raw["result"].get("TTL", 0)) > 0

    def lease_left(self, lease: int) -> int:
        """Return how many seconds a lease has left, below 0 for one that has ended."""
        return int(self.call("/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))

    def watch(
        self,
        prefix: str,
        revision: int,
        read_seconds: float,
        opened: Callable[[Lines], None] = lambda stream: None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the raw results of one watch stream until it ends.

        The session's own watch in etcd3gw hangs on compaction and loses events that share a
        chunk, so the stream is read here, line by line.

        Args:
            prefix: of the keys; "" for all keys.
            revision: the first revision of interest.
            read_seconds: silence for so long ends the stream.
            opened: gets the stream when it is open, to end it from another thread.

        Raises:
            EtcdUnavailableError: the stream broke or fell silent; start again from the last
                revision seen.
            EtcdError: etcd refused or cancelled the watch, for example after a compaction.
        """
        body = {
            "create_request": {
                "key": encode(prefix or _ALL),
                "range_end": encode(prefix_end(prefix) if prefix else _ALL),
                "start_revision": str(revision),
            }
        }
        stream = self.lines("/watch", body, read_seconds)
        opened(stream)
        try:
            yield from _joined(_watch_result(line) for line in stream if line)
        finally:
            stream.close()


def key_value(raw: Mapping[str, Any]) -> KeyValue:
    """Read one key of the gateway's JSON, which leaves zero and empty out."""
    return KeyValue(
        base64.b64decode(raw["key"]).decode("ascii"),
        base64.b64decode(raw.get("value", "")),
        int(raw.get("mod_revision", 0)),
        int(raw.get("lease", 0)),
    )


def _number(raw: Mapping[str, Any], *keys: str) -> int:
    """Return a number that an answer must have.

    Raises:
        EtcdError: it is not there: something else than etcd answered.
    """
    value: Any = raw
    try:
        for key in keys:
            value = value[key]
        return int(value)
    except (KeyError, TypeError, ValueError):
        raise EtcdError(f"etcd: an answer came without {'.'.join(keys)}") from None


def _members(raw: Mapping[str, Any]) -> list[EtcdMember]:
    return [
        EtcdMember(
            int(m["ID"]),
            str(m.get("name", "")),
            tuple(m.get("peerURLs", ())),
            bool(m.get("isLearner", False)),
        )
        for m in raw.get("members", ())
    ]


def _joined(results: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what a watch tells, with all events of one revision in one result.

    etcd divides a result that is large where it was asked to (``fragment``), also in the middle
    of a revision.
    """
    held: list[dict[str, Any]] = []
    for result in results:
        events = [*held, *result.get("events", ())]
        held = []
        if result.get("fragment") and events:
            last = events[-1]["kv"]["mod_revision"]
            held = [event for event in events if event["kv"]["mod_revision"] == last]
            events = events[: -len(held)]
        yield {**result, "events": events} if events or "events" in result else result


def _watch_result(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise EtcdUnavailableError("the watch broke off in the middle of a line") from error
    if "error" in message:
        # etcd, or the voter that is asked for it, ends, or knows no leader: what is missed can be
        # told by the next watch. Only what is compacted cannot.
        failed = EtcdError if _COMPACTED in str(message["error"]) else EtcdUnavailableError
        raise failed(f"the watch broke off: {message['error']}")
    result: dict[str, Any] = message.get("result", {})
    if int(result.get("compact_revision", 0)):
        raise EtcdError(f"the watch was cancelled: {result.get('cancel_reason', 'compacted')}")
    if result.get("canceled"):
        raise EtcdUnavailableError(f"the watch was cancelled: {result.get('cancel_reason', '')}")
    return result
