"""A session of requests that speaks to one unix socket: what anybody gives to etcd3gw who uses it.

It is the other side of the rows about the store; nothing of the product uses it.

Invariants:
  * Neither proxies nor a CA bundle from the environment are obeyed.
"""

from __future__ import annotations

import socket
from typing import Any

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool

from collective.etcd.deadline import DEFAULT_SECONDS, seconds_allowed
from collective.etcd.transport import MOST_ANSWER_BYTES

_PART_BYTES = 1 << 16


class TooLongError(requests.RequestException):
    """An answer has more bytes than are taken in."""


class _UnixConnection(urllib3.connection.HTTPConnection):
    """An HTTP connection to the socket file."""

    def __init__(self, path: str, timeout: Any = None) -> None:
        super().__init__("etcd", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect, with the deadline of the call."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        timeout = self.timeout
        sock.settimeout(timeout if isinstance(timeout, int | float) else DEFAULT_SECONDS)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        self.sock = sock


class _UnixPool(urllib3.connectionpool.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("etcd", maxsize=16, block=False)
        self._path = path

    def _new_conn(self) -> Any:
        return _UnixConnection(self._path, timeout=self.timeout.connect_timeout)


class _UnixAdapter(requests.adapters.HTTPAdapter):
    def __init__(self, path: str) -> None:
        self._unix_pool = _UnixPool(path)
        super().__init__()

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> Any:
        return self._unix_pool

    def close(self) -> None:
        self._unix_pool.close()
        super().close()


class UnixSession(requests.Session):
    """A session that only knows the socket, and takes its timeout from the call's deadline."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("http://", _UnixAdapter(path))

    def request(self, method: Any, url: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Make a request, with the time that the caller's block allows."""
        kwargs["timeout"] = seconds_allowed()
        streamed = kwargs.pop("stream", False)
        response = super().request(method, url, stream=True, **kwargs)
        if not streamed:
            _read(response)
        return response


def _read(response: requests.Response) -> None:
    """Read an answer, as requests does where it is not to be a stream.

    Raises:
        TooLongError: it has too many bytes; the rest is left unread.
    """
    parts, size = [], 0
    for part in response.iter_content(_PART_BYTES):
        parts.append(part)
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            response.close()
            raise TooLongError
    response._content = b"".join(parts)
