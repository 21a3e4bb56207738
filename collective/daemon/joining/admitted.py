"""What a sponsor gives a joiner: what it is to be, and the members' records.

It asks nobody; ``joiner`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collective.daemon.joining.guests import Confirmed
from collective.errors import InvitationError, ProtocolError
from collective.model.guest_list import collective_id
from collective.model.plan import Plan
from collective.model.records import Role
from collective.model.view import View
from collective.protocol import messages

_VIEW_BYTES = 1 << 20


@dataclass(frozen=True)
class Admitted:
    """What the sponsor gave us: which member we are, and the members' records."""

    plan: Plan
    view: View


def role_of(answer: dict[str, Any]) -> Role:
    """Return what the invitation makes of us.

    Raises:
        ProtocolError: it is nothing that this release knows.
    """
    try:
        role = Role(answer.get("role", Role.VOTER.value))
    except ValueError:
        role = Role.LEARNER
    if role is Role.LEARNER:
        raise ProtocolError("the invitation is for a kind of server that is not known here")
    return role


def members_in(raw: dict[str, Any], plan: Plan, confirmed: Confirmed, ours: str) -> View:
    """Return the members' records, whose certificates this server will trust.

    Raises:
        ProtocolError: they are not there, or do not have this server.
        InvitationError: they are of another collective than that of the guests, or have voters
            that no other guest knows.
    """
    view = View.from_json(messages.text(raw, "view", _VIEW_BYTES), plan.cluster_token)
    own = view.members.get(plan.name)
    if not view.voters or own is None or ours not in own.fingerprints:
        raise ProtocolError("the sponsor's list of members lacks this server, or has no voters")
    # A certificate that cannot be read has no fingerprint, and lets nobody in.
    found = {f for member in view.voters.values() for f in member.fingerprints if f}
    other = confirmed.collective not in ("", collective_id(plan.cluster_token))
    if other or (confirmed.voters and not found <= confirmed.voters):
        raise InvitationError(
            "the sponsor gave records that the others on the token's guest list do not know",
            "ask another member to take this server in; the sponsor may have been tampered with",
        )
    return view
