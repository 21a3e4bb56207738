"""Does another server answer as this one where it was? Then one of the two is a copy.

It changes nothing; whoever wants to be a member, or to have another address, asks before.

Invariants:
  * What is on this machine is this server.
  * Another server counts only if it proves that it has the key of a certificate of this one.
"""

from __future__ import annotations

import logging

from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError, RefusedError
from collective.model.view import View
from collective.protocol.interfaces import is_local
from collective.protocol.peer import PeerClient, only, where

log = logging.getLogger(__name__)

_DIAL_SECONDS = 1.5


def elsewhere(runtime: MemberRuntime, view: View) -> str | None:
    """Return where another server answers as this one, None where the former places are silent.

    Args:
        runtime: this server.
        view: the records, which may have another address than this server remembers.
    """
    own = view.members.get(runtime.name)
    recorded = () if own is None else own.fingerprints
    known = {runtime.credentials.identity.fingerprint, *recorded} - {""}
    places = {runtime.plan.address: None} | ({} if own is None else {own.address: None})
    for address in places:
        if not is_local(address) and _answers(runtime, address, known):
            return where(address, runtime.plan.door_port)
    return None


def _answers(runtime: MemberRuntime, address: str, known: set[str]) -> bool:
    check = only(known, "it is another server")
    context = runtime.credentials.client_context
    peer = PeerClient(address, runtime.plan.door_port, context, check)
    try:
        peer.open(_DIAL_SECONDS)
    except CollectiveError as error:
        log.debug("nobody else is this server: %s", error)
        return False
    finally:
        peer.close()
    return True


def copy_error(name: str, place: str) -> RefusedError:
    """Return the error of a server that is there twice."""
    return RefusedError(
        f"another server answers as {name} at {place}: one of the two is a copy",
        "if this one is the copy, stop it; if it is to take the place of the other, stop that one",
    )
