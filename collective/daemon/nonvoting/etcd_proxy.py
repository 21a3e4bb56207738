"""A voter's part in the life of members without an etcd: their calls go to our etcd.

It decides nothing about what may pass (``policy.relaying`` does) nor who may ask (``access``).

Invariants:
  * An operation on keys is done only while the record of who asks is the one on which it was let
    in: a member that is deleted meanwhile reads and writes nothing, though our view be old.
  * A watch is never silent for longer than ``BEAT_SECONDS``, and ends when our etcd does not
    answer or knows no leader: so who listens finds out, and goes to another voter.
  * One member takes a bounded share of this voter, whatever it sends: readings, watches
    and large transactions have places, an answer and the queue of a watch a number of bytes;
    requests, the listener bounds.
  * Members without a vote never fill the store: the last part of it is for the voters.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from collective.daemon.clock import elapsed
from collective.daemon.member.access import member_of
from collective.daemon.member.entry import let_in
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.nonvoting.line_queue import LineQueue
from collective.errors import CollectiveError, EtcdUnavailableError, ProtocolError
from collective.etcd.api import Lines
from collective.etcd.deadline import within
from collective.model.view import member_key
from collective.policy.relaying import (
    WATCH,
    Guard,
    guarded,
    is_guarded,
    is_long,
    is_serializable,
    operations_of,
    puts_anything,
    reads_of,
    relayed,
    unguarded,
    veiled,
)
from collective.policy.slicing import Slices
from collective.protocol.messages import ETCD, EtcdCall
from collective.protocol.web import Request, Requester, Response, json_response

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.25
_MOST_SECONDS = 10.0
_PULSE_SECONDS = 0.5
_SILENCE_SECONDS = 86400.0
_TRIES = 5
#: Of the lines of one watch that wait.
_WAITING_BYTES = 1 << 20
#: A transaction that reads more keys than this is a reading.
_FEW_READS = 4
#: One of more operations than this, which is more than group commits have, is a large one.
_FEW_OPERATIONS = 256
# Less than a member waits before it asks another voter, see ``remote_etcd``.
_SLICING_SECONDS = 0.3


def relay(runtime: MemberRuntime, request: Request) -> Response:
    """Answer a call to etcd by a member.

    Raises:
        AccessError, RemovedError: it is none of a member, or not for such a member.
        ProtocolError, InputError: it is broken, or asks for too much.
        RefusedError: the member has as much under way as it may.
        EtcdError: what our etcd says.
    """
    call = EtcdCall.from_wire(request.json())
    path = request.path.removeprefix(ETCD)
    sent = relayed(path, _name(request.peer), call.body)
    if path == WATCH:
        return _watch(runtime, request.peer, sent)
    if call.seconds is None or call.seconds <= 0:
        raise ProtocolError("a call to etcd has no deadline")
    seconds = min(call.seconds, _MOST_SECONDS)
    with within(seconds):
        return json_response(200, _answer(runtime, request.peer, path, sent, seconds))


def _answer(
    runtime: MemberRuntime, peer: Requester, path: str, body: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    if puts_anything(path, body):
        runtime.places.room.check(lambda: runtime.etcd.status().db_size)
    if not is_guarded(path):
        let_in(runtime, peer)
        return runtime.gateway.call(path, body)
    if is_long(path, body):
        with runtime.places.readings.taken(_name(peer), seconds):
            return _sliced(runtime, peer, path, body)
    place: AbstractContextManager[None] = nullcontext()
    if operations_of(body) > _FEW_OPERATIONS:
        place = runtime.places.transactions.taken(_name(peer), seconds)
    elif reads_of(body) > _FEW_READS:
        place = runtime.places.readings.taken(_name(peer), seconds)
    with place:
        return _guarded(runtime, peer, path, body)


def _watch(runtime: MemberRuntime, peer: Requester, body: Mapping[str, Any]) -> Response:
    member, view = let_in(runtime, peer)
    runtime.places.watches.enter(member.name)
    try:
        watch = _Watch(runtime, peer, view.revision, body)
    except BaseException:
        runtime.places.watches.leave(member.name)
        raise
    return Response(200, watch, "application/x-ndjson")


def _name(peer: Requester) -> str:
    """Return who asks; whether it is a member, the records say."""
    return "" if peer.certificate is None else peer.certificate.name


def _sliced(
    runtime: MemberRuntime, peer: Requester, path: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Read a range a few keys at a time; what is left when the time is up is ``more``."""
    slices, begun = Slices(body), elapsed()
    while not slices.is_done:
        slices.take(_guarded(runtime, peer, path, slices.request()))
        if elapsed() - begun > _SLICING_SECONDS:
            break
    return slices.answer()


