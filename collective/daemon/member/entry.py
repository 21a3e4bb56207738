"""Let a member in on the records that are here, or on newer ones where these do not know it.

Who is one, ``access`` decides.
"""

from __future__ import annotations

import logging

from collective.daemon.member.access import member_of
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import AccessError
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.protocol.web import Requester

log = logging.getLogger(__name__)


def let_in(
    runtime: MemberRuntime, peer: Requester, serializable: bool = False, anew: bool = False
) -> tuple[MemberRecord, View]:
    """Return the member that asks, and the view that says so.

    Args:
        runtime: this server.
        peer: who asks.
        serializable: whether what our etcd holds will do, however old.
        anew: whether the view that we hold was too old.

    Raises:
        AccessError, RemovedError: it is none.
    """
    view = runtime.records_view.view
    if not anew:
        try:
            return member_of(view, peer), view
        except AccessError:
            log.debug("a member is looked up, it may be a new one")
    view = runtime.store.read_local() if serializable else runtime.store.read()
    return member_of(view, peer), view
