"""Begin a re-keying: make the next CA here, and write down that everybody is to change to it.

What each server then does is in ``rekeyer``; which phase comes next is decided in
``collective.policy.rekeying``.

Invariants:
  * The new CA's key is on this server's disk before the record says that there is a new CA.
  * The key is never in the store: voters give it to voters, over the member door.
  * While one is under way none is begun; a further one follows it, where that is wanted.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass, replace

from collective.daemon.clock import epoch, utc_now
from collective.daemon.node import Node
from collective.daemon.retries import until_written
from collective.failpoints import Step, reached
from collective.model.names import natural_key
from collective.model.records import Phase, Rekey
from collective.model.view import View
from collective.pki import Authority
from collective.policy.rekeying import reason_to_begin

log = logging.getLogger(__name__)


class Place(enum.Enum):
    """What a re-keying that is under way is to the one that was asked for."""

    NEW = "new"
    FOUND = "found"
    FOLLOWS = "one more follows"


@dataclass(frozen=True)
class Begun:
    """The outcome of asking for a re-keying.

    Attributes:
        rekey: the one that is under way now.
        ends: names of the servers whose invitations end with the old CA.
        place: what it is to the one that was asked for.
    """

    rekey: Rekey
    ends: tuple[str, ...]
    place: Place = Place.NEW


def begin(node: Node, reason: str) -> Begun:
    """Begin a re-keying; one that is under way is gone on with.

    Where a server that was deleted meanwhile may have the key that is about to come, another
    re-keying follows the one that is under way.

    Args:
        node: this server, a voter.
        reason: for people.

    Raises:
        RefusedError: this server does not hold the CA's key.
        EtcdError: the store did not answer.
    """

    def attempt() -> Begun | None:
        view = node.store.read()
        current, change = view.rekey, view.change
        kept = change is not None and change.kept_key
        if current is not None and current.phase is not Phase.DONE and not kept:
            return Begun(current, invitations_of_old(view, current), Place.FOUND)
        return _write(node, view, reason)

    with node.renewing:
        begun = until_written("begin a re-keying", attempt)
    reached(Step.REKEY_BEGIN)
    log.info("re-keying number=%d %s: %s", begun.rekey.number, begun.place.value, reason)
    return begun


def begin_wanted(node: Node) -> None:
    """Begin the re-keying that the records want, or have it follow the one that is under way.

    Raises:
        RefusedError: this server does not hold the CA's key.
        EtcdError: the store did not answer.
    """

    def attempt() -> Begun | bool | None:
        view = node.store.read()
        reason = reason_to_begin(view.change, view.rekey)
        if reason is None:
            return False  # somebody else has begun it
        return _write(node, view, reason)

    with node.renewing:
        begun = until_written("begin a re-keying", attempt)
    if isinstance(begun, Begun):
        reached(Step.REKEY_WANTED)
        log.info("re-keying number=%d %s", begun.rekey.number, begun.place.value)


def _write(node: Node, view: View, reason: str) -> Begun | None:
    """Write down a new re-keying, or that one more follows the one under way."""
    current = view.rekey
    if current is None or current.phase is Phase.DONE:
        return _write_new(node, view, reason)
    return _write_again(node, view, current)


def _write_new(node: Node, view: View, reason: str) -> Begun | None:
    number = 1 if view.rekey is None else view.rekey.number + 1
    wanted = _prepare(node, number, reason)
    if not node.store.begin_rekey(view, wanted):
        return None
    return Begun(wanted, invitations_of_old(view, wanted))


def _write_again(node: Node, view: View, current: Rekey) -> Begun | None:
    wanted = replace(current, again=True)
    if not node.store.begin_rekey(view, wanted):
        return None
    return Begun(wanted, invitations_of_old(view, wanted), Place.FOLLOWS)


def replace_lost(node: Node, view: View, lost: Rekey) -> None:
    """Begin a re-keying anew whose CA key nobody has who answers; nothing was signed with it.

    Raises:
        EtcdError: the store did not answer.
    """
    anew = _prepare(node, lost.number + 1, lost.reason)
    if node.store.begin_rekey(view, replace(anew, again=lost.again, began=lost.began)):
        log.warning("the new CA of %s is replaced: nobody who answers has its key", lost.by)


def _prepare(node: Node, number: int, reason: str) -> Rekey:
    node.credentials.authority().require_key("make the next CA")
    authority = Authority.create(f"collective of {node.name}, CA {number + 1}", utc_now())
    node.credentials.store_next(authority)
    reached(Step.REKEY_PREPARE)
    certificate = authority.certificate_pem.decode()
    return Rekey(number, Phase.TRUST, certificate, node.name, reason, epoch())


def invitations_of_old(view: View, rekey: Rekey) -> tuple[str, ...]:
    """Return whose invitations name another CA than the new one, and end with it."""
    pin = new_pin(rekey)
    ends = (name for name, invitation in view.invitations.items() if invitation.pin != pin)
    return tuple(sorted(ends, key=natural_key))


def new_pin(rekey: Rekey) -> str:
    """Return the pin (hex) of the CA that a re-keying leads to."""
    return new_authority(rekey).pin.hex()


def new_authority(rekey: Rekey) -> Authority:
    """Return the CA that a re-keying leads to, without its key."""
    return Authority.from_pem(rekey.certificate.encode(), None)
