"""May this server leave what it is for another collective? Only when it is alone in its own.

It changes nothing and waits for no longer than it says.
"""

from __future__ import annotations

from collective.daemon.clock import elapsed
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError, EtcdError, RefusedError
from collective.etcd.api import hex_id
from collective.model.names import natural_key
from collective.model.plan import Mode

NOTICE_SECONDS = 2.0
_POLL_SECONDS = 0.03


def why_not_free(server: CollectiveServer) -> CollectiveError | None:
    """Return why this server may not join another collective, None when it may.

    That is when there are other members, or when the store does not say, which takes up to
    twice ``NOTICE_SECONDS`` to find out; or when it was deleted, and has not come to rest: the
    certificate that it is to rest with would take the place of the one that it joins with.
    """
    runtime = settled(server)
    if runtime is None:
        leaving = server.plan.mode is Mode.LEAVING
        return idle_error(server.plan, server.trouble) if leaving else None
    try:
        view, members = runtime.store.read(NOTICE_SECONDS), runtime.gateway.members()
        known = {m.name or hex_id(m.id) for m in members} | view.members.keys()
    except EtcdError as error:
        known = set(runtime.records_view.view.members)
        # It may wait for voters that are lost, and a person says that it is to begin anew.
        if runtime.detector.told_removed():
            return None
        if _was_just_removed(server, runtime):
            return why_not_free(server)
        # What is remembered says that we are alone; a memory that is lost says nothing.
        if not known:
            return RefusedError(
                f"cannot join: the store of {runtime.name} does not say whether it has other "
                f"members: {error.message}",
                "see 'collective show'",
            )
    others = sorted(known - {runtime.name}, key=natural_key)
    if not others:
        return None
    return RefusedError(
        f"cannot join: {runtime.name} is in a collective already, with {', '.join(others)}",
        "run 'collective delete' here first to leave it",
    )


def settled(server: CollectiveServer) -> MemberRuntime | None:
    """Return the life of a server, None for none; one that ends now has ended, etcd and all."""
    if server.runtime is None:
        server.settle()
    return server.runtime


def _was_just_removed(server: CollectiveServer, runtime: MemberRuntime) -> bool:
    """Give a deletion a moment to be noticed here, where the store does not answer."""
    deadline = elapsed() + NOTICE_SECONDS
    while server.runtime is runtime and elapsed() < deadline:
        server.stopped.wait(_POLL_SECONDS)
    return server.runtime is not runtime
