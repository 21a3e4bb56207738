"""What a member that was off asks before its etcd serves anybody: who was deleted meanwhile?

Its etcd knows the members of then. Servers that were deleted since could be a quorum together with
it, of a collective that is no more, if it let them in.

It only makes the revocation list longer, on what at least half of those who answer say: a deleted
server may be among them.

Invariants:
  * Nobody is waited for longer than ``ASK_SECONDS``: after a power cut of all, all start.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from collective.daemon.clock import utc_now
from collective.daemon.node import Node
from collective.errors import CollectiveError
from collective.model.records import MemberRecord
from collective.protocol import messages

log = logging.getLogger(__name__)

ASK_SECONDS = 0.7


def believed(reports: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return the serial numbers that at least half of the reports call revoked."""
    told = list(reports)
    counted = Counter(serial for report in told for serial in report)
    return frozenset(serial for serial, times in counted.items() if 2 * times >= len(told))


def learn_revocations(node: Node) -> None:
    """Ask the members as remembered, and write the revocation list, before etcd starts."""
    view = node.replica.view
    others = [m for name, m in view.voters.items() if name != node.name]
    if not others or not node.credentials.holds_ca_key:
        return
    with ThreadPoolExecutor(len(others), "returning") as pool:
        reports = [r for r in pool.map(lambda m: _ask(node, m), others) if r is not None]
    revoked = believed(reports)
    if revoked - view.revoked.keys():
        log.info("members say what was revoked meanwhile serials=%d", len(revoked))
        node.credentials.revoke(revoked | view.revoked.keys(), utc_now())


def _ask(node: Node, member: MemberRecord) -> frozenset[str] | None:
    peer = node.peer(member)
    try:
        raw = peer.call("GET", messages.REVOKED, None, ASK_SECONDS)
        serials = raw.get("serials")
    except CollectiveError as error:
        log.debug("%s does not say who was deleted: %s", member.name, error)
        return None
    finally:
        peer.close()
    if not isinstance(serials, list) or not all(isinstance(s, str) for s in serials):
        return None
    return frozenset(serials)
