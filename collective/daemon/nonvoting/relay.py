"""A voter's part in the life of members without an etcd: their calls go to our etcd.

It decides nothing about what may pass (``policy.relaying`` does) nor who may ask (``access``).

Invariants:
  * An operation on keys is done only while the record of who asks is the one on which it was let
    in: a member that is deleted meanwhile reads and writes nothing, though our view be old.
  * A watch is never silent for longer than ``BEAT_SECONDS``, and ends when our etcd does not
    answer or knows no leader: so who listens finds out, and goes to another voter.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from collective.daemon.clock import elapsed
from collective.daemon.doors.access import member_of
from collective.daemon.doors.entry import let_in
from collective.daemon.node import Node
from collective.errors import CollectiveError, EtcdUnavailableError, ProtocolError
from collective.etcd.calls import Lines
from collective.etcd.deadline import within
from collective.model.view import member_key
from collective.policy.relaying import (
    GUARDED,
    WATCH,
    Guard,
    check_relayed,
    guarded,
    is_serializable,
    unguarded,
)
from collective.protocol import messages
from collective.protocol.web import Peer, Request, Response, json_response

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.25
_MOST_SECONDS = 10.0
_PULSE_SECONDS = 0.5
_SILENCE_SECONDS = 86400.0
_TRIES = 5
_MOST_WAITING = 1024


def relay(node: Node, request: Request) -> Response:
    """Answer a call to etcd by a member.

    Raises:
        AccessError, RemovedError: it is none of a member, or not for such a member.
        ProtocolError: it is broken.
        EtcdError: what our etcd says.
    """
    raw = request.json()
    messages.check_format(raw)
    path, body = request.path.removeprefix(messages.ETCD), raw.get("body")
    if not isinstance(body, dict):
        raise ProtocolError("a call to etcd has no body")
    check_relayed(path, body)
    if path == WATCH:
        _, view = let_in(node, request.peer)
        return Response(
            200, _Watch(node, request.peer, view.revision, body), "application/x-ndjson"
        )
    with within(_seconds(raw)):
        if path in GUARDED:
            return json_response(200, _guarded(node, request.peer, path, body))
        let_in(node, request.peer)
        return json_response(200, node.gateway.call(path, body))


def _seconds(raw: Mapping[str, Any]) -> float:
    seconds = raw.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ProtocolError("a call to etcd has no deadline")
    return float(min(seconds, _MOST_SECONDS))


def _guarded(node: Node, peer: Peer, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Do an operation on keys while the member's record is unchanged."""
    member, view = let_in(node, peer, is_serializable(path, body))
    for _ in range(_TRIES):
        guard = Guard(member_key(member.name), view.mod_revision(member_key(member.name)))
        answer = unguarded(path, node.gateway.call("/kv/txn", guarded(path, body, guard)))
        if answer is not None:
            return answer
        member, view = let_in(node, peer, is_serializable(path, body), anew=True)
    raise EtcdUnavailableError(f"the record of {member.name} changes all the time")


class _Watch:
    """The lines of a watch, with an empty one whenever there is none for a moment."""

    def __init__(self, node: Node, peer: Peer, revision: int, body: Mapping[str, Any]) -> None:
        """Open it.

        Args:
            node: this server.
            peer: who listens.
            revision: of the view on which it was let in; that of our replica may be behind.
            body: of the request.
        """
        self._node = node
        self._peer = peer
        self._revision = revision
        self._stream: Lines = node.gateway.lines(WATCH, body, _SILENCE_SECONDS)
        self._lines: queue.Queue[bytes | CollectiveError] = queue.Queue(_MOST_WAITING)
        self._ended = threading.Event()
        self._well = elapsed()
        threading.Thread(target=self._read, name="relay-watch", daemon=True).start()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended.is_set():
            raise StopIteration
        try:
            line = self._lines.get(timeout=BEAT_SECONDS)
        except queue.Empty:
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
        view = self._node.replica.view
        if view.revision >= self._revision:
            member_of(view, self._peer)

    def close(self) -> None:
        """End the watch."""
        self._ended.set()
        self._stream.close()

    def _beat(self) -> bytes | CollectiveError:
        """Return an empty line while our etcd is well."""
        if elapsed() - self._well < _PULSE_SECONDS:
            return b""
        try:
            status = self._node.status(BEAT_SECONDS)
        except CollectiveError as error:
            return error
        if not status.leader:
            return EtcdUnavailableError(f"etcd on {self._node.name} knows no leader")
        self._well = elapsed()
        return b""

    def _read(self) -> None:
        try:
            for line in self._stream:
                if line:
                    self._put(line)
                if self._ended.is_set():
                    return
            self._put(EtcdUnavailableError("the watch ended"))
        except CollectiveError as error:
            self._put(error)

    def _put(self, line: bytes | CollectiveError) -> None:
        """Hand a line over; who does not take them, in the end, is let go."""
        try:
            self._lines.put(line, timeout=_MOST_SECONDS)
        except queue.Full:
            log.warning("a member does not take its watch name=%s", self._name())
            self.close()

    def _name(self) -> str:
        certificate = self._peer.certificate
        return "" if certificate is None else certificate.name
