"""Revocation lists of the CAs that a collective has and had, for whoever trusts one of them.

A server that was deleted while it was off, and returns when the CA has changed, trusts no
certificate that it is shown, and none of its own is taken. But the list that the former CA signed
last names it, and proves itself.

The lists are public, as those of any CA.

Invariants:
  * What is believed was signed by a CA that the reader trusted before it asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from collective.daemon.certificates.credentials import Credentials
from collective.errors import CollectiveError
from collective.pki import revoked_by
from collective.protocol import messages
from collective.protocol.peer import Peer, stranger_context

log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0
_MOST_PINS = 4
# An entry takes about 40 octets.
_CRL_DIGITS = 1 << 19


def tell_lists(credentials: Credentials, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a stranger with the last lists of the CAs that it names, as far as they are here.

    Raises:
        ProtocolError: the message is broken.
    """
    messages.check_format(raw)
    pins = dict.fromkeys(messages.texts(raw, "pins", _MOST_PINS))
    found = map(credentials.revocation_list, pins)
    lists = [{"ca": kept[0].decode(), "crl": kept[1].hex()} for kept in found if kept is not None]
    return {"format": messages.FORMAT, "lists": lists}


def is_revoked(
    credentials: Credentials, recorded: Callable[[], Iterable[str]], host: str, port: int
) -> bool:
    """Ask a server that we cannot trust whether the CA that we do has revoked our certificates.

    Only the newest CA that is trusted here counts: while a re-keying waits for somebody, a deleted
    server still has the key of the one before.

    Args:
        credentials: ours.
        recorded: returns the serial numbers that our record had, as far as is remembered. One that
            this server has made itself since, with a clock that was wrong, is in no list.
        host, port: whom to ask.
    """
    ours = frozenset(recorded())
    serials = ask_list(host, port, credentials.newest)
    return credentials.leaf.serial in serials or (bool(ours) and ours <= serials)


def ask_list(host: str, port: int, pin: str) -> frozenset[str]:
    """Ask any server for the last revocation list of a CA.

    Args:
        host, port: of its door.
        pin: of the CA, in hex.

    Returns:
        The serial numbers in the list, if it is genuine; none when the server does not answer.
    """
    peer = Peer(host, port, stranger_context())
    try:
        body = {"format": messages.FORMAT, "pins": [pin]}
        raw = peer.call("POST", messages.REVOCATION_LISTS, body, _ASK_SECONDS)
        return _genuine(raw, bytes.fromhex(pin))
    except CollectiveError as error:
        log.debug("no revocation list from %s: %s", host, error)
        return frozenset()
    finally:
        peer.close()


def _genuine(raw: Mapping[str, Any], pin: bytes) -> frozenset[str]:
    messages.check_format(raw)
    lists = raw.get("lists")
    if not isinstance(lists, list) or not lists or not isinstance(lists[0], dict):
        return frozenset()
    ca = messages.text(lists[0], "ca").encode()
    return revoked_by(messages.octets(lists[0], "crl", _CRL_DIGITS), ca, pin)
