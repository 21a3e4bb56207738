"""etcd's client socket on a server that has no etcd.

So software there finds the store where it is on every other server, and goes on over a promotion
or demotion. It decides nothing: what may pass, the voters say (``policy.relaying``).

Invariants:
  * Its socket lies in the folder that guards etcd's, which only the daemon's user can enter.
  * What is answered means what it means on etcd's own socket: 503 where it may have happened,
    or nobody was there; another status where nothing happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from collective.errors import EtcdError, EtcdUnavailableError, InputError
from collective.etcd.api import EtcdApi, Lines
from collective.etcd.deadline import within
from collective.files import make_private_folder
from collective.model.layout import Layout
from collective.protocol.door import Door, DoorServer, Limits
from collective.protocol.web import Request, Response, json_response

log = logging.getLogger(__name__)

_API, _WATCH = "/v3", "/watch"
_SECONDS = 10.0
_SILENCE_SECONDS = 86400.0
_MODE = 0o600
# What etcd takes (1.5 MiB), in base64. Voters let one member have a few more streams than these,
# and who is refused one leaves that voter (``remote_etcd``).
_LIMITS = Limits(body_bytes=3 << 20, streams=Limits.streams_per_member - 4)


class EtcdSocket:
    """The socket, for one life."""

    def __init__(self, doors: DoorServer, layout: Layout, calls: EtcdApi) -> None:
        """Open it.

        Args:
            doors: serves it.
            layout: where etcd's socket is.
            calls: the way to the voters.

        Raises:
            AccessError, InputError: the socket cannot be made.
        """
        self._doors = doors
        self._door = Door("store", handler(calls), _LIMITS, kind="store")
        make_private_folder(Path(layout.etcd_run))
        doors.listen_unix(self._door, Path(layout.etcd_socket), _MODE)

    def close(self) -> None:
        """Close it, and cut whoever is connected."""
        self._doors.close_door(self._door)


def handler(calls: EtcdApi) -> Callable[[Request], Response]:
    """Return what answers on the socket."""

    def handle(request: Request) -> Response:
        if request.method != "POST" or not request.path.startswith(_API + "/"):
            raise InputError("there is nothing at this path")
        path, body = request.path.removeprefix(_API), request.json()
        try:
            with within(_SECONDS):
                if path == _WATCH:
                    stream = calls.lines(path, body, _SILENCE_SECONDS)
                    return Response(200, _Passed(stream), "application/x-ndjson")
                return json_response(200, calls.call(path, body))
        except EtcdUnavailableError as error:
            return json_response(503, {"error": error.message, "code": 14})
        except EtcdError as error:
            return json_response(400, {"error": error.message, "code": 9})

    return handle


class _Passed:
    """The lines of a watch, as they come; an empty one is passed on as a sign of life."""

    def __init__(self, stream: Lines) -> None:
        self._stream = stream
        self._lines = iter(stream)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._lines) + b"\n"
        except EtcdError as error:
            # The end of the stream says the same, and who listens begins again.
            log.debug("a watch ends: %s", error)
            raise StopIteration from None

    def close(self) -> None:
        """End the watch."""
        self._stream.close()
