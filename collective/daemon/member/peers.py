"""The other members as this server dials them: by which certificates each is believed.

Whom this server lets in, ``member_trust`` decides.

Invariants:
  * A certificate that is not recorded is believed only while it is recognised: its server has
    proven that it took the place of one that is, and nothing was recorded since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from collective.daemon.member import recognition
from collective.daemon.member.access import objection
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.recognition import Found
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.protocol.peer import Check, PeerClient
from collective.protocol.tunnel import Way

log = logging.getLogger(__name__)

_RELAYED_BYTES = 64 << 20


class Peers:
    """The ways to the other members; may be used by several threads."""

    def __init__(self, credentials: Credentials, view: Callable[[], View]) -> None:
        self._credentials = credentials
        self._view = view
        self._recognised: dict[str, tuple[str, tuple[str, ...]]] = {}

    def client(self, member: MemberRecord) -> PeerClient:
        """Return a new connection to a member's door."""
        context, check = self._credentials.client_context, self.check_of(member.name)
        return PeerClient(member.address, member.door_port, context, check)

    def relay_client(self, member: MemberRecord) -> PeerClient:
        """Return a new connection to a voter's door, for answers of its etcd."""
        context, check = self._credentials.client_context, self.check_of(member.name)
        return PeerClient(member.address, member.door_port, context, check, _RELAYED_BYTES)

    def way_to(self, member: MemberRecord) -> Way:
        """Return how a member's door is reached, for a call to software there."""
        context, check = self._credentials.client_context, self.check_of(member.name)
        return Way(member.name, member.address, member.door_port, context, check)

    def check_of(self, wanted: str) -> Check:
        """Return the check of the certificate that a member serves."""

        def check(served: str) -> str | None:
            view = self._view()
            if served in self._recognised_as(wanted) and served not in view.revoked:
                return None
            return objection(view, wanted, served)

        return check

    def ask_as_stranger(self, member: MemberRecord) -> Found:
        """Find out why a member and we do not know each other, and recognise it if that is why.

        It has proven then that the certificate that it shows is its, or says that we were deleted.
        """
        record = self._view().members.get(member.name, member)
        known = (frozenset(record.fingerprints) | self._recognised_as(member.name)) - {""}
        found = recognition.ask(member, known, self._credentials.identity.fingerprint)
        if found.recognised:
            log.warning("a member has another certificate than it had name=%s", member.name)
            self._recognised[member.name] = (found.recognised, record.fingerprints)
        return found

    def _recognised_as(self, name: str) -> frozenset[str]:
        """Return the certificate by which a member was recognised, while its record is the same.

        What is recorded since counts alone: the server may be another one, or its key was stolen.
        """
        found, recorded = self._recognised.get(name, ("", ()))
        member = self._view().members.get(name)
        same = member is not None and member.fingerprints == recorded
        return frozenset((found,)) if same else frozenset()
