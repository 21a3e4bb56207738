"""The way to our own etcd: the calls over its unix socket, as etcd3gw speaks JSON to its gateway.

It decides nothing. A read that a restart on purpose broke off is made again, nothing else is.

Invariants:
  * Every call has a deadline.
  * An error of etcd3gw or requests leaves this module as an EtcdError, see ``refusals``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import requests
import urllib3
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import ConnectionFailedError, ConnectionTimeoutError, Etcd3Exception

from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError
from collective.etcd.calls import RANGE, STATUS, EtcdCalls, Lines
from collective.etcd.deadline import seconds_allowed, within
from collective.etcd.refusals import LEADER_CHANGED, refusal
from collective.etcd.session import (
    MOST_ANSWER_BYTES,
    ResponseLines,
    TooLongError,
    UnixSession,
)

# What is under way takes milliseconds, or some flushes of a busy disk. Without a leader it would
# not end.
_END_SECONDS, _END_WITH_LEADER_SECONDS = 0.3, 3.0
_UNAVAILABLE = 503


class Gateway(EtcdCalls):
    """The calls to the etcd of this server, over its socket."""

    def __init__(self, socket_path: Path) -> None:
        self._session = UnixSession(str(socket_path))
        self._client = Etcd3Client("etcd", 1, session=self._session, api_path="/v3/")
        self._passage = threading.Condition()
        self._held = False
        self._under_way = 0

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

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
        """Make one call, see ``EtcdCalls``."""
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
        except ConnectionTimeoutError as error:
            raise EtcdUnavailableError("etcd did not answer in time") from error
        except ConnectionFailedError as error:
            if _is_unconnected(error):
                raise NotReachedError("etcd does not run here") from error
            raise refusal(_UNAVAILABLE, _reason(error)) from error
        except Etcd3Exception as error:
            raise refusal(None, _reason(error)) from error
        except TooLongError as error:
            # That of a transaction comes when it is made.
            failed = EtcdError if path == RANGE else EtcdUnavailableError
            most = MOST_ANSWER_BYTES >> 20
            raise failed(f"etcd: an answer has more than {most} MiB") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise EtcdUnavailableError(f"etcd broke off: {type(error).__name__}") from error
        return answer if isinstance(answer, dict) else {}

    def lines(self, path: str, body: Mapping[str, Any], seconds: float) -> Lines:
        """Make a call that is answered line by line, see ``EtcdCalls``."""
        try:
            # Only the call itself is in the block: what is done between two lines has deadlines
            # of its own.
            with within(seconds):
                url = self._client.get_url(path)
                return ResponseLines(self._session.post(url, json=body, stream=True))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise EtcdUnavailableError(f"the watch broke off: {type(error).__name__}") from error


def _is_unconnected(error: BaseException) -> bool:
    """Tell whether there was no connection, so that nothing was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _reason(error: Etcd3Exception) -> str:
    text = error.detail_text or str(error)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return "it does not answer" if "Pool" in text else text[:200].strip()
