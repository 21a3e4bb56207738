"""The joiner's look at the guest list: is the server that answers one of those on it?

A server on the list may have turned bad, or have been deleted since. So before anything changes
here, a majority of the list must say that the claim is recorded, and in which collective.

It changes nothing.

Invariants:
  * A list counts only when it hashes to what the token holds.
  * Nothing is sent to a server that is not on the list, but for what a stranger may ask.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from collective.daemon.clock import elapsed, pause
from collective.errors import CollectiveError, InvitationError, ProtocolError
from collective.model.fingerprint import is_fingerprint
from collective.model.guest_list import guest_list_hash
from collective.model.names import natural_key
from collective.model.token import Token
from collective.model.view import View
from collective.policy.addressing import plain
from collective.policy.membership import quorum
from collective.protocol.messages import CONFIRM, ClaimAnswer, ClaimQuestion, Voter
from collective.protocol.peer import PeerClient, client_context, only

log = logging.getLogger(__name__)

_MOST_LISTS = 64
_MOST_GUESTS = 64
_ASK_SECONDS = 2.0
_PATIENCE_SECONDS = 10.0
_AGAIN_SECONDS = 0.1


def listed_guests(lists: object, token: Token, place: str) -> Mapping[str, str]:
    """Return the guest list of a token, fingerprint to name, as a server shows it.

    The names are what that server says, and for people alone.

    Args:
        lists: of guests, what it says to a stranger.
        token: whose hash decides.
        place: of the server, for errors.

    Raises:
        ProtocolError: it shows no such lists.
        InvitationError: none of them is that of the token.
    """
    if not isinstance(lists, list) or len(lists) > _MOST_LISTS:
        raise ProtocolError(f"{place} shows no guest lists")
    for each in lists:
        guests = _guests(each)
        if guests is not None and guest_list_hash(guests) == token.guests:
            return guests
    raise InvitationError(
        f"{place} shows no guest list that the token for {token.name} was made with: it "
        "was used, revoked or has expired, or is for another collective",
        f"run 'collective invite {token.name}' on a member for a new token",
    )


def _guests(raw: Any) -> Mapping[str, str] | None:
    if not isinstance(raw, dict) or not 0 < len(raw) <= _MOST_GUESTS:
        return None
    good = all(is_fingerprint(f) and isinstance(name, str) for f, name in raw.items())
    return {f: str(name)[:64] for f, name in raw.items()} if good else None


def check_guest(guests: Mapping[str, str], served: str, place: str, name: str) -> None:
    """Refuse a server that is not on the list.

    Args:
        guests: fingerprint to name.
        served: fingerprint of the certificate that it shows.
        place: of the server.
        name: that the token is for.

    Raises:
        InvitationError: it is not.
    """
    if served in guests:
        return
    known = ", ".join(sorted({n for n in guests.values() if n}, key=natural_key))
    raise InvitationError(
        f"{place} is not on the guest list of the token: it joined, or got another certificate, "
        "after the token was made",
        f"join one of those on the list: {known or 'none is a member any more'}; or run "
        f"'collective invite {name}' on a member for a new token",
    )


def check_named(host: str, address: str, name: str, addresses: Sequence[str]) -> str | None:
    """Return why a certificate is not that of the server that was asked for, or None.

    Args:
        host: as it was typed.
        address: that was dialled.
        name, addresses: what the certificate says.
    """
    if host.lower().split(".")[0] == name.lower():
        return None
    if plain(address) in {plain(a) for a in addresses if _is_address(a)}:
        return None
    return f"the certificate that is shown at {address} is for {name}, which is not {host}"


def _is_address(text: str) -> bool:
    try:
        plain(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Confirmed:
    """What the guests that have the claim say.

    Attributes:
        collective: SHA-256 (hex) of the cluster token, the same by all of them.
        voters: certificate and URL of each voter, as ``voters_of`` writes them, by others than
            the sponsor.
    """

    collective: str
    voters: frozenset[str]


def confirm(
    sponsor: str, guests: Collection[str], members: Sequence[Voter], name: str, ours: str
) -> Confirmed:
    """Have a majority of the guest list, the sponsor counted, say that our claim is recorded.

    Args:
        sponsor: fingerprint of the sponsor's certificate.
        guests: fingerprints of the guest list.
        members: where its servers are, as the sponsor says.
        name: that was invited.
        ours: fingerprint of our certificate, which claimed.

    Raises:
        ProtocolError: the sponsor names nobody.
        InvitationError: too few say so, or of another collective.
    """
    needed = quorum(len(guests)) - 1
    if not members:
        raise ProtocolError("the sponsor names no members")
    others = set(guests) - {sponsor}
    asked = [m for m in members if m.fingerprint in others][:_MOST_GUESTS]
    told: list[ClaimAnswer] = []
    if needed:
        told = _ask_all(asked, name, ours, needed)
    if len(told) < needed:
        raise InvitationError(
            f"only {len(told) + 1} of {len(guests)} servers on the guest list of the token for "
            f"{name} say that its claim is recorded, expected {needed + 1}",
            "start the servers that 'collective show' lists there as offline, or run 'collective "
            f"invite {name}' on a member for a new token",
        )
    collectives = {str(answer.collective) for answer in told}
    if len(collectives) > 1:
        raise InvitationError("the servers on the guest list are of different collectives")
    voters = frozenset(voter for answer in told for voter in answer.voters or ())
    return Confirmed(next(iter(collectives), ""), voters)


def voters_of(view: View) -> tuple[str, ...]:
    """Return which certificate the etcd of each voter shows, and at which URL, a text for each.

    A certificate that cannot be read has no fingerprint, and lets nobody in; its server's URL is
    known all the same: etcd names it.
    """
    found = ((f, member) for member in view.voters.values() for f in member.fingerprints)
    return tuple(f"{fingerprint} {member.url}" for fingerprint, member in found)


def _ask_all(members: Sequence[Voter], name: str, ours: str, needed: int) -> list[ClaimAnswer]:
    """Ask over and over until enough have the claim; who is off is not waited for."""
    deadline = elapsed() + _PATIENCE_SECONDS
    told: dict[str, ClaimAnswer] = {}
    pool = ThreadPoolExecutor(max(1, len(members)), "confirm")
    try:
        while len(told) < needed and elapsed() < deadline:
            left = [m for m in members if m.fingerprint not in told]
            asked = {pool.submit(_ask, m, name, ours): m.fingerprint for m in left}
            for future in as_completed(asked):
                answer = future.result()
                if answer is not None:
                    told[asked[future]] = answer
                if len(told) >= needed:
                    break
            else:
                pause(_AGAIN_SECONDS)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return list(told.values())


def _ask(member: Voter, name: str, ours: str) -> ClaimAnswer | None:
    """Ask one guest; None where it does not answer, or does not have the claim yet."""
    try:
        check = only((member.fingerprint,), "another server answers")
        peer = PeerClient(member.address, member.door_port, client_context(), check)
        try:
            body = ClaimQuestion(name, ours).to_wire()
            answer = ClaimAnswer.from_wire(peer.call("POST", CONFIRM, body, _ASK_SECONDS))
        finally:
            peer.close()
        return answer if answer.claimed else None
    except CollectiveError as error:
        log.debug("a guest does not confirm: %s", error)
        return None
