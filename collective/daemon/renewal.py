"""A new certificate for this server, from the CA in use.

Invariants:
  * A certificate is written down before it is used, so no member refuses it.
"""

from __future__ import annotations

import logging
from datetime import datetime

from collective.daemon.clock import epoch, utc_now
from collective.daemon.node import Node
from collective.daemon.quorum import needs_quorum
from collective.daemon.retries import until_written
from collective.errors import RefusedError
from collective.failpoints import Step, reached
from collective.model.names import certified_addresses

log = logging.getLogger(__name__)

_SYNC_SECONDS = 3.0


def gencert(node: Node, now: datetime | None = None) -> None:
    """Give this server a new key and certificate from the CA in use.

    The new serial number is written down before the certificate is used, so no member refuses
    it; the old one stays good until it expires, and a deletion revokes both.

    Raises:
        QuorumError: there is no quorum to write it down.
        RefusedError: this server does not hold the CA's key, or is not a member.
    """
    addresses = certified_addresses([node.plan.address, *node.credentials.leaf.addresses])
    leaf_file, info = node.credentials.new_leaf(addresses, now or utc_now())

    def attempt() -> int | None:
        view = node.store.read()
        record = view.members.get(node.name)
        if record is None:
            raise RefusedError(f"cannot make a certificate: {node.name} is not a member")
        certified, too_many = record.certified(info.serial, info.fingerprint)
        written = node.store.put_member(view, certified, epoch(), too_many)
        return view.revision + 1 if written else None

    with needs_quorum(node, "make a certificate"):
        revision = until_written("make a certificate", attempt)
    reached(Step.RENEW_RECORD)
    node.replica.wait_for(revision, _SYNC_SECONDS)
    node.use_leaf(leaf_file)
    reached(Step.RENEW_USE)
    log.info("new certificate serial=%s ends=%s", info.serial, info.not_after)
