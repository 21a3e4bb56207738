"""Dial a candidate back: is it really where it says, and is it really that one.

A wrong peer URL costs a collective of one its quorum for good (etcd issue 6420), so this comes
before any change. Its door shows its certificate, and TLS proves that it has the key.

Invariants:
  * Nothing is sent.
  * What is told of a place that is not the candidate's is the same whatever is there: whoever
    holds a token must not find out by it which ports of others are open.
"""

from __future__ import annotations

import hashlib
import logging
import socket

from collective.daemon.membership.candidate import Candidate
from collective.errors import UnreachableError
from collective.protocol.peer import served_certificate, unreachable, where

log = logging.getLogger(__name__)

# A stranger's request has a thread meanwhile.
_DIAL_SECONDS = 3.0


def dial_back(here: str, candidate: Candidate) -> None:
    """Reach the candidate at the address that it advertises, and see that it is that very server.

    Raises:
        UnreachableError: nothing answers there, or something else does.
    """
    host, port = candidate.address, candidate.door_port
    found = ""
    try:
        found = hashlib.sha256(served_certificate(host, port, _DIAL_SECONDS)).hexdigest()
    except UnreachableError as error:
        log.info("a candidate does not answer: %s name=%s", error, candidate.name)
    if found == candidate.certificate.fingerprint:
        return
    if found:
        log.info("another server answers than a candidate name=%s found=%s", candidate.name, found)
    raise UnreachableError(
        f"{here} does not find {candidate.name} at {where(host, port)}: nothing answers there, or "
        "another server does",
        f"check the setting 'address' on {candidate.name}, and firewalls between the two; the log "
        f"of collectived on {here} says more",
    )


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
