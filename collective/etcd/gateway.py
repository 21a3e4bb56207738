"""The way to our own etcd: the calls over its unix socket, as JSON to etcd's gateway.

The daemon makes them with etcd3gw's client (``client``), which gets our ``transport`` for its
session; software beside the daemon has no such package, and posts the same by itself. It decides
nothing. A read that a restart on purpose broke off is made again, nothing else is.

Invariants:
  * Every call has a deadline.
  * Where nothing was sent the error is a NotReachedError; an answer that is no success leaves this
    module as what it stands for, see ``refusals``.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError
from collective.etcd.api import RANGE, STATUS, EtcdApi, Lines
from collective.etcd.deadline import seconds_allowed, within
from collective.etcd.refusals import LEADER_CHANGED, refusal
from collective.etcd.transport import MOST_ANSWER_BYTES, Answer, Transport

# What is under way takes milliseconds, or some flushes of a busy disk. Without a leader it would
# not end.
_END_SECONDS, _END_WITH_LEADER_SECONDS = 0.3, 3.0
#: Where the calls of etcd's gateway begin.
API = "/v3"


class Client(Protocol):
    """What knows the URLs of etcd's gateway, and its JSON."""

    def get_url(self, path: str) -> str:
        """Return where a call is posted to, by its path below ``API``."""

    def post(self, url: str, *, json: Any) -> Any:
        """Post a call, and return the decoded answer.

        Raises:
            ValueError: it is no JSON.
            EtcdError: it is no success.
        """


class PlainClient:
    """A client that adds nothing to the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_url(self, path: str) -> str:
        """Return where a call is posted to."""
        return API + path

    def post(self, url: str, *, json: Any) -> Any:
        """Post a call, see ``Client``."""
        return self._session.post(url, json=json).json()


class Gateway(EtcdApi):
    """The calls to the etcd of this server, over its socket."""

    def __init__(
        self, socket_path: Path, client_of: Callable[[Session], Client] = PlainClient
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            socket_path: etcd's client socket.
            client_of: makes the client that posts over a session.
        """
        self._transport = Transport(socket_path)
        self._client = client_of(Session(self._transport))
        self._passage = threading.Condition()
        self._held = False
        self._under_way = 0

    def close(self) -> None:
        """Close all connections that are not in use; those that are, when they are done."""
        self._transport.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have calls wait, for their time at most, while etcd is restarted on purpose.

        Those that are under way get a moment to end first. Whoever restarts it may ask for its
        status meanwhile.
        """
        with self._passage:
            self._held = True
        try:
            if not self._has_ended(_END_SECONDS) and self._has_leader():
                self._has_ended(_END_WITH_LEADER_SECONDS)
            yield
        finally:
            with self._passage:
                self._held = False
                self._passage.notify_all()

    def _has_ended(self, seconds: float) -> bool:
        """Wait until no call is under way; tell whether that is so."""
        with self._passage:
            return self._passage.wait_for(lambda: self._under_way == 0, seconds)

    def _has_leader(self) -> bool:
        try:
            with within(_END_SECONDS):
                return self.status().leader != 0
        except EtcdError:
            return False

    @contextmanager
    def _passing(self, deadline: float) -> Iterator[None]:
        """Wait until calls may pass, and be counted as one that is under way.

        Raises:
            NotReachedError: they may not before the deadline; nothing was sent.
        """
        with self._passage:
            if not self._passage.wait_for(lambda: not self._held, deadline - monotonic()):
                raise NotReachedError("etcd is being restarted")
            self._under_way += 1
        try:
            with within(deadline - monotonic()):
                yield
        finally:
            with self._passage:
                self._under_way -= 1
                self._passage.notify_all()

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call, see ``EtcdApi``."""
        if path == STATUS:
            return self._call(path, body)
        deadline = monotonic() + seconds_allowed()
        try:
            with self._passing(deadline):
                return self._call(path, body)
        except EtcdUnavailableError as error:
            if path != RANGE or not (self._held or LEADER_CHANGED in error.message):
                raise
        # A read that was broken off can be made again; a write may have happened.
        with self._passing(deadline):
            return self._call(path, body)

    def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.post(self._client.get_url(path), json=body)
        except _TooLongError as error:
            # That of a transaction comes when it is made.
            failed = EtcdError if path == RANGE else EtcdUnavailableError
            most = MOST_ANSWER_BYTES >> 20
            raise failed(f"etcd: an answer has more than {most} MiB") from error
        except ValueError as error:
            raise EtcdUnavailableError("etcd broke off in the middle of an answer") from error
        return answer if isinstance(answer, dict) else {}

    def lines(self, path: str, body: Mapping[str, Any], seconds: float) -> Lines:
        """Make a call that is answered line by line, see ``EtcdApi``."""
        opened = self._transport.open(API + path, body, seconds_allowed(), seconds)
        if isinstance(opened, Answer):
            raise _refusal(opened)
        return opened


class _TooLongError(Exception):
    """An answer has more bytes than are taken in."""


class Session:
    """What a client, etcd3gw's too, takes for a session of requests."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def post(self, url: str, *, json: Any, **_others: Any) -> _Response:
        """Make a request, with the time that the caller's block allows."""
        answer = self._transport.post(url[url.index(API) :], json, seconds_allowed())
        if answer.status != http.client.OK:
            raise _refusal(answer)
        return _Response(answer)


class _Response:
    """What a client looks at of an answer."""

    status_code = int(http.client.OK)

    def __init__(self, answer: Answer) -> None:
        self._body = answer.body

    def json(self) -> Any:
        """Return what was sent.

        Raises:
            ValueError: it is no JSON.
        """
        if self._body is None:
            raise _TooLongError
        return json.loads(self._body)


def _refusal(answer: Answer) -> EtcdError:
    text = (answer.body or b"").decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, dict):
        value = value.get("error") or value.get("message") or value
    return refusal(answer.status, str(value)[:200].strip())
