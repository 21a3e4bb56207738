"""Is this invitation good for this server? Promise P3, as one pure function.

Safety property: an invitation is accepted for one name, for one certificate, and only with a
signature by the seed that the token holds.

When it expires, the store lets it go (its lease ends): no clock of any server has a part in that.
The signature itself is verified by ``collective.pki``; its outcome comes in as a fact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from collective.errors import InvitationError
from collective.model.records import Invitation

#: A joiner need not know what its token makes of it.
AS_INVITED = "invited"


@dataclass(frozen=True)
class Proof:
    """What a joiner showed.

    Attributes:
        name: the name it wants to be known by.
        role: the role that it asks for, as text; ``AS_INVITED`` leaves it to the invitation.
        certificate: fingerprint of the certificate that it wants to have recorded.
        signed_by: tells whether the statement about this very connection was signed by the
            private half of a public key (hex).
    """

    name: str
    role: str
    certificate: str
    signed_by: Callable[[str], bool]


def judge(invitation: Invitation | None, proof: Proof) -> Invitation:
    """Decide on an invitation.

    Args:
        invitation: the record for the proof's name, None when there is none.
        proof: what the joiner showed.

    Returns:
        The invitation, claimed by the proof's certificate.

    Raises:
        InvitationError: there is none, another server claimed it, the proof is not
            by its token, or the role differs.
    """
    name = proof.name
    again = f"run 'collective invite {name}' on a member for a new token"
    if invitation is None:
        raise InvitationError(
            f"there is no invitation for {name}: it was used, revoked, or has expired", again
        )
    if invitation.name != name or not proof.signed_by(invitation.public_key):
        raise InvitationError(
            f"the token does not fit the invitation for {name}: it was altered, or replaced by "
            "a newer one",
            again,
        )
    if invitation.claimed_by not in (None, proof.certificate):
        raise InvitationError(f"the invitation for {name} was claimed by another server", again)
    if proof.role not in (AS_INVITED, invitation.role.value):
        raise InvitationError(
            f"the invitation for {name} is for a {invitation.role.value}, not a {proof.role}"
        )
    return replace(invitation, claimed_by=proof.certificate)
