"""What a sponsor gives a joiner: its certificates, what it is to be, and whom it can ask.

It asks nobody; ``joiner`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from collective.daemon.certificates.credentials import Bundle
from collective.errors import ProtocolError
from collective.model.plan import Plan
from collective.model.records import Role
from collective.model.view import View
from collective.protocol import messages

_VIEW_BYTES = 1 << 17


@dataclass(frozen=True)
class Admitted:
    """What the sponsor gave us: certificates, which member we are, and the voters' records.

    The records are for a server that does not vote, which has nobody else to ask; to one that
    does, its own etcd tells them.
    """

    bundle: Bundle
    plan: Plan
    view: View | None = None


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


def voters_of(raw: dict[str, Any], cluster_token: str) -> View:
    """Return the voters' records, for a server that has no etcd to tell it who they are.

    Raises:
        ProtocolError: they are not there.
    """
    view = View.from_json(messages.text(raw, "view", _VIEW_BYTES), cluster_token)
    if not view.voters:
        raise ProtocolError("the sponsor names no server that votes")
    return view
