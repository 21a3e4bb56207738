"""Revocation lists of the CAs that a collective has and had, for whoever trusts one of them.

A server that was deleted while it was off, and returns when the CA has changed, trusts no
certificate that it is shown, and none of its own is taken. But the list that the former CA signed
last names it, and proves itself. The same list tells a joiner that its token is of before.

The lists are public, as those of any CA.

Invariants:
  * What is believed was signed by a CA that the reader trusted before it asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from collective.daemon.credentials import Credentials
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
    found = map(credentials.revocation_list, messages.texts(raw, "pins", _MOST_PINS))
    lists = [{"ca": kept[0].decode(), "crl": kept[1].hex()} for kept in found if kept is not None]
    return {"format": messages.FORMAT, "lists": lists}


def is_revoked(credentials: Credentials, host: str, port: int) -> bool:
    """Ask a server that we cannot trust whether a CA that we do has revoked our certificate."""
    lists = ask_lists(host, port, credentials.trusts)
    return any(credentials.leaf.serial in serials for serials in lists)


def ask_lists(host: str, port: int, pins: Iterable[str]) -> list[frozenset[str]]:
    """Ask any server for the revocation lists of some CAs.

    Args:
        host, port: of its door.
        pins: of the CAs, in hex.

    Returns:
        The serial numbers in each list that is genuine; none when it does not answer.
    """
    peer = Peer(host, port, stranger_context())
    wanted = list(pins)[:_MOST_PINS]
    try:
        body = {"format": messages.FORMAT, "pins": wanted}
        raw = peer.call("POST", messages.REVOCATION_LISTS, body, _ASK_SECONDS)
        return list(_genuine(raw, wanted))
    except CollectiveError as error:
        log.debug("no revocation lists from %s: %s", host, error)
        return []
    finally:
        peer.close()


def _genuine(raw: Mapping[str, Any], wanted: Iterable[str]) -> Iterable[frozenset[str]]:
    messages.check_format(raw)
    lists = raw.get("lists")
    for each in lists if isinstance(lists, list) else ():
        if not isinstance(each, dict):
            continue
        ca, crl = messages.text(each, "ca").encode(), messages.octets(each, "crl", _CRL_DIGITS)
        for pin in wanted:
            try:
                yield revoked_by(crl, ca, bytes.fromhex(pin))
            except CollectiveError as error:
                log.debug("a revocation list is not taken: %s", error)
