"""An etcd in memory that can misbehave: keys, transactions, leases and watches, as the gateway
tells them.

It knows no members and no raft. It does the production interface, ``EtcdApi``, so that what is
tried on it in microseconds can be tried on a real one with the same lines; that it behaves like
one is what ``tests/contract`` is for.

Invariants:
  * A request is done whole or not at all, at one revision.
  * What goes wrong is what a test planned with ``plan``: nothing by chance.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from collective.calls.call_manager import CallManager
from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError
from collective.etcd.api import RANGE, STATUS, EtcdApi, Lines
from collective.etcd.deadline import seconds_allowed
from collective.etcd.refusals import refusal
from collective.model.layout import Layout

_MOST_OPERATIONS = 16_384
# What needs a leader; reads here are told from memory, but for those that are linearizable.
_LED = ("/kv/txn", "/lease/grant", "/lease/keepalive", "/lease/revoke")


def nowhere() -> CallManager:
    """Return what a handle has for calls, on a machine without a daemon."""
    return CallManager(Layout("/dev/null/etc", "/dev/null/var", "/dev/null/run"))


class Trouble(Enum):
    """What may become of the next request."""

    NOT_REACHED = "nobody is there: nothing is sent"
    DROPPED = "raft takes no proposal, since nobody leads"
    CROWDED = "it has too much to do, and takes nothing more"
    LOST = "it is lost on the way: nothing happens, and no answer comes"
    UNHEARD = "it is done, and the answer is lost"
    LATE = "no answer comes, and it is done when ``deliver`` says so"


@dataclass(frozen=True)
class Stored:
    """A key's value, and its numbers."""

    value: str
    created: int
    changed: int
    version: int
    lease: int

    def to_wire(self, key: bytes) -> dict[str, Any]:
        """Return the gateway's JSON, which leaves zero and empty out."""
        raw = {
            "key": base64.b64encode(key).decode(),
            "create_revision": str(self.created),
            "mod_revision": str(self.changed),
            "version": str(self.version),
            "value": self.value,
            "lease": str(self.lease),
        }
        return {k: v for k, v in raw.items() if v not in ("", "0")}


@dataclass
class _State:
    """Everything at one revision; a request works on a copy and keeps it if it is done."""

    revision: int = 1
    keys: dict[bytes, Stored] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


