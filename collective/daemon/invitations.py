"""Invitations: make one, in one transaction on the records.

It lets nobody in: ``sponsor`` does, for who shows the token.

Invariants:
  * Refused means that nothing was changed.
  * The store gets the public half of the token alone.
"""

from __future__ import annotations

import logging

from collective.daemon.clock import epoch
from collective.daemon.node import Node
from collective.daemon.quorum import needs_quorum
from collective.daemon.retries import until_written
from collective.errors import RefusedError
from collective.model.records import Invitation, Role
from collective.model.token import Token
from collective.pki import new_seed, public_key_of
from collective.policy.membership import check_invite

log = logging.getLogger(__name__)

_START_SECONDS = 3.0


def invite(node: Node, name: str, seconds: int) -> Token:
    """Make an invitation and return its token.

    Args:
        node: this server.
        name: the server to invite.
        seconds: how long it is good for.

    Raises:
        RefusedError: the name is a member's.
        QuorumError: there is no quorum.
    """
    seed = new_seed()
    # The transaction proves the quorum, and that what was decided on still holds: so the view
    # that is held here is good enough to begin with, and a read is saved.
    held = [node.replica.view]

    def attempt() -> Token | None:
        view = held.pop() if held else node.store.read()
        try:
            check_invite(view, name, node.name)
        except RefusedError:
            view = node.store.read()
            check_invite(view, name, node.name)
        now = epoch()
        public_key = public_key_of(seed).hex()
        pin = node.credentials.pin
        invitation = Invitation(
            name, Role.VOTER, public_key, node.name, now, now + seconds, pin=pin.hex()
        )
        if not node.store.invite(view, invitation, seconds):
            return None
        return Token(name, seed, pin)

    # On a fresh server the first command may come before its own record.
    node.replica.wait_until(lambda view: node.name in view.members, _START_SECONDS)
    with needs_quorum(node, f"invite {name}"):
        token = until_written(f"invite {name}", attempt)
    log.info("invited name=%s seconds=%d", name, seconds)
    return token
