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
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from collective.daemon.addresses.readdress import is_dialled_right
from collective.daemon.certificates.turn import turn
from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.lives import certified_here
from collective.daemon.member.peer_locator import PeerLocator
from collective.daemon.member.records_view import RecordsView
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership.learner import members_of
from collective.errors import CollectiveError, EtcdError, RefusedError
from collective.etcd.api import hex_id
from collective.etcd.arguments import CLIENT_SOCKET
from collective.files import read_private, write_atomically
from collective.model.names import MOST_ADDRESSES, vacant_address
from collective.policy.addressing import owner_of
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
_RENEW_SECONDS = 0.5
_IN_TURN_SECONDS = 2.0


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
        #: All that a place has led to, over this detour.
        self._led: dict[Place, dict[Place, None]] = {}
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
        # So may those be that have not heard yet of a change that is recorded.
        moved = bool(runtime.plan.moving_to) or (here != recorded and not is_local(recorded))
        elsewhere = [n for n, a in found.items() if n in voters and a != voters[n].address]
        if not strength.holds:
            return self.is_on
        if not (moved or elsewhere or self.is_on):
            return False
        self._refuse_mixed(runtime, {**found, runtime.name: here})
        shown = self._locator.shown
        if runtime.etcd.detoured and self._runtime is runtime and shown.keys() == self._shown:
            self.renew(runtime)
            return True
        self._begin(runtime, here, _ways(runtime.records_view, found))
        log.warning(
            "the others were found, and etcd is restarted to reach them by a detour: %s",
            " ".join(f"{name}={address}" for name, address in sorted(found.items())),
        )
        return True

    def _refuse_mixed(self, runtime: MemberRuntime, places: Mapping[str, str]) -> None:
        """Refuse a detour by which an etcd may get what was sent to another.

        Where members have changed places, an address means one member to an etcd that is behind,
        and another to the others.

        Raises:
            RefusedError: this etcd would take it for its own.
        """
        if runtime.ignores_strays:
            return
        recorded = {m.address: n for n, m in runtime.records_view.view.members.items()}
        for name, place in sorted(places.items()):
            owner = recorded.get(place, name)
            if owner != name:
                raise RefusedError(
                    f"etcd is not led to members that changed places: {name} is at {place}, which "
                    f"is recorded for {owner}, and etcd before 3.4.33 and 3.5.14 confuses them",
                    "give each an address that none had, and then the one that it is to have; or "
                    "install a newer etcd",
                )

    def _prepare(self, runtime: MemberRuntime, here: str) -> None:
        """Have a certificate that names the address of now, for the others to hear of."""
        names = names_for(runtime, here)
        if owner_of(runtime.records_view.view, here, runtime.name) is not None:
            # Who has our former address may be recorded there before we are recorded here.
            names = [*names, vacant_address(runtime.name)][-MOST_ADDRESSES:]
        ours = self._locator.ours
        if self.is_on and ours is not None and set(names) <= set(ours.addresses):
            return  # the others have heard of that one, whatever is to be recorded meanwhile
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
        for place, target in ways.items():
            self._led.setdefault(place, {})[target] = None
        runtime.trust.let_in_by_detour(shown)
        leaf = None if self._locator.ours is None else self._leaf
        runtime.etcd.take_detour({"HTTPS_PROXY": detour.url, "NO_PROXY": _STRAIGHT}, leaf)
        threading.Thread(target=self._keep_up, args=(detour,), name="ways", daemon=True).start()

    def _keep_up(self, detour: TunnelProxy) -> None:
        """Follow the others to their new addresses, also while this server waits for its own."""
        while self._detour is detour and self._runtime is not None:
            try:
                self.renew(self._runtime)
            except CollectiveError as error:
                log.warning("the detour is not renewed: %s", error)
            self._runtime.follow(self._runtime.records_view.view)
            self._runtime.stopping.wait(_RENEW_SECONDS)

    def renew(self, runtime: MemberRuntime) -> None:
        """Lead to the addresses that are recorded meanwhile, too."""
        detour = self._detour
        if detour is not None:
            self._show_recorded(runtime)
            # What etcd has stored may be older than the records: old ways stay.
            ways = _ways(runtime.records_view, self._found(runtime))
            dialled = _dialled(runtime, ways)
            for place, target in ways.items():
                self._led.setdefault(place, {})[target] = None
            if not dialled and runtime.ignores_strays:
                # An etcd that is behind may mean who was there before: each of them in turn.
                ways = {p: _in_turn(tuple(found)) for p, found in self._led.items()}
            self._ways = {**self._ways, **ways, **dialled}
            detour.lead(self._ways)

    def _show_recorded(self, runtime: MemberRuntime) -> None:
        """Have etcd show the certificate in use, once that took the place of what was prepared.

        That one is recorded. The one that was shown until then is not, maybe, and is let in by
        nobody who starts from now on. etcd reads the file at each handshake.
        """
        if self._locator.ours is not None and runtime.credentials.next is None:
            write_atomically(self._leaf, read_private(runtime.credentials.identity_file))
            self._locator.go_by(None)

    def end_if_done(self, runtime: MemberRuntime) -> None:
        """Go back to the straight way, if every voter is where etcd dials, and it may restart."""
        if self._detour is None or not _all_at_home(runtime, self._found(runtime)):
            return
        try:
            if not is_dialled_right(runtime):
                return
            with turn(runtime, "the straight way to the others", _TURN_SECONDS):
                log.info("etcd is restarted to go the straight way to the others again")
                runtime.etcd.take_detour({}, None, wait=True)
        except CollectiveError as error:
            log.info("etcd keeps to its detour for now: %s", error)
            return
        self._end()
        log.info("etcd reaches all others at their recorded addresses again")

    def _end(self) -> None:
        self.stop()
        self._led = {}
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
    members = records_view.view.members.values()
    there = {m.name: (found.get(m.name, m.address), m.peer_port) for m in members}
    # Where members have changed places, one is where another is recorded: the record counts.
    ways = {target: target for target in there.values()}
    return ways | {(m.address, m.peer_port): there[m.name] for m in members}


def _in_turn(targets: Sequence[Place]) -> Place:
    """Return one of some targets, another one every two seconds."""
    return targets[int(elapsed() / _IN_TURN_SECONDS) % len(targets)]


def _dialled(runtime: MemberRuntime, ways: Mapping[Place, Place]) -> dict[Place, Place]:
    """Return where to lead what etcd dials now, which may be what was recorded before.

    While members change places one has been recorded where etcd has another one still.
    """
    members = {m.member_id: m for m in runtime.records_view.view.voters.values()}
    try:
        listed = members_of(runtime.gateway)
    except EtcdError:
        return {}
    urls = {
        members[hex_id(m.id)]: urlsplit(m.peer_urls[0])
        for m in listed
        if hex_id(m.id) in members and m.peer_urls
    }
    return {
        (url.hostname or "", member.peer_port): ways[member.address, member.peer_port]
        for member, url in urls.items()
    }


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
