"""What ends the doubt about a write: a key that each request to etcd compares and writes.

A request that was not answered may be made at any later time: an etcd that was stopped passes it
on when it goes on. So each thread that makes requests has a key of its own, its guard, of which
etcd counts the versions. A request requires the version that the one before it has left, and
writes the guard: so whether it was made is seen there, and once the guard was written by what
comes after it, it never is.

Invariants:
  * Of each guard one request at a time is under way; the next one is sent when it is known what
    became of that.
  * A guard's key is bound to a lease, and named after it. So one that was left, and its lease
    ended, is never written again; what a process leaves behind is gone after a day.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from collective.errors import (
    ClosedError,
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    NotReachedError,
)
from collective.etcd.api import RANGE, EtcdApi
from collective.etcd.deadline import seconds_allowed
from collective.etcd.requests import Body, encode, put_request
from collective.model.keyspace import GUARDS
from collective.store.leases import Lease
from collective.store.values import Moment, Outcome, Transaction
from collective.store.wire import from_guarded, from_wire, guarded, moment_of, to_wire

#: How long what a process has left behind stays; the longest that a server without a vote may ask.
LEASE_SECONDS = 86400
_LEAVE_SECONDS = 1.0
# The value of a guard that was written to end a doubt; a request writes none.
_ENDED = b"ended"
_TXN = "/kv/txn"


class NotMadeError(EtcdUnavailableError):
    """A request was not made, nor will it be."""


class GuardLease:
    """The lease that the guards of a handle are bound to."""

    def __init__(self, calls: EtcdApi, owner: str) -> None:
        """Open none yet.

        Args:
            calls: the way to etcd.
            owner: this server.
        """
        self._calls = calls
        self.owner = owner
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._closed = False

    def current(self) -> Lease:
        """Return the lease of now; a new one where there is none.

        Raises:
            EtcdError: there is none to be had.
            ClosedError: this was closed.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("this handle was closed")
            if self._lease is None or not self._lease.is_held:
                self._lease = Lease(self._calls, LEASE_SECONDS, seconds_allowed(), self.owner)
            return self._lease

    def close(self, seconds: float) -> None:
        """End it, and so whatever is under way on a guard of it."""
        with self._lock:
            self._closed = True
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.close(seconds)

    def after_fork(self) -> None:
        """Have none in a child process: it is its parent's."""
        self._lock, self._closed = threading.Lock(), True
        if self._lease is not None:
            self._lease.after_fork()


class WriteGuard:
    """The guard of the requests of one thread."""

    def __init__(self, calls: EtcdApi, lease: GuardLease, name: str) -> None:
        """Begin without a key; it is made with the first request.

        Args:
            calls: the way to etcd.
            lease: shared with the guards of other threads.
            name: another one for each thread.
        """
        self._calls = calls
        self._leases = lease
        self._name = name
        self._lease: Lease | None = None
        self._key = ""
        self._version = 0

    def make(self, transactions: Sequence[Transaction]) -> list[Outcome]:
        """Make a request, and return the outcome of each transaction.

        Raises:
            NotMadeError: it was not made; the next one has another guard.
            EtcdUnavailableError: it may have been made: ``end_doubt`` comes next.
            EtcdError: etcd refuses it.
        """
        lease = self._ready()
        mark = put_request(self._key, b"", lease.id)
        answer = self._calls.call(_TXN, guarded(transactions, self._condition(), mark))
        if not answer.get("succeeded", False):
            raise self._refused()
        try:
            outcomes = from_guarded(transactions, answer)
        except EtcdError as error:
            raise EtcdUnavailableError(error.message) from error
        self._version += 1
        return outcomes

    def end_doubt(self, _transactions: Sequence[Transaction]) -> Moment | None:
        """Have the last request never be made, unless it was.

        Returns:
            When it was made; None where it never is.

        Raises:
            EtcdUnavailableError: etcd does not say; ask again.
            EtcdError: nobody can say any more, and it never is made from now on.
        """
        lease = self._lease
        assert lease is not None
        body = guarded((), self._condition(), put_request(self._key, _ENDED, lease.id))
        if not self._calls.call(_TXN, body).get("succeeded", False):
            at, value = self._found()
            if at is None:
                raise EtcdError("what the writes of this handle compare was taken away")
            if not value:
                self._version += 1
                return at
        self._version += 1
        return None

    def leave(self) -> None:
        """Have another key from now on, and end the lease of this one."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close(_LEAVE_SECONDS)

    def has_ended(self) -> bool:
        """Ask whether the lease has ended before its time: etcd refuses all requests then."""
        lease = self._lease
        try:
            ended = lease is not None and self._calls.lease_left(lease.id) <= 0
        except CollectiveError:
            return False
        if ended:
            self.leave()
        return ended

    def _ready(self) -> Lease:
        if self._lease is None or not self._lease.is_held:
            try:
                self._lease = self._leases.current()
            except NotReachedError:
                raise
            except EtcdUnavailableError as error:
                raise NotMadeError(error.message) from error
            self._key = f"{GUARDS}{self._leases.owner}/{self._lease.id:x}.{self._name}"
            self._version = 0
        return self._lease

    def _refused(self) -> EtcdUnavailableError:
        """Return the error of a request that was not made; it was if its guard was written."""
        if self._found()[0] is not None:
            return EtcdUnavailableError("etcd: an answer came without what was asked for")
        self.leave()
        return NotMadeError("what the writes of this handle compare was taken away")

    def _found(self) -> tuple[Moment | None, str]:
        """Return when the guard was written once more than is known, and with what."""
        answer = self._calls.call(RANGE, {"key": encode(self._key)})
        cluster = moment_of(answer).cluster
        for found in answer.get("kvs", ()):
            if int(found["version"]) == self._version + 1:
                return Moment(cluster, int(found["mod_revision"])), found.get("value", "")
        return None, ""

    def _condition(self) -> Body:
        # To be equal is what etcd is asked for where nothing is said, and of a version.
        return {"key": encode(self._key), "version": str(self._version)}


class Unguarded:
    """What makes requests whose doubt needs no end, or has none."""

    def __init__(self, calls: EtcdApi) -> None:
        self._calls = calls

    def make(self, transactions: Sequence[Transaction]) -> list[Outcome]:
        """Make a request, see ``WriteGuard``."""
        answer = self._calls.call(_TXN, to_wire(transactions))
        try:
            return from_wire(transactions, answer)
        except EtcdError as error:
            raise EtcdUnavailableError(error.message) from error

    def end_doubt(self, transactions: Sequence[Transaction]) -> Moment | None:
        """Say that nothing was written where nothing was to be, see ``WriteGuard``."""
        if any(transaction.writes for transaction in transactions):
            raise EtcdError("etcd's database was full, so nothing could be kept about it")
        return None

    def leave(self) -> None:
        """Do nothing."""

    def has_ended(self) -> bool:
        """Say no."""
        return False