def _guarded(
    runtime: MemberRuntime, peer: Requester, path: str, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Do an operation on keys while the member's record is unchanged."""
    member, view = let_in(runtime, peer, is_serializable(path, body))
    for _ in range(_TRIES):
        guard = Guard(member_key(member.name), view.mod_revision(member_key(member.name)))
        answer = unguarded(path, runtime.gateway.call("/kv/txn", guarded(path, body, guard)))
        if answer is not None:
            return answer
        member, view = let_in(runtime, peer, is_serializable(path, body), anew=True)
    raise EtcdUnavailableError(f"the record of {member.name} changes all the time")


class _Watch:
    """The lines of a watch, with an empty one whenever there is none for a moment."""

    def __init__(
        self, runtime: MemberRuntime, peer: Requester, revision: int, body: Mapping[str, Any]
    ) -> None:
        """Open it.

        Args:
            runtime: this server.
            peer: who listens.
            revision: of the view on which it was let in; that of our own view may be behind.
            body: of the request.
        """
        self._runtime = runtime
        self._peer = peer
        self._revision = revision
        self._stream: Lines = runtime.gateway.lines(WATCH, body, _SILENCE_SECONDS)
        self._lines: LineQueue[bytes | CollectiveError] = LineQueue(_WAITING_BYTES)
        self._leaving = threading.Lock()
        self._ended = threading.Event()
        self._well = elapsed()
        threading.Thread(target=self._read, name="relay-watch", daemon=True).start()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended.is_set():
            raise StopIteration
        line = self._lines.get(BEAT_SECONDS)
        if line is None:
            line = self._beat()
        if isinstance(line, bytes):
            try:
                self._check()
                return line + b"\n"
            except CollectiveError as error:
                line = error
        self.close()
        return json_response(200, {"error": line.to_wire()}).body  # type: ignore[return-value]

    def _check(self) -> None:
        view = self._runtime.records_view.view
        if view.revision >= self._revision:
            member_of(view, self._peer)

    def close(self) -> None:
        """End the watch."""
        with self._leaving:
            if not self._ended.is_set():
                self._runtime.places.watches.leave(_name(self._peer))
            self._ended.set()
        self._lines.close()
        self._stream.close()

    def _beat(self) -> bytes | CollectiveError:
        """Return an empty line while our etcd is well."""
        if elapsed() - self._well < _PULSE_SECONDS:
            return b""
        try:
            status = self._runtime.etcd.status(BEAT_SECONDS)
        except CollectiveError as error:
            return error
        if not status.leader:
            return EtcdUnavailableError(f"etcd on {self._runtime.name} knows no leader")
        self._well = elapsed()
        return b""

    def _read(self) -> None:
        try:
            for line in self._stream:
                if line:
                    self._put(veiled(line))
                if self._ended.is_set():
                    return
            self._put(EtcdUnavailableError("the watch ended"))
        except CollectiveError as error:
            self._put(error)

    def _put(self, line: bytes | CollectiveError) -> None:
        """Hand a line over; who does not take them, in the end, is let go."""
        size = len(line) if isinstance(line, bytes) else 0
        if not self._lines.put(line, size, _MOST_SECONDS) and not self._ended.is_set():
            log.warning("a member does not take its watch name=%s", _name(self._peer))
            self.close()
