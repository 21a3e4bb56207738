"""What a sponsor gives a joiner: what it is to be, and the members' records.

It asks nobody; ``joiner`` does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from collective.daemon.joining.guests import Confirmed, voters_of
from collective.errors import InvitationError, ProtocolError
from collective.model.guest_list import collective_id
from collective.model.names import peer_url
from collective.model.plan import Plan
from collective.model.records import Role
from collective.model.view import View, member_key
from collective.protocol.messages import Prospect


@dataclass(frozen=True)
class Admitted:
    """What the sponsor gave us: which member we are, and the members' records."""

    plan: Plan
    view: View


def _only_of(view: View, names: Collection[str]) -> View:
    """Return the records of some members: of others nobody but the sponsor has told."""
    keys = {member_key(name) for name in names}
    return View(view.revision, {k: item for k, item in view.items.items() if k in keys})


def role_of(prospect: Prospect) -> Role:
    """Return what the invitation makes of us.

    Raises:
        ProtocolError: it is nothing that this release knows.
    """
    try:
        role = Role(prospect.role or Role.VOTER.value)
    except ValueError:
        role = Role.LEARNER
    if role is Role.LEARNER:
        raise ProtocolError("the invitation is for a kind of server that is not known here")
    return role


def members_in(text: str, plan: Plan, confirmed: Confirmed, sponsor: str, ours: str) -> View:
    """Return the voters' records and our own, whose certificates this server will trust.

    Args:
        text: the records that the sponsor gives.
        plan: what this server is to be.
        confirmed: what the other guests say.
        sponsor: fingerprint of the certificate that the sponsor shows.
        ours: fingerprint of our own.

    Raises:
        ProtocolError: they are not there, or do not have this server.
        InvitationError: they are of another collective than that of the guests, or have voters
            that no other guest knows.
    """
    view = View.from_json(text, plan.cluster_token)
    own = view.members.get(plan.name)
    if not view.voters or own is None or ours not in own.fingerprints:
        raise ProtocolError("the sponsor's list of members lacks this server, or has no voters")
    view = _only_of(view, {*view.voters, plan.name})
    found = set(voters_of(view))
    same = collective_id(plan.cluster_token) == confirmed.collective
    # Of a list of one guest, which is the sponsor, there was nobody else to ask.
    if confirmed.collective and not (same and found <= confirmed.voters):
        raise InvitationError(
            "the sponsor gave records that the others on the token's guest list do not know",
            "ask another member to take this server in; the sponsor may have been tampered with",
        )
    if sponsor not in {voter.partition(" ")[0] for voter in found}:
        # One that was deleted can have the claim made, for us, at another one.
        raise InvitationError(
            "the server that would take this one in is no voter of its collective",
            "ask another member to take this server in",
        )
    known = {voter.partition(" ")[2] for voter in found | confirmed.voters}
    places = (entry.partition("=")[2] for entry in plan.initial_cluster.split(",") if entry)
    strange = set(places) - known - {peer_url(plan.address, plan.peer_port)}
    if strange:
        raise InvitationError(
            f"the sponsor's list of members has {min(strange)}, where no voter is by the records",
            "run the same command again; if it comes again, ask another member",
        )
    return view