class FakeEtcd(EtcdApi):
    """The fake.

    Attributes:
        requests: path of each call that came, in order.
        alive: whether anybody is there.
        deaf: whether watches are refused.
        leads: whether anybody leads: without, a request waits.
        most_keys: a page of more keys is lost on the way.
    """

    def __init__(self, cluster: int = 7) -> None:
        self.requests: list[str] = []
        self.alive = True
        self.deaf = False
        self.leads = True
        self.most_keys = 1 << 30
        self._cluster = cluster
        self._changed = threading.Condition()
        self._state = _State()
        self._history: list[tuple[int, list[dict[str, Any]]]] = []
        self._past: dict[int, _State] = {}
        self._late: list[Mapping[str, Any]] = []
        self._compacted = 0
        self._leases: dict[int, int] = {}
        self._numbered = 0
        self._planned: deque[Trouble] = deque()
        self._streams: set[_Stream] = set()
        self._confidant = 0
        self._held = threading.Event()
        self._held.set()
        self._stopped = False

    # What a test does ------------------------------------------------------------------------

    def plan(self, *troubles: Trouble) -> None:
        """Have the next writes meet trouble, one each."""
        self._planned.extend(troubles)

    def calm(self) -> None:
        """Forget the troubles that were planned."""
        self._planned.clear()

    @property
    def late(self) -> int:
        """How many requests are on their way still."""
        return len(self._late)

    def deliver(self, index: int = 0) -> bool:
        """Do one of those that come late; return whether it wrote anything."""
        body = self._late.pop(index)
        with self._changed:
            before = self._state.revision
            self._txn(body)
            return self._state.revision != before

    def leases(self, most_seconds: int) -> list[int]:
        """Return the leases that live no longer than so: those of guards do."""
        return [lease for lease, seconds in self._leases.items() if seconds <= most_seconds]

    def hold(self) -> None:
        """Have calls wait until ``release``, as where the disk is frozen: status is told still."""
        self._held.clear()

    def stop(self) -> None:
        """Have all calls wait until ``release``, as where the process is stopped."""
        self._stopped = True
        self._held.clear()

    def release(self) -> None:
        """Let calls go on."""
        self._stopped = False
        self._held.set()

    def break_streams(self, last_words: str = "") -> None:
        """Break all watches off, with an error that is told in the stream, or without."""
        with self._changed:
            for stream in self._streams:
                stream.broken, stream.last_words = True, last_words
            self._changed.notify_all()

    def compact(self) -> None:
        """Forget all changes up to now."""
        with self._changed:
            self._compacted = self._state.revision
            self._past.clear()

    @contextmanager
    def in_secret(self) -> Iterator[None]:
        """Answer calls of this thread, though nobody seems to be there."""
        self._confidant = threading.get_ident()
        try:
            yield
        finally:
            self._confidant = 0

    def become_another_cluster(self, keys: Mapping[bytes, bytes]) -> None:
        """Hold what another collective stores, with revisions of its own."""
        with self._changed:
            self._cluster += 1
            self._history.clear()
            self._state = _State(2)
            for key, value in keys.items():
                text = base64.b64encode(value).decode()
                self._state.keys[key] = Stored(text, 2, 2, 1, 0)
        self.break_streams()

    def expire(self, lease: int) -> None:
        """End a lease, and its keys."""
        with self._changed:
            self._leases.pop(lease, None)
            bound = [key for key, stored in self._state.keys.items() if stored.lease == lease]
            if bound:
                state = self._copy()
                for key in bound:
                    self._delete(state, key)
                self._keep(state)

    # What the interface asks -----------------------------------------------------------------

    def close(self) -> None:
        """End all watches."""
        self.break_streams()

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call, see ``EtcdApi``."""
        told = path == STATUS and not self._stopped
        if not told and not self._held.wait(seconds_allowed()):
            raise EtcdUnavailableError("etcd did not answer in time")
        linearizable = path == RANGE and not body.get("serializable")
        if not self.leads and (path in _LED or linearizable):
            threading.Event().wait(seconds_allowed())
            raise EtcdUnavailableError("etcd did not answer in time")
        self.requests.append(path)
        if not self.alive and threading.get_ident() != self._confidant:
            raise NotReachedError("etcd does not run here")
        trouble = self._planned.popleft() if path == "/kv/txn" and self._planned else None
        if trouble is Trouble.NOT_REACHED:
            raise NotReachedError("etcd does not run here")
        if trouble is Trouble.DROPPED:
            raise EtcdUnavailableError("etcd: raft proposal dropped")
        if trouble is Trouble.CROWDED:
            raise refusal(429, "etcdserver: too many requests")
        if trouble is Trouble.LATE:
            self._late.append(json.loads(json.dumps(body)))
        if trouble in (Trouble.LOST, Trouble.LATE):
            raise EtcdUnavailableError("etcd did not answer in time")
        with self._changed:
            answer = _CALLS[path](self, body)
            header = {
                "cluster_id": str(self._cluster),
                "member_id": "1",
                "revision": str(self._state.revision),
            }
        if trouble is Trouble.UNHEARD:
            raise EtcdUnavailableError("etcd did not answer in time")
        # As over a wire: nobody shares what is inside.
        copy: dict[str, Any] = json.loads(json.dumps({"header": header, **answer}))
        return copy

    def lines(self, path: str, body: Mapping[str, Any], seconds: float) -> Lines:
        """Open a watch, see ``EtcdApi``."""
        if not self.alive or self.deaf:
            raise NotReachedError("etcd does not run here")
        with self._changed:
            stream = _Stream(self, body["create_request"])
            self._streams.add(stream)
        return stream

    def _range(self, body: Mapping[str, Any]) -> dict[str, Any]:
        revision = int(body.get("revision", 0))
        if revision in (0, self._state.revision):
            return self._found(self._state, body)
        if revision not in self._past:
            raise EtcdError("etcd: mvcc: required revision has been compacted")
        return self._found(self._past[revision], body)

    def _found(self, state: _State, body: Mapping[str, Any]) -> dict[str, Any]:
        begin, end = _bounds(body)
        keys = sorted(key for key in state.keys if _within(key, begin, end))
        if body.get("count_only"):
            return {"count": str(len(keys))}
        limit = int(body.get("limit", 0)) or len(keys)
        if min(limit, len(keys)) > self.most_keys:
            raise EtcdUnavailableError("the answer is too long")
        kvs = [state.keys[key].to_wire(key) for key in keys[:limit]]
        return {"kvs": kvs, "more": len(keys) > limit, "count": str(len(keys))}

    def _txn(self, body: Mapping[str, Any]) -> dict[str, Any]:
        before = self._state
        _check(self, body)
        state = self._copy()
        answer = self._run(before, state, body)
        if state.events:
            self._keep(state)
        return answer

    def _run(self, before: _State, state: _State, body: Mapping[str, Any]) -> dict[str, Any]:
        succeeded = all(_holds(before, compare) for compare in body.get("compare", ()))
        branch = body.get("success" if succeeded else "failure", ())
        responses = [self._step(before, state, operation) for operation in branch]
        return {"succeeded": succeeded, "responses": responses}

    def _step(self, before: _State, state: _State, operation: Mapping[str, Any]) -> dict[str, Any]:
        ((kind, body),) = operation.items()
        if kind == "request_txn":
            return {"response_txn": self._run(before, state, body)}
        if kind == "request_range":
            return {"response_range": self._found(state, body)}
        begin, end = _bounds(body)
        if kind == "request_delete_range":
            among = state.keys if "range_end" in body else state.keys.keys() & {begin}
            gone = [key for key in among if _within(key, begin, end)]
            for key in gone:
                self._delete(state, key)
            return {"response_delete_range": {"deleted": str(len(gone))} if gone else {}}
        old = state.keys.get(begin)
        stored = Stored(
            body.get("value", ""),
            old.created if old else state.revision,
            state.revision,
            old.version + 1 if old else 1,
            int(body.get("lease", 0)),
        )
        state.keys[begin] = stored
        state.events.append({"kv": stored.to_wire(begin)})
        return {"response_put": {}}

    def _delete(self, state: _State, key: bytes) -> None:
        del state.keys[key]
        raw = {"key": base64.b64encode(key).decode(), "mod_revision": str(state.revision)}
        state.events.append({"type": "DELETE", "kv": raw})

    def _copy(self) -> _State:
        return _State(self._state.revision + 1, dict(self._state.keys))

    def _keep(self, state: _State) -> None:
        self._history.append((state.revision, state.events))
        self._past[self._state.revision] = self._state
        self._state = _State(state.revision, state.keys)
        self._changed.notify_all()

    def _grant(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._numbered += 1
        lease = int(body.get("ID", 0)) or self._numbered
        if lease in self._leases:
            raise EtcdError("etcd: etcdserver: lease already exists")
        self._leases[lease] = int(body["TTL"])
        return {"ID": str(lease), "TTL": str(body["TTL"])}

    def _prolong(self, body: Mapping[str, Any]) -> dict[str, Any]:
        ttl = self._leases.get(int(body["ID"]))
        return {"result": {"ID": body["ID"], **({"TTL": str(ttl)} if ttl else {})}}

    def _time_left(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"TTL": str(self._leases.get(int(body["ID"]), -1))}

    def _revoke(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if int(body["ID"]) not in self._leases:
            raise EtcdError("etcd: etcdserver: requested lease not found")
        self.expire(int(body["ID"]))
        return {}

    def _status(self, _body: Mapping[str, Any]) -> dict[str, Any]:
        return {"leader": "1" if self.leads else "0", "version": "0.0.0"}


class _Stream:
    """One watch."""

    def __init__(self, etcd: FakeEtcd, request: Mapping[str, Any]) -> None:
        self.broken = False
        self.last_words = ""
        self._etcd = etcd
        self._bounds = _bounds(request)
        self._next = int(request.get("start_revision", 0)) or etcd._state.revision + 1

    def __iter__(self) -> Iterator[bytes]:
        yield self._message(created=True)
        if self._next <= self._etcd._compacted:
            compacted = str(self._etcd._compacted)
            yield self._message(canceled=True, compact_revision=compacted)
            return
        while True:
            with self._etcd._changed:
                self._etcd._changed.wait_for(lambda: self.broken or self._has_more())
                if self.broken and not self.last_words:
                    raise EtcdUnavailableError("the watch broke off")
                if self.broken:
                    yield json.dumps({"error": {"message": self.last_words}}).encode()
                    return
                new = [e for at, each in self._etcd._history if at >= self._next for e in each]
                self._next = self._etcd._state.revision + 1
            told = [e for e in new if _within(base64.b64decode(e["kv"]["key"]), *self._bounds)]
            if told:
                yield self._message(events=told)

    def _has_more(self) -> bool:
        return self._etcd._state.revision >= self._next

    def _message(self, **fields: Any) -> bytes:
        header = {
            "cluster_id": str(self._etcd._cluster),
            "revision": str(self._etcd._state.revision),
        }
        return json.dumps({"result": {"header": header, **fields}}).encode()

    def close(self) -> None:
        """End it, also while another thread waits for a line."""
        with self._etcd._changed:
            self.broken = True
            self._etcd._streams.discard(self)
            self._etcd._changed.notify_all()


def _bounds(body: Mapping[str, Any]) -> tuple[bytes, bytes]:
    return base64.b64decode(body["key"]), base64.b64decode(body.get("range_end", ""))


def _within(key: bytes, begin: bytes, end: bytes) -> bool:
    if not end:
        return key == begin
    return key >= begin and (end == b"\0" or key < end)


def _holds(state: _State, compare: Mapping[str, Any]) -> bool:
    stored = state.keys.get(base64.b64decode(compare["key"]))
    target = compare.get("target", "VERSION")
    found: object
    if target == "VALUE":
        found, wanted = (stored.value if stored else None), compare.get("value", "")
    else:
        field_name, attribute = {
            "MOD": ("mod_revision", "changed"),
            "CREATE": ("create_revision", "created"),
            "LEASE": ("lease", "lease"),
            "VERSION": ("version", "version"),
        }[target]
        found = getattr(stored, attribute) if stored else 0
        wanted = int(compare.get(field_name, 0))
    return bool(found == wanted) is (compare.get("result", "EQUAL") == "EQUAL")


def _check(etcd: FakeEtcd, body: Mapping[str, Any]) -> None:
    """Refuse what etcd refuses before it does anything."""
    written: list[bytes] = []
    for part in ("compare", "success", "failure"):
        if len(body.get(part, ())) > _MOST_OPERATIONS:
            raise EtcdError("etcd: etcdserver: too many operations in txn request")
    for operation in body.get("success", ()):
        for kind, inner in operation.items():
            if kind == "request_txn":
                _check(etcd, inner)
            if kind == "request_put":
                if int(inner.get("lease", 0)) not in {0, *etcd._leases}:
                    raise EtcdError("etcd: etcdserver: requested lease not found")
                written.append(_bounds(inner)[0])
    if len(set(written)) != len(written):
        raise EtcdError("etcd: etcdserver: duplicate key given in txn request")


_CALLS: Mapping[str, Callable[[FakeEtcd, Mapping[str, Any]], dict[str, Any]]] = {
    "/kv/range": FakeEtcd._range,
    "/kv/txn": FakeEtcd._txn,
    "/lease/grant": FakeEtcd._grant,
    "/lease/keepalive": FakeEtcd._prolong,
    "/lease/revoke": FakeEtcd._revoke,
    "/lease/timetolive": FakeEtcd._time_left,
    "/maintenance/status": FakeEtcd._status,
}
