"""Bring the quorum back after servers moved while they were off.

Which addresses etcd dials can only be changed with a quorum, and the etcds cannot find each other
to have one. So until then this server's etcd goes by a detour (``protocol.tunnel_proxy``) to where
the others were found (``peer_locator``), with the next certificate of this server, which names the
former address and those of now. Servers show each other these over the door, where each is
known by its recorded one; so etcd lets in the very voters that it let in before, and nobody else.

Each server then changes its address in the usual way (``keeper``), and goes back to the straight
way when everybody is where etcd dials.

Invariants:
  * A detour is begun only without a leader, when with those that were found there is a quorum.
  * The daemon's door keeps to its recorded certificate, by which the others know this server.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from collective.daemon.certificates.turn import turn
from collective.daemon.lifecycle.lives import certified_here
from collective.daemon.member.peer_locator import PeerLocator
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError
from collective.etcd.arguments import CLIENT_SOCKET
from collective.files import read_private, write_atomically
from collective.model.names import MOST_ADDRESSES
from collective.policy.membership import Strength
from collective.protocol.interfaces import is_local
from collective.protocol.tunnel_proxy import Place, TunnelProxy

log = logging.getLogger(__name__)

_LEAF = "detour.pem"
# etcd's JSON gateway dials its own client socket, and gRPC would ask the proxy for that as well.
# It takes unix://etcd:1 for a host and a port, and this is how NO_PROXY names them (x/net/http/
# httpproxy; tried on 3.4.23 and 3.5.1).
_STRAIGHT = "[unix://{}]:{}".format(*CLIENT_SOCKET.split(":"))
_TURN_SECONDS = 5.0


class AddressRecovery:
    """The detour of one server."""

    def __init__(self, locator: PeerLocator, pki: Path) -> None:
        """Prepare; nothing runs yet.

        Args:
            locator: where the others are.
            pki: the folder of the certificates.
        """
        self._locator = locator
        self._leaf = pki / _LEAF
        self._detour: TunnelProxy | None = None
        self._runtime: MemberRuntime | None = None
        self._ways: Mapping[Place, Place] = {}
        self._shown = frozenset[str]()

    @property
    def is_on(self) -> bool:
        """Whether etcd goes by a detour now."""
        return self._detour is not None

    def seek(self, runtime: MemberRuntime, here: str, hosts: Path | None) -> bool:
        """Look for the others, and begin or renew the detour to them.

        Args:
            runtime: this server, whose etcd knows no leader.
            here: the address that it has now.
            hosts: a hosts(5) file, or None.

        Returns:
            Whether etcd goes by a detour now.

        Raises:
            CollectiveError: a file cannot be written.
        """
        self._prepare(runtime, here)
        found = self._locator.look(runtime, here, hosts)
        voters = runtime.records_view.view.voters
        strength = Strength(len(voters), len(voters.keys() & (found.keys() | {runtime.name})))
        recorded = runtime.records_view.view.members[runtime.name].address
        # Where the former address is here still, the others' etcds reach this one as before.
        moved = here != recorded and not is_local(recorded)
        elsewhere = [n for n, a in found.items() if n in voters and a != voters[n].address]
        if not strength.holds or not (moved or elsewhere):
            return self.is_on
        shown = self._locator.shown
        if self._detour is not None and self._runtime is runtime and shown.keys() == self._shown:
            self.renew(runtime)
            return True
        self._begin(runtime, here, _ways(runtime.records_view, found))
        log.warning(
            "the others were found, and etcd is restarted to reach them by a detour: %s",
            " ".join(f"{name}={address}" for name, address in sorted(found.items())),
        )
        return True

    def _prepare(self, runtime: MemberRuntime, here: str) -> None:
        """Have a certificate that names the address of now, for the others to hear of."""
        names = names_for(runtime, here)
        if set(names) <= set(runtime.credentials.identity.addresses):
            self._locator.go_by(None)
            return
        self._locator.go_by(runtime.credentials.prepare_next(names))
        write_atomically(self._leaf, read_private(runtime.credentials.next_file))

    def _begin(self, runtime: MemberRuntime, here: str, ways: Mapping[Place, Place]) -> None:
        self.stop()
        detour = TunnelProxy(ways)
        detour.start()
        shown = self._locator.shown
        self._detour, self._runtime, self._ways = detour, runtime, ways
        self._shown = frozenset(shown)
        runtime.trust.let_in_by_detour(shown)
        leaf = None if self._locator.ours is None else self._leaf
        runtime.etcd.take_detour({"HTTPS_PROXY": detour.url, "NO_PROXY": _STRAIGHT}, leaf)

    def renew(self, runtime: MemberRuntime) -> None:
        """Lead to the addresses that are recorded meanwhile, too."""
        if self._detour is not None:
            # What etcd has stored may be older than the records: old ways stay.
            self._ways = {**self._ways, **_ways(runtime.records_view, self._found(runtime))}
            self._detour.lead(self._ways)

    def end_if_done(self, runtime: MemberRuntime) -> None:
        """Go back to the straight way, if every voter is where etcd dials, and it may restart."""
        if self._detour is None or not _all_at_home(runtime, self._found(runtime)):
            return
        try:
            runtime.trust.let_in_by_detour({})
            with turn(runtime, "the straight way to the others", _TURN_SECONDS):
                log.info("etcd is restarted to go the straight way to the others again")
                runtime.etcd.take_detour({}, None, wait=True)
        except CollectiveError as error:
            log.info("etcd keeps to its detour for now: %s", error)
            return
        self.stop()
        self._leaf.unlink(missing_ok=True)
        self._locator.forget()

    def _found(self, runtime: MemberRuntime) -> Mapping[str, str]:
        return self._locator.found(runtime.records_view.view.members)

    def stop(self) -> None:
        """Close the detour."""
        detour, self._detour = self._detour, None
        if detour is not None:
            detour.stop()


def names_for(runtime: MemberRuntime, address: str) -> list[str]:
    """Return what the certificate of a server names while its address changes: both of them."""
    former = runtime.plan.address
    named = [*certified_here(address), former, *runtime.credentials.identity.addresses]
    return list(dict.fromkeys(named))[:MOST_ADDRESSES]


def _ways(records_view: RecordsView, found: Mapping[str, str]) -> dict[Place, Place]:
    """Return where to lead what etcd dials, be it a recorded address or the one of now."""
    ways: dict[Place, Place] = {}
    for member in records_view.view.members.values():
        target = (found.get(member.name, member.address), member.peer_port)
        ways |= {(member.address, member.peer_port): target, target: target}
    return ways


def _all_at_home(runtime: MemberRuntime, found: Mapping[str, str]) -> bool:
    """Tell whether everybody who was found, and this server, is where the records say.

    Who was not found, and comes later, finds the others there.
    """
    members = runtime.records_view.view.members
    ours = members.get(runtime.name)
    return (
        ours is not None
        and ours.address == runtime.plan.address
        and runtime.plan.moving_to in ("", runtime.plan.address)
        and all(members[n].address == a for n, a in found.items() if n in members)
    )
