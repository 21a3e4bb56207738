"""Who is at the other end of a connection: decided on the certificate and the records.

Safety property: a certificate opens the door, and is believed when we dial, only while the record
of a member lists it, and nobody has revoked it.

Pure; the records come in as a view.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

from collective.errors import AccessError, RemovedError
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.protocol.web import Requester


class Caller(enum.Enum):
    """What whoever asks at the door is, by its certificate and the records."""

    STRANGER = "stranger"
    NONVOTING = "nonvoting"
    LEARNER = "learner"
    VOTER = "voter"


ANYBODY = frozenset(Caller)
MEMBERS = ANYBODY - {Caller.STRANGER}
_KINDS = {
    Role.NONVOTING: Caller.NONVOTING,
    Role.LEARNER: Caller.LEARNER,
    Role.VOTER: Caller.VOTER,
}


def kind_of(member: MemberRecord | None) -> Caller:
    """Return what a member is that asks, None for who is none."""
    return Caller.STRANGER if member is None else _KINDS[member.role]


def check_caller(member: MemberRecord | None, allowed: Collection[Caller], what: str) -> None:
    """Refuse who is not among those that may ask this.

    Args:
        member: who asks, None for a stranger.
        allowed: who may.
        what: is asked, for the text.

    Raises:
        AccessError: it may not.
    """
    kind = kind_of(member)
    if kind in allowed:
        return
    if member is None:
        raise AccessError("this needs the certificate of a member")
    may = " or ".join(sorted(caller.value for caller in allowed))
    raise AccessError(f"{member.name} is a {kind.value} and may not ask {what}: a {may} may")


def member_of(view: View, peer: Requester) -> MemberRecord:
    """Return the member that is at the other end.

    Raises:
        RemovedError: the certificate is revoked.
        AccessError: there is no certificate, or no member that it belongs to.
    """
    certificate = peer.certificate
    if certificate is None:
        raise AccessError("this needs the certificate of a member")
    if certificate.fingerprint in view.revoked:
        raise RemovedError(f"{certificate.name} was deleted from this collective")
    name = view.certificates.get(certificate.fingerprint)
    if name is None:
        raise AccessError(f"the certificate of {certificate.name} belongs to no member")
    return view.members[name]


def objection(view: View, wanted: str, served: str) -> str | None:
    """Return why a server that we dialled is not the one that we wanted, or None.

    Args:
        view: the records.
        wanted: name of the member.
        served: fingerprint of the certificate that it shows.
    """
    if served in view.revoked:
        return f"{view.revoked[served].name} was deleted from this collective"
    owner = view.certificates.get(served)
    if owner == wanted:
        return None
    return f"it is {owner}, not {wanted}" if owner else f"its certificate is none of {wanted}'s"
