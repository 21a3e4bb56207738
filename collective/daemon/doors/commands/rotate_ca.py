"""``collective rotate-ca``: a new CA for the whole collective, without an outage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from collective.daemon.certificates import rekey
from collective.daemon.clock import elapsed
from collective.daemon.doors.commands.context import Context
from collective.daemon.node import Node
from collective.daemon.nonvoting import voters
from collective.daemon.peers.quorum import needs_quorum
from collective.daemon.show import rekeying
from collective.errors import UnreachableError
from collective.model.records import Phase, Rekey
from collective.model.view import View

_WAIT_SECONDS = 90.0
_SLICE_SECONDS = 1.0
_SAID = {
    Phase.TRUST: "every server learns to trust the new CA",
    Phase.ISSUE: "every server gets a certificate of the new CA",
    Phase.DROP: "every server forgets the old CA",
    Phase.DONE: "the old CA is worthless",
}


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Begin a re-keying, unless one is under way, and wait for its end."""
    node = context.server.require_node()
    if not node.votes:
        return voters.run(node, "rotate-ca", raw, context.emit, ())
    with needs_quorum(node, "rotate the CA"):
        begun = rekey.begin(node, "rotate-ca")
    if begun.place is not rekey.Place.NEW:
        waits = "it and for one more" if begun.place is rekey.Place.FOLLOWS else "it"
        context.emit(
            "wait", f"one is under way already ({begun.rekey.reason}); this waits for {waits}"
        )
    ended = _wait(context, node, begun.rekey.number)
    return {"number": ended.number, "invitations_end": list(begun.ends)}


def _wait(context: Context, node: Node, number: int) -> Rekey:
    """Say each phase, until the re-keying of a number, and any that is to follow, is done.

    Raises:
        UnreachableError: it takes too long; somebody is away.
    """
    deadline = elapsed() + _WAIT_SECONDS
    told: Rekey | None = None
    while True:
        now = node.replica.view.rekey
        if now is not None and now != told and now.number >= number:
            context.emit(now.phase.value, _SAID[now.phase])
            told = now
            if now.over:
                return now
        if elapsed() > deadline:
            raise _too_long(node)
        node.replica.wait_until(partial(_differs, now), _SLICE_SECONDS)


def _differs(seen: Rekey | None, view: View) -> bool:
    return view.rekey != seen


def _too_long(node: Node) -> UnreachableError:
    state = rekeying(node.replica.view, node.prober.answers(0.0), node.own_status())
    waits = ", ".join(state["waiting_for"]) if state is not None else ""
    return UnreachableError(
        f"the re-keying is not done after {_WAIT_SECONDS:.0f} s"
        + (f": it waits for {waits}" if waits else ""),
        "it goes on by itself when they are back; delete a server that is lost; "
        "see 'collective show'",
    )
