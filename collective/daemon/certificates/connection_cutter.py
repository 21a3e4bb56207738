"""Close what a deleted server still has open to our etcd, which does not do that itself.

etcd asks the revocation list at each handshake, and closes its own streams to a removed member. A
connection that the server opened for something else would stay open, and whoever has one can
speak for any member. Such a connection comes from an address that no voter has.

It does not look after our own door: ``server`` closes its connections as records change.

Invariants:
  * etcd is restarted in ``turn`` only, and only where such a connection stays open, or where a
    certificate cannot be named in the revocation list.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Mapping, Sequence

from collective.daemon.certificates.turn import turn
from collective.daemon.clock import elapsed
from collective.daemon.member.worker import Worker
from collective.model.view import View
from collective.protocol.interfaces import connected_to

log = logging.getLogger(__name__)

_GOES_BY_ITSELF_SECONDS = 1.0
_POLL_SECONDS = 0.05
_TURN_SECONDS = 10.0


def strangers(
    view: View, told: Mapping[str, Sequence[str]], connected: Iterable[str]
) -> frozenset[str]:
    """Return the addresses among those connected that are no voter's and no learner's.

    A collective on loopback addresses cannot tell: there all come from one address.

    Args:
        view: whose members have the addresses in their records.
        told: more addresses of servers by name, as these say; only those of such members count.
        connected: where connections come from.
    """
    peers = {name for name, member in view.members.items() if member.is_peer}
    known = {view.members[name].address for name in peers}
    for name in peers & told.keys():
        known.update(told[name])
    return frozenset(
        a for a in connected if a not in known and not ipaddress.ip_address(a).is_loopback
    )


class ConnectionCutter(Worker):
    """A thread that acts when a server loses its vote, or is put out."""

    name = "cutter"
    idle_seconds = eager_seconds = 5.0
    level = logging.WARNING

    def _round(self) -> bool:
        former = self._runtime.etcd_trust.to_cut()
        if not former:
            return False
        if former & self._runtime.etcd_trust.unlisted or not self._vanish():
            names = ", ".join(sorted({self._runtime.etcd_trust.name_of(f) for f in former}))
            log.warning("etcd is restarted to cut off names=%s", names)
            with turn(self._runtime, f"cutting off {names}", _TURN_SECONDS):
                self._runtime.etcd.restart()
        self._runtime.etcd_trust.has_cut(former)
        return False

    def _vanish(self) -> bool:
        """Give etcd a moment to close what it closes by itself."""
        deadline = elapsed() + _GOES_BY_ITSELF_SECONDS
        while elapsed() < deadline:
            view, port = self._runtime.records_view.view, self._runtime.plan.peer_port
            said = self._runtime.detector.last_statuses()
            told = {name: status.addresses for name, status in said.items()}
            if not strangers(view, told, connected_to(port)):
                return True
            if self._stopped.wait(_POLL_SECONDS):
                return True
        return False
