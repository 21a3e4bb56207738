"""Find members that are not at their recorded address: by name, by hint, by what others found.

An address is only a place to look at: that the member is there is shown by its certificate, at
each connection. There servers also show each other the next certificates that they go by until the
new addresses are recorded.

Invariants:
  * What others, or a person, say of a member's address is never believed, only tried.
  * What a server without a vote says of it is not even kept.
  * A round ends by its deadline, whoever does not answer.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from collective.daemon.member.credentials import Credentials
from collective.daemon.member.peers import Peers
from collective.daemon.member.recorded import certificates_of
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError, IdentityError, ProtocolError
from collective.files import read_private, write_atomically
from collective.model.names import is_ip_address, is_vacant
from collective.model.records import MemberRecord, Role
from collective.pki import Certificate, judge_certificate
from collective.protocol.messages import MOST_PLACES, WHEREABOUTS, Whereabouts
from collective.protocol.resolve import resolve

log = logging.getLogger(__name__)

#: In the folder of the state.
HINTS = "whereabouts.json"
_LONGEST = 200
_DIAL_SECONDS = 2.0


class PeerLocator:
    """Where each member may be, and where it was found."""

    def __init__(self, folder: Path) -> None:
        """Read the hints of former runs.

        Args:
            folder: of the state.
        """
        self._path = folder / HINTS
        self._lock = threading.Lock()
        self._hints = _read(self._path)
        #: By name: what was recorded when the member was found, and where it was.
        self._found: Mapping[str, tuple[str, str]] = {}
        self._shown: dict[str, Certificate] = {}
        #: The certificate by which our etcd goes until it is recorded, None for the recorded one.
        self.ours: Certificate | None = None

    @property
    def shown(self) -> Mapping[str, Certificate]:
        """The certificates that other voters' etcds show meanwhile, by fingerprint."""
        return {certificate.fingerprint: certificate for certificate in self._shown.values()}

    def found(self, members: Mapping[str, MemberRecord]) -> Mapping[str, str]:
        """Return where members were found in the last round.

        One whose record has got another address since is left out: it told that itself, and may
        not be any more where it was found. One whose address is another's now told nothing.

        Args:
            members: the records of now.
        """
        return {
            name: place
            for name, (recorded, place) in self._found.items()
            if name in members
            and (members[name].address == recorded or is_vacant(members[name].address))
        }

    def go_by(self, certificate: Certificate | None) -> None:
        """Note the certificate by which our etcd goes until it is recorded, None for that one."""
        self.ours = certificate

    def hint(self, places: Mapping[str, str]) -> None:
        """Remember where members may be; the newest hint for a member counts."""
        with self._lock:
            hints = {**self._hints, **places}
            if hints != self._hints and len(hints) <= MOST_PLACES:
                write_atomically(self._path, json.dumps(hints, sort_keys=True).encode())
                self._hints = hints

    def forget(self) -> None:
        """Drop all hints: every member is where its record says."""
        with self._lock:
            self._hints, self._found, self._shown, self.ours = {}, {}, {}, None
            self._path.unlink(missing_ok=True)

    def at(self, member: MemberRecord) -> MemberRecord:
        """Return a member's record with the address at which it was found, see ``found``."""
        place = self.found({member.name: member}).get(member.name, member.address)
        return replace(member, address=place)

    def look(self, runtime: MemberRuntime, here: str, hosts: Path | None) -> Mapping[str, str]:
        """Look for all other members, and tell those that were found where the others are.

        Args:
            runtime: this server.
            here: the address that it has now.
            hosts: a hosts(5) file, or None.

        Returns:
            The members that were found, and where.
        """
        others = [m for m in runtime.records_view.view.members.values() if m.name != runtime.name]
        with ThreadPoolExecutor(max(1, len(others)), "look") as pool:
            places = list(pool.map(lambda m: self._find(runtime, m, hosts), others))
            found = {m.name: a for m, a in zip(others, places, strict=True) if a is not None}
            self._found = {m.name: (m.address, found[m.name]) for m in others if m.name in found}
            list(pool.map(lambda m: self._tell(runtime, m, {**found, runtime.name: here}), others))
        return found

    def objections(
        self, runtime: MemberRuntime, places: Mapping[str, str]
    ) -> Mapping[str, str | None]:
        """Ask at addresses that were given whether the members are there.

        Args:
            runtime: this server.
            places: names of members, and where each may be.

        Returns:
            For each, None where it answers as that member; else why not, for people.
        """
        members = runtime.records_view.view.members
        there = [replace(members[name], address=address) for name, address in places.items()]
        with ThreadPoolExecutor(max(1, len(there)), "look") as pool:
            said = pool.map(lambda m: _objection(runtime.peers, m), there)
            return dict(zip(places, said, strict=True))

    def _find(
        self, runtime: MemberRuntime, member: MemberRecord, hosts: Path | None
    ) -> str | None:
        candidates = [member.address, self._hints.get(member.name, "")]
        try:
            candidates += resolve(member.name, hosts, _DIAL_SECONDS)
        except CollectiveError as error:
            log.debug("a member is not looked for by its name: %s", error)
        for address in dict.fromkeys(candidates):
            there = replace(member, address=address)
            if not is_ip_address(address):
                continue
            objection = _objection(runtime.peers, there)
            if objection is None:
                return address
            log.debug("a member was looked for: %s name=%s", objection, member.name)
        return None

    def _tell(
        self, runtime: MemberRuntime, member: MemberRecord, places: Mapping[str, str]
    ) -> None:
        """Tell a member that was found where everybody is, and hear what it knows."""
        if member.name not in self._found:
            return
        peer = runtime.peers.client(self.at(member))
        body = Whereabouts(places, self._own_pem(runtime.credentials)).to_wire()
        try:
            raw = peer.call("POST", WHEREABOUTS, body, _DIAL_SECONDS)
            self.hear(runtime, member, Whereabouts.from_wire(raw))
        except CollectiveError as error:
            log.debug("a member was not told where the others are: %s", error)
        finally:
            peer.close()

    def hear(self, runtime: MemberRuntime, member: MemberRecord, told: Whereabouts) -> Whereabouts:
        """Take up what a member says, and answer with what is known here.

        Where members may be is remembered of a voter: another could overwrite what an
        administrator has told, and have files written at will.

        Raises:
            ProtocolError: its certificate cannot be that of its etcd.
        """
        if member.role is Role.VOTER:
            known = runtime.records_view.view.members.keys() - {runtime.name}
            places = {n: a for n, a in told.places.items() if n in known and _is_place(a)}
            self.hint(places)
        self._take(runtime, member, told.certificate)
        found = self.found(runtime.records_view.view.members)
        return Whereabouts({**self._hints, **found}, self._own_pem(runtime.credentials))

    def _own_pem(self, credentials: Credentials) -> str:
        """Return the certificate by which our etcd goes, or is to go as soon as it must."""
        return (self.ours or credentials.identity).pem

    def _take(self, runtime: MemberRuntime, member: MemberRecord, pem: str) -> None:
        """Take up the certificate by which a voter goes, of which its recorded one has told."""
        if not pem or not member.is_peer:
            self._shown.pop(member.name, None)
            return
        certificate = judge_certificate(pem, member.name)
        if certificate.fingerprint in runtime.records_view.view.certificates:
            self._shown.pop(member.name, None)
            return
        others = certificates_of(
            m for n, m in runtime.records_view.view.members.items() if n != member.name
        )
        if certificate.serial in {other.serial for other in others.values()}:
            raise ProtocolError(f"the certificate of {member.name} has another member's number")
        self._shown[member.name] = certificate


