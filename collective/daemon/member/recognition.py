"""Ask a server that does not know us, or that we do not know, what has changed.

A server that was off meanwhile finds that others show certificates that it has never seen, or take
its own no more. Over a connection that proves nothing it may ask what proves itself.

It changes nothing; whoever asks takes up what was found.

Invariants:
  * A certificate is recognised only where the key of one that is recorded has signed for it.
  * Whether we were deleted is asked only of who has shown a certificate that is recorded, or
    recognised.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from collective.daemon.member.succession import Succession
from collective.errors import CollectiveError, IdentityError
from collective.model.records import MemberRecord
from collective.protocol import messages
from collective.protocol.peer import PeerClient, anybody, client_context, only

log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Found:
    """What came out.

    Attributes:
        recognised: fingerprint of a certificate that took the place of a recorded one, or "".
        deleted: whether the server says that ours was deleted.
    """

    recognised: str = ""
    deleted: bool = False


def ask(member: MemberRecord, known: frozenset[str], ours: str) -> Found:
    """Ask a server, as a stranger.

    Args:
        member: as it is recorded here.
        known: fingerprints by which it is known.
        ours: fingerprint of our certificate.
    """
    recognised = ""
    try:
        try:
            return Found(deleted=_is_deleted(member, known, ours))
        except IdentityError:
            recognised = _recognise(member, known)
        if not recognised:
            return Found()
        return Found(recognised, _is_deleted(member, frozenset((recognised,)), ours))
    except CollectiveError as error:
        log.debug("a member does not say more: %s name=%s", error, member.name)
        return Found(recognised)


def _is_deleted(member: MemberRecord, known: frozenset[str], ours: str) -> bool:
    check = only(known, f"its certificate is none of {member.name}'s")
    peer = PeerClient(member.address, member.door_port, client_context(), check)
    try:
        body = messages.RevocationQuestion(ours).to_wire()
        raw = peer.call("POST", messages.DELETED, body, _ASK_SECONDS)
    finally:
        peer.close()
    return messages.RevocationAnswer.from_wire(raw).deleted


def _recognise(member: MemberRecord, known: frozenset[str]) -> str:
    peer = PeerClient(member.address, member.door_port, client_context(), anybody)
    try:
        peer.open(_ASK_SECONDS)
        shown = peer.fingerprint
        succession = Succession.from_wire(
            peer.call("GET", messages.SUCCESSION, None, _ASK_SECONDS)
        )
    finally:
        peer.close()
    return shown if succession.proves(member.name, known, shown) else ""
