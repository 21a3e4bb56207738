"""etcd's calls for a server that has none: through the door of one voter, or of the next.

It does not know what a call is for, but for whether it may be made twice.

Invariants:
  * What only reads is asked of another voter when one is silent; a write that was sent and not
    answered is never sent again: its caller gets EtcdUnavailableError and looks.
  * A voter that hangs is left, and whoever waits for it is told, ``SILENCE_SECONDS`` after its
    last word at the latest, while a watch is open.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from collective.daemon.clock import elapsed
from collective.errors import (
    AccessError,
    CollectiveError,
    EtcdError,
    EtcdUnavailableError,
    InputError,
    NotReachedError,
    RefusedError,
    RemovedError,
    UnreachableError,
)
from collective.etcd.api import EtcdApi, KeyValue, Lines, Status
from collective.etcd.deadline import seconds_allowed
from collective.etcd.refusals import NOBODY
from collective.model.records import MemberRecord
from collective.policy.relaying import is_repeatable
from collective.protocol.messages import ETCD, EtcdCall
from collective.protocol.peer import PeerClient

log = logging.getLogger(__name__)

SILENCE_SECONDS = 0.7
_PATIENCE_SECONDS = 0.6
_PAUSE_SECONDS = 0.05
_MOST_IDLE = 8

Voters = Callable[[], Iterable[MemberRecord]]
Connect = Callable[[MemberRecord], PeerClient]


class _NotSent(Exception):
    """A call did not leave this server: it may be made elsewhere."""


class RemoteGateway(EtcdApi):
    """The calls to etcd, over the doors of the voters."""

    def __init__(self, voters: Voters, connect: Connect) -> None:
        """Prepare; nothing is opened yet.

        Args:
            voters: whom to ask, as far as is known now.
            connect: makes a connection to one, which is opened later.
        """
        self._voters = voters
        self._connect = connect
        self._lock = threading.Lock()
        self._chosen = ""
        self._idle: dict[MemberRecord, list[PeerClient]] = {}
        self._busy: dict[PeerClient, MemberRecord] = {}
        self._closed = threading.Event()

    def close(self) -> None:
        """Break off what is under way, and close all connections."""
        self._closed.set()
        with self._lock:
            idle = [peer for peers in self._idle.values() for peer in peers]
            busy = list(self._busy)
            self._idle.clear()
        for peer in busy:
            peer.abort()
        for peer in idle:
            peer.close()

    def status(self) -> Status:
        """Return what a voter's etcd says, without its id: it is not ours."""
        return replace(super().status(), member_id=0, learner=False)

    def commit_and_range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        """Read: our records are written by voters alone, be it nothing that is written."""
        return self.range(prefix)

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call, see ``EtcdApi``."""
        deadline = elapsed() + seconds_allowed()
        failure = "there was no time to ask"
        for voter, patience in self._rota():
            left = deadline - elapsed()
            if left <= 0 or self._closed.is_set():
                break
            repeatable = is_repeatable(path)
            try:
                return self._ask(voter, path, body, min(left, patience), repeatable, left)
            except (_NotSent, RefusedError) as error:
                failure = str(error)
            except (UnreachableError, EtcdUnavailableError) as error:
                if not repeatable:
                    raise EtcdUnavailableError(f"{voter.name}: {error}") from error
                failure = str(error)
            except EtcdError:
                raise
            except (AccessError, InputError, RemovedError) as error:
                raise EtcdError(f"{voter.name}: {error}") from error
            except CollectiveError as error:
                # What came back is no answer: a write may have been made.
                if not repeatable:
                    raise EtcdUnavailableError(f"{voter.name}: {error}") from error
                raise EtcdError(f"{voter.name}: {error}") from error
            self._choose_after(voter.name)
        raise NotReachedError(f"{NOBODY}: {failure}")

    def lines(self, path: str, body: Mapping[str, Any], seconds: float) -> Lines:
        """Make a call that is answered line by line, see ``EtcdApi``.

        Voters send an empty line now and then, so ``seconds`` of silence are never waited for.
        """
        for voter, _ in self._rota():
            try:
                peer = self._take(voter, _PATIENCE_SECONDS)
            except _NotSent as error:
                self._choose_after(voter.name)
                raise EtcdUnavailableError(f"the watch broke off: {error}") from error
            return _RemoteLines(self, voter, peer, path, body)
        raise EtcdUnavailableError("no voter is known here")

    def _ask(
        self,
        voter: MemberRecord,
        path: str,
        body: Mapping[str, Any],
        patience: float,
        repeatable: bool,
        left: float,
    ) -> dict[str, Any]:
        """Ask one voter; to connect takes no more than our patience, a write all that is left."""
        peer = self._take(voter, patience)
        seconds = patience if repeatable else left
        try:
            return peer.call("POST", ETCD + path, EtcdCall(body, seconds).to_wire(), seconds)
        except UnreachableError:
            peer.close()
            raise
        finally:
            self._give_back(voter, peer)

    def _rota(self) -> Iterator[tuple[MemberRecord, float]]:
        """Yield whom to ask and how patiently: the chosen one first, in the end all again."""
        patience = _PATIENCE_SECONDS
        while True:
            voters = self._in_order()
            for voter in voters:
                yield voter, patience
            if not voters or self._closed.wait(_PAUSE_SECONDS):
                return
            patience *= 2

    def _in_order(self) -> list[MemberRecord]:
        voters = sorted(self._voters(), key=lambda member: member.name)
        if not voters:
            return []
        with self._lock:
            names = [member.name for member in voters]
            if self._chosen not in names:
                self._chosen = random.choice(names)  # to spread the load
            first = names.index(self._chosen)
        return voters[first:] + voters[:first]

    def _choose_after(self, name: str) -> None:
        """Ask another voter from now on, if this is the one that is asked."""
        names = sorted(member.name for member in self._voters())
        with self._lock:
            if self._chosen == name and name in names:
                self._chosen = names[(names.index(name) + 1) % len(names)]

    def _take(self, voter: MemberRecord, seconds: float) -> PeerClient:
        """Return an open connection that nobody else uses.

        Raises:
            _NotSent: there is none to be had.
        """
        with self._lock:
            if self._closed.is_set():
                raise _NotSent("this server stops")
            known = self._idle.pop(voter, [])
            idle = [peer for peer in known if peer.is_open()]
            # A new one otherwise: the certificates may have changed since.
            peer = idle.pop() if idle else self._connect(voter)
            self._idle[voter] = idle
            self._busy[peer] = voter
        for broken in set(known) - {peer, *idle}:
            broken.close()
        try:
            peer.open(seconds)
            return peer
        except CollectiveError as error:
            self._give_back(voter, peer)
            raise _NotSent(str(error)) from error

    def _give_back(self, voter: MemberRecord, peer: PeerClient) -> None:
        with self._lock:
            self._busy.pop(peer, None)
            if not self._closed.is_set() and peer.is_open():
                idle = self._idle.setdefault(voter, [])
                if len(idle) < _MOST_IDLE:
                    idle.append(peer)
                    return
        peer.close()

    def _leave(self, voter: MemberRecord, why: CollectiveError | None) -> None:
        """Leave a voter whose watch broke off: what waits for it would wait in vain."""
        if self._closed.is_set():
            return
        log.debug("a voter is left: %s name=%s", why, voter.name)
        self._choose_after(voter.name)
        with self._lock:
            idle = self._idle.pop(voter, [])
            busy = [peer for peer, member in self._busy.items() if member == voter]
        for peer in busy:
            peer.abort()
        for peer in idle:
            peer.close()


class _RemoteLines:
    """The lines of one watch through one voter."""

    def __init__(
        self,
        gateway: RemoteGateway,
        voter: MemberRecord,
        peer: PeerClient,
        path: str,
        body: Mapping[str, Any],
    ) -> None:
        self._gateway = gateway
        self._voter = voter
        self._peer = peer
        self._lines = peer.stream(
            "POST", ETCD + path, EtcdCall(body).to_wire(), _PATIENCE_SECONDS, SILENCE_SECONDS
        )

    def __iter__(self) -> Iterator[bytes]:
        try:
            for line in self._lines:
                if line.startswith(b'{"error"'):
                    # Whatever it is: another voter may be better off.
                    self._gateway._choose_after(self._voter.name)
                yield line.strip()
        except RefusedError as error:
            # It is well, and has no room: what else is under way there goes on.
            self._gateway._choose_after(self._voter.name)
            raise EtcdUnavailableError(f"the watch was refused: {error}") from error
        except CollectiveError as error:
            self._gateway._leave(self._voter, error)
            raise EtcdUnavailableError(f"the watch broke off: {error}") from error

    def close(self) -> None:
        """End it, also while another thread waits for a line."""
        self._peer.abort()
        self._gateway._give_back(self._voter, self._peer)
