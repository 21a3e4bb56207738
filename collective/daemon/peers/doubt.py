"""Before etcd starts: is the data here what this server left, as far as anybody remembers?

It changes nothing. When nobody answers, as after a power cut of all, it holds nobody up for
longer than ``_ASK_SECONDS``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from collective.daemon.certificates.credentials import Credentials
from collective.daemon.node import hex_id
from collective.daemon.state import State
from collective.errors import CollectiveError
from collective.etcd.wal import read_log_end
from collective.model.layout import Layout
from collective.model.plan import Plan
from collective.model.promise import Promise
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.policy.old_data import objection
from collective.protocol import messages
from collective.protocol.peer import Peer
from collective.protocol.web import PeerCertificate

log = logging.getLogger(__name__)

_ASK_SECONDS = 0.7


def doubt(layout: Layout, state: State, plan: Plan) -> str | None:
    """Return why etcd must not start on the data that is here, or None.

    Args:
        layout: where things are.
        state: what this server remembers.
        plan: a member whose data is there.
    """
    if not plan.started:
        return None
    end = read_log_end(Path(layout.etcd_log))
    if end is None:
        found = Promise("", 0, 0)
    else:
        found = Promise(hex_id(end.member_id), end.term, end.index)
    view = state.load_view(plan.cluster_token)
    known: dict[str, Promise] = {}
    own = state.load_promises(plan.cluster_token).get(plan.name)
    if own is not None:
        known[plan.name] = own
    record = view.members.get(plan.name)
    noted = (plan.member_id, own.member_id if own else "", record.member_id if record else "")
    member_id = next((each for each in noted if each), "")
    return objection(plan.name, member_id, found, known) or objection(
        plan.name, member_id, found, _ask_others(layout, plan, view)
    )


def _ask_others(layout: Layout, plan: Plan, view: View) -> Mapping[str, Promise]:
    """Return what those who answer at once remember of this server."""
    others = [member for name, member in view.members.items() if name != plan.name]
    if not others:
        return {}
    credentials = Credentials(Path(layout.pki))
    pool = ThreadPoolExecutor(len(others), "witness")
    try:
        asked = {m.name: pool.submit(_ask, m, credentials, view) for m in others}
        heard: dict[str, Promise] = {}
        for name, answer in asked.items():
            try:
                promise = answer.result(2 * _ASK_SECONDS)
            except (CollectiveError, FutureTimeoutError) as error:
                log.debug("%s does not say what it remembers of us: %s", name, error)
                continue
            if promise.index:
                heard[name] = promise
        return heard
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ask(member: MemberRecord, credentials: Credentials, view: View) -> Promise:
    def check(served: PeerCertificate) -> str | None:
        # Not by its fingerprint: it may have a new certificate since we last ran.
        if served.name != member.name or served.serial in view.revoked:
            return f"it is not {member.name}"
        return None

    peer = Peer(member.address, member.door_port, credentials.client_context, check)
    try:
        raw = peer.call("GET", messages.WITNESS, None, _ASK_SECONDS)
    finally:
        peer.close()
    messages.check_format(raw)
    return Promise(
        messages.text(raw, "member_id", 16),
        messages.count(raw, "term"),
        messages.count(raw, "index"),
    )
