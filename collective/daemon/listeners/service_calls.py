"""Calls from software on one server to software on another, through the member door.

The caller's daemon opens the way to the other server's door, with its own certificate; the daemon
there names the caller to whoever serves the call, on a unix socket. What passes then, the daemons
do not look at (``collective.protocol.frames``).

Invariants:
  * Who is called hears the caller's name from its own daemon, that has checked the certificate
    against the records; nothing that the caller sends can change it.
  * A call to or from a server that is deleted is cut with its other connections.
  * Calls never take all places of the member door: what keeps the collective going has room.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import InputError, NoServiceError, ProtocolError, RefusedError
from collective.files import make_private_folder
from collective.model.names import check_service_name, parse_server_name
from collective.model.records import MemberRecord
from collective.protocol import messages
from collective.protocol.door import Door
from collective.protocol.frames import MOST_SECONDS, Caller, greeting
from collective.protocol.tunnel import ToDoor, ToSocket
from collective.protocol.web import Request, Response

#: Calls to this server that are open at a time, and as many from it.
MOST_OPEN = 256
#: Of these with any one server: who leaks calls locks nobody else out.
MOST_OPEN_WITH_ONE = 64

_MODE = 0o600
_OPEN_SECONDS = 5.0


class ServiceCalls:
    """The calls that are open here, those to this server and those from it."""

    def __init__(self, server: CollectiveServer) -> None:
        self._server = server
        self._incoming = OpenCalls("from")
        self._outgoing = OpenCalls("to")

    def open_door(self) -> None:
        """Listen for software on this server.

        Raises:
            AccessError, InputError: the socket cannot be made.
        """
        layout = self._server.layout
        make_private_folder(Path(layout.calls))
        door = Door("calls", self.outgoing)
        self._server.doors.listen_unix(door, Path(layout.calls_door), _MODE)

    def incoming(self, runtime: MemberRuntime, member: MemberRecord, request: Request) -> Response:
        """Let a member through to whoever serves its call here.

        Raises:
            InputError, ProtocolError, RefusedError: it cannot be let through.
        """
        (service,), seconds = _names(request, 1), _seconds(request)
        certificate = request.peer.certificate
        assert certificate is not None
        caller = Caller(member.name, member.address, certificate.fingerprint)
        return Response(101, self._to_service(runtime, service, caller, seconds, self._incoming))

    def outgoing(self, request: Request) -> Response:
        """Let software on this server through to another server, or to other software here.

        Raises:
            InputError, ProtocolError, RefusedError: it cannot be let through.
            RemovedError, LostError, DaemonError: this server is in no collective, or not now.
        """
        (name, service), seconds = _names(request, 2), _seconds(request)
        runtime = self._server.runtime
        if runtime is None:
            raise self._server.why_idle()
        wanted = parse_server_name(name)
        if wanted == runtime.name:
            caller = Caller(
                runtime.name, runtime.plan.address, runtime.credentials.identity.fingerprint
            )
            return Response(
                101, self._to_service(runtime, service, caller, seconds, self._outgoing)
            )
        member = runtime.records_view.view.members.get(wanted)
        if member is None:
            known = ", ".join(sorted(runtime.records_view.view.members))
            raise InputError(f"{wanted} is no member of this collective, which has {known}")
        query = f"?format={messages.FORMAT}&seconds={seconds:.3f}"
        way = runtime.peers.way_to(member)
        done = self._outgoing.enter(wanted)
        target = f"{messages.CALL}/{service}{query}"
        return Response(101, ToDoor(way, target, seconds, min(seconds, _OPEN_SECONDS), done))

    def _to_service(
        self,
        runtime: MemberRuntime,
        service: str,
        caller: Caller,
        seconds: float,
        places: OpenCalls,
    ) -> ToSocket:
        absent = NoServiceError(
            f"nobody on {runtime.name} serves {service!r}", "is the software that does so running?"
        )
        path = Path(self._server.layout.calls) / service
        greeted = greeting(caller, elapsed() + seconds)
        return ToSocket(path, greeted, absent, seconds, places.enter(caller.name))


class OpenCalls:
    """How many calls are open one way, all together and with each server."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def enter(self, name: str) -> Callable[[], None]:
        """Take a place for a call with a server, and return what gives it back.

        Raises:
            RefusedError: all are taken.
        """
        with self._lock:
            for taken, most, whose in (
                (self._taken.total(), MOST_OPEN, "other servers"),
                (self._taken[name], MOST_OPEN_WITH_ONE, name),
            ):
                if taken >= most:
                    raise RefusedError(
                        f"{most} calls {self._what} {whose} are open, and no more can be",
                        "end some; one call can take many messages",
                    )
            self._taken[name] += 1
        return lambda: self._leave(name)

    def _leave(self, name: str) -> None:
        with self._lock:
            self._taken[name] -= 1


def _names(request: Request, count: int) -> list[str]:
    """Return the names that a path holds, the last of which is that of a service."""
    names = request.path.removeprefix(messages.CALL + "/").split("/")
    if request.method != "POST" or len(names) != count:
        raise InputError("there is nothing at this path")
    check_service_name(names[-1])
    return names


def _seconds(request: Request) -> float:
    """Return how long a call may last.

    Raises:
        ProtocolError: it does not say, or speaks another protocol.
    """
    try:
        version, seconds = int(request.query["format"]), float(request.query["seconds"])
    except (KeyError, ValueError):
        raise ProtocolError("a call has no format, or no deadline") from None
    messages.check_format({"format": version})
    if not 0 < seconds <= MOST_SECONDS:
        raise ProtocolError("a call has no good deadline")
    return seconds
