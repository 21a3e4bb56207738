"""Close what a deleted server still has open to our etcd, which does not do that itself.

etcd asks the revocation list at each handshake, and closes its own streams to a removed member. A
connection that the server opened for something else would stay open, and whoever has one can
speak for any member. Such a connection comes from an address that is no member's.

It does not look after our own door: ``server`` closes its connections as records change.

Invariants:
  * etcd is restarted in ``turn`` only, and only where such a connection stays open.
"""

from __future__ import annotations

import ipaddress
import logging
import threading

from collective.daemon.clock import elapsed
from collective.daemon.node import Node
from collective.daemon.turn import turn
from collective.errors import CollectiveError
from collective.model.view import View
from collective.protocol.interfaces import connected_to

log = logging.getLogger(__name__)

_IDLE_SECONDS = 5.0
_GOES_BY_ITSELF_SECONDS = 1.0
_POLL_SECONDS = 0.05
_TURN_SECONDS = 10.0


def strangers(view: View, connected: frozenset[str]) -> frozenset[str]:
    """Return the addresses among those connected that are no member's.

    A collective on loopback addresses cannot tell: there all come from one address.
    """
    known = {member.address for member in view.members.values()}
    return frozenset(
        a for a in connected if a not in known and not ipaddress.ip_address(a).is_loopback
    )


class Cutter:
    """A thread that acts when a removal is made."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cutter", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: a record changed."""
        self._wake.set()

    def stop(self) -> None:
        """End; what is under way is finished first."""
        self._stopped.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._round()
            except CollectiveError as error:
                log.warning("connections of a deleted server are not cut yet: %s", error)
            except Exception:
                log.exception("connections of a deleted server could not be cut")
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()

    def _round(self) -> None:
        change = self._node.replica.view.change
        if change is None or not change.done or not self._node.is_to_cut(change):
            return
        if not self._vanish():
            log.warning("etcd is restarted to cut off name=%s", change.name)
            with turn(self._node, f"cutting off {change.name}", _TURN_SECONDS):
                self._node.restart_etcd()
        self._node.has_cut(change)

    def _vanish(self) -> bool:
        """Give etcd a moment to close what it closes by itself."""
        deadline = elapsed() + _GOES_BY_ITSELF_SECONDS
        while elapsed() < deadline:
            view, port = self._node.replica.view, self._node.plan.peer_port
            if not strangers(view, connected_to(port)):
                return True
            if self._stopped.wait(_POLL_SECONDS):
                return True
        return False
