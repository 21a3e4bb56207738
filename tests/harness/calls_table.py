"""Every method of a call between servers and of what serves it, as ``api_table`` has the rest.

These need a daemon, which carries the calls.

Invariants:
  * A call is begun while its server is in trouble, with all the time that there is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from collective.calls.call import Call, Handler, ServedCall
from collective.calls.service import Service
from collective.errors import CollectiveError
from collective.handle import Collective
from tests.harness.api_table import AT_ONCE, Prepare, Run, name

CLASSES = (Call, ServedCall, Service)
#: More than what the sockets in between take in.
_MUCH = b"." * (1 << 20)
_TIMES = 16
_LONG_SECONDS = 60.0


def _serve(handle: Collective, handler: Handler) -> str:
    service = "s" + name()
    handle.serve(service, handler)
    return service


def _hang(served: ServedCall) -> None:
    """Read nothing and say nothing, until the caller has gone."""
    while not served.line.is_gone and served.seconds_left > 0:
        threading.Event().wait(0.02)


def _call(use: Callable[[Call, float], object]) -> Prepare:
    """Return what tries an end of a call whose other end hangs."""

    def prepare(handle: Collective, _: object) -> Run:
        service = _serve(handle, _hang)

        def run(seconds: float) -> None:
            with closing(handle.call("mgt1", service, seconds=seconds)) as call:
                use(call, seconds)

        return run

    return prepare


def _served(use: Callable[[ServedCall], object]) -> Prepare:
    """Return what tries the served end of a call whose caller hangs, and waits for it."""

    def prepare(handle: Collective, _: object) -> Run:
        done = threading.Event()

        def handler(served: ServedCall) -> None:
            try:
                use(served)
            finally:
                done.set()

        service = _serve(handle, handler)

        def run(seconds: float) -> None:
            with closing(handle.call("mgt1", service, seconds=seconds)):
                done.wait(_LONG_SECONDS)

        return run

    return prepare


def _service(use: Callable[[Service], object]) -> Prepare:
    def prepare(handle: Collective, _: object) -> Run:
        service = handle.serve("s" + name(), _hang)
        return lambda _: use(service)

    return prepare


def _send_much(call: Call) -> None:
    for _ in range(_TIMES):
        call.send(_MUCH)


#: As ``api_table.CALLS``.
CALLS: dict[str, tuple[Prepare, float | None]] = {
    "Call.seconds_left": (_call(lambda c, _: c.seconds_left), None),
    "Call.start": (_call(lambda c, _: c.start()), None),
    "Call.send": (_call(lambda c, _: _send_much(c)), None),
    "Call.finish": (_call(lambda c, _: c.finish()), None),
    "Call.receive": (_call(lambda c, s: c.receive(s)), None),
    "Call.wait_done": (_call(lambda c, _: c.wait_done()), None),
    "Call.close": (_call(lambda c, _: c.close()), None),
    "Call.framed": (_call(lambda c, _: c.framed(b"")), None),
    "Call.farewell": (_call(lambda c, _: c.farewell()), None),
    "ServedCall.end": (_served(lambda c: c.end(CollectiveError("it failed"))), None),
    "ServedCall.send": (_served(_send_much), None),
    "ServedCall.receive": (_served(lambda c: c.receive()), None),
    "Service.close": (_service(lambda v: v.close()), AT_ONCE),
    "Service.is_closed": (_service(lambda v: v.is_closed), AT_ONCE),
    "Service.beat": (_service(lambda v: v.beat()), AT_ONCE),
    "Service.listen_again": (_service(lambda v: v.listen_again()), AT_ONCE),
    "Service.after_fork": (_service(lambda v: v.after_fork()), AT_ONCE),
}
#: What a served call has of ``Call``, and tries again since it is the other end.
INHERITED = {"ServedCall.send", "ServedCall.receive"}
