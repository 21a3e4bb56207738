"""Dial a candidate back: is it really where it says, and is it really that one (design section 4).

A wrong peer URL costs a collective of one its quorum for good (etcd issue 6420), so this comes
before any change.

Invariants:
  * Nothing that is sent is secret, and only a signature by the CSR's key is believed.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import Any

from collective.daemon.joining.candidate import Candidate
from collective.errors import CollectiveError, UnreachableError
from collective.pki import DialBackStatement, verify_dial_back
from collective.protocol import messages
from collective.protocol.peer import Peer, stranger_context, unreachable, where

_DIAL_SECONDS = 5.0


def dial_back(here: str, candidate: Candidate, host: str) -> None:
    """Reach the candidate at one address, and make it prove its CSR's key there.

    Raises:
        UnreachableError: nothing answers there, or something else does.
    """
    port = candidate.door_port
    nonce = secrets.token_hex(32)
    statement = DialBackStatement(
        nonce=nonce,
        name=candidate.name,
        server_fingerprint=candidate.fingerprint,
        address=host,
        door_port=port,
    )
    body = {"format": messages.FORMAT, "address": host}
    try:
        answer = _ask_unverified(host, port, {**body, "nonce": nonce})
        signature = messages.octets(answer, "signature")
    except CollectiveError as error:
        raise UnreachableError(
            f"{here} cannot reach {candidate.name} at {where(host, port)}: {error.message}",
            f"check the setting 'address' on {candidate.name}, and firewalls between the two",
        ) from error
    if not verify_dial_back(candidate.csr, statement, signature):
        raise UnreachableError(
            f"at {where(host, port)} another server answers than {candidate.name}",
            f"check the setting 'address' on {candidate.name}",
        )


def _ask_unverified(host: str, port: int, body: Mapping[str, Any]) -> dict[str, Any]:
    peer = Peer(host, port, stranger_context())
    try:
        return peer.call("POST", messages.DIAL_BACK, body, _DIAL_SECONDS)
    finally:
        peer.close()


def knock(here: str, name: str, host: str, port: int) -> None:
    """See that a server's peer port is open: a firewall there would strand a learner.

    Raises:
        UnreachableError: it is not.
    """
    try:
        socket.create_connection((host, port), timeout=_DIAL_SECONDS).close()
    except OSError as error:
        told = unreachable(host, port, error, _DIAL_SECONDS)
        raise UnreachableError(
            f"{here} {told.message} (the peer port of {name})", told.hint
        ) from error
