"""All calls and services of one handle, and the thread that keeps them alive.

Invariants:
  * Closing it ends all of them; what a handler still does is left to end by itself.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from time import monotonic
from weakref import WeakSet

from collective.calls.call import Call, Handler, dial
from collective.calls.protocol_state import BEAT_SECONDS
from collective.calls.service import MOST, Service
from collective.errors import InputError
from collective.model.closing import Closing, closed_handle
from collective.model.forks import tell_after_fork
from collective.model.layout import Layout
from collective.model.names import check_service_name, parse_server_name
from collective.protocol.frames import MOST_SECONDS

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class CallManager(Closing):
    """Makes calls, and serves them."""

    def __init__(self, layout: Layout) -> None:
        """Prepare; nothing is opened yet.

        Args:
            layout: where the daemon's sockets are.
        """
        self._layout = layout
        self._lock = threading.Lock()
        self._calls: WeakSet[Call] = WeakSet()
        self._services: set[Service] = set()
        self._ended, self._forked = threading.Event(), False
        self._keeper: threading.Thread | None = None
        tell_after_fork(self)

    def call(self, server: str, service: str, seconds: float) -> Call:
        """See ``Collective.call``."""
        wanted = parse_server_name(server)
        check_service_name(service)
        check_seconds(seconds)
        self._keep()
        made = dial(Path(self._layout.calls_door), wanted, service, seconds)
        try:
            with self._lock:
                self._check_open()
                self._calls.add(made)
            made.start()
        except BaseException:
            made.close()
            raise
        return made

    def serve(self, service: str, handler: Handler, most: int = MOST) -> Service:
        """See ``Collective.serve``."""
        check_service_name(service)
        if most < 1:
            raise InputError(f"{most} calls of {service} at a time are none, expected 1 or more")
        self._keep()
        with self._lock:
            self._check_open()
            made = Service(Path(self._layout.calls), service, handler, most)
            self._services.add(made)
        return made

    def close(self) -> None:
        """End all calls and services."""
        with self._lock:
            self._ended.set()
            calls, services = list(self._calls), list(self._services)
        for each in (*services, *calls):
            each.close()

    def after_fork(self) -> None:
        """Close all sockets in a child process; nothing is unlocked there, or waited for."""
        # Their locks may have been held by a thread that is not there any more.
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._ended.set()
        self._forked = True
        for call in self._calls:
            call.line.after_fork()
        for service in self._services:
            service.after_fork()

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise closed_handle(self._forked)

    def _keep(self) -> None:
        """Have a thread that keeps calls alive.

        Raises:
            ClosedError: the handle was closed.
        """
        with self._lock:
            self._check_open()
            if self._keeper is None:
                keeper = threading.Thread(target=self._beat, name="calls", daemon=True)
                keeper.start()
                self._keeper = keeper

    def _beat(self) -> None:
        beaten = monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            with self._lock:
                self._services = {each for each in self._services if not each.is_closed}
                work = [service.listen_again for service in self._services]
                if monotonic() - beaten >= BEAT_SECONDS:
                    beaten = monotonic()
                    work += [call.line.beat for call in self._calls]
                    work += [service.beat for service in self._services]
            for look_after in work:
                try:
                    look_after()
                except Exception:
                    log.exception("a call could not be looked after")
            # A call that nobody holds any more must not live on here.
            work, look_after = [], _nothing


def _nothing() -> None:
    """Do nothing."""


def check_seconds(seconds: float) -> None:
    """Refuse what is no time that a call may last.

    Raises:
        InputError: it is none.
    """
    if not 0 < seconds <= MOST_SECONDS:
        raise InputError(
            f"a call cannot last {seconds!r} seconds, expected above 0, up to {MOST_SECONDS:.0f}"
        )