def _objection(peers: Peers, member: MemberRecord) -> str | None:
    """Return why a member's door is not at an address, None where it is.

    It is, where a certificate of the member's is shown. One that has moved has another one than
    before, and who was off or late does not know it yet.
    """
    try:
        try:
            _open(peers, member)
        except IdentityError:
            if not peers.ask_as_stranger(member).recognised:
                raise
            _open(peers, member)
        return None
    except IdentityError:
        return "another server answers there"
    except CollectiveError as error:
        return error.message


def _open(peers: Peers, member: MemberRecord) -> None:
    peer = peers.client(member)
    try:
        peer.open(_DIAL_SECONDS)
    finally:
        peer.close()


def _is_place(address: object) -> bool:
    return isinstance(address, str) and len(address) < 64 and is_ip_address(address)


def _read(path: Path) -> dict[str, str]:
    """Return the hints of a file; a broken one is as good as none."""
    try:
        return read_hints(read_private(path))
    except (FileNotFoundError, CollectiveError):
        return {}


def read_hints(data: bytes) -> dict[str, str]:
    """Return where members may be, as it was written down.

    Raises:
        ProtocolError: it is broken.
    """
    try:
        return {str(name): str(address) for name, address in json.loads(data).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"it cannot be read: {error!r}"[:_LONGEST]) from None
