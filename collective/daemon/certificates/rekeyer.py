"""This server's part of a re-keying, and, where it leads, the change from phase to phase.

It decides nothing: ``collective.policy.rekeying`` does. Each step asks first whether it is done,
so after a crash the thread goes on where it was.

    phase   what each server does                                       etcd
    TRUST   trusts the old CA and the new one; a voter gets the key     restarts, in its turn
    ISSUE   issues with the new CA, and shows a certificate of it       takes it up
    DROP    trusts the new CA alone                                     restarts, in its turn

Invariants:
  * A CA's key is taken only from a server that proved to be a voter, and only if it fits.
  * etcd is restarted in ``turn`` only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from collective.daemon.certificates.rekey import (
    begin_wanted,
    invitations_of_old,
    new_authority,
    replace_lost,
)
from collective.daemon.certificates.renewal import gencert, have_certified
from collective.daemon.certificates.turn import end_leftover, turn
from collective.daemon.clock import elapsed
from collective.daemon.node import Node
from collective.daemon.worker import Worker
from collective.errors import InputError
from collective.failpoints import Step, reached
from collective.model.records import Phase, Rekey, Role
from collective.model.view import View
from collective.pki import Authority
from collective.policy.rekeying import (
    Keys,
    has_done,
    is_orphaned,
    next_phase,
    reason_to_begin,
    waiting_for,
)
from collective.protocol import messages
from collective.protocol.messages import ServerStatus

log = logging.getLogger(__name__)

_CALL_SECONDS = 2.0
_TURN_SECONDS = 2.0
# Who made the new CA may be away for a moment.
_ORPHAN_SECONDS = 10.0


class Rekeyer(Worker):
    """A thread that does what a re-keying wants of this server."""

    name = "rekeyer"
    idle_seconds, eager_seconds = 2.0, 0.1

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._orphaned_since: float | None = None

    def _round(self) -> bool:
        """Do what is to be done now; return whether a re-keying is under way."""
        end_leftover(self._node)
        view = self._node.replica.view
        rekey = view.rekey
        own = view.members.get(self._node.name)
        if own is None or own.role is Role.LEARNER:
            return False
        if reason_to_begin(view.change, view.rekey) is not None and self._leads():
            begin_wanted(self._node)
            return True
        if rekey is None or rekey.phase is Phase.DONE:
            return rekey is not None and rekey.again
        new = new_authority(rekey)
        pin = new.pin.hex()
        if not has_done(rekey.phase, pin, own.role, self._node.keys):
            self._catch_up(rekey, new, own.role)
        if self._leads():
            self._advance(rekey, pin)
        return True

    def _leads(self) -> bool:
        own = self._node.replica.view.members.get(self._node.name)
        if own is None or own.role is not Role.VOTER:
            return False
        status = self._node.status()
        return status.leader != 0 and status.leader == status.member_id

    def _catch_up(self, rekey: Rekey, new: Authority, role: Role) -> None:
        """Do this server's part of a phase, whatever of it is done already."""
        node, pin = self._node, new.pin.hex()
        if rekey.phase is Phase.TRUST and self._comes_last(rekey, pin):
            return
        if rekey.phase is not Phase.DROP:
            if pin not in node.credentials.trusts & node.keys.trusts:
                both = (*node.credentials.trusted_besides(pin), new)
                if self._trust(both):
                    reached(Step.REKEY_TRUST)
                self._restart_for(both)
            if role is Role.VOTER and pin not in node.keys.holds:
                self._take_key(new)
        if rekey.phase is Phase.ISSUE and not node.votes:
            have_certified(node, pin)
        elif rekey.phase is Phase.ISSUE and node.issue_with_next(pin):
            reached(Step.REKEY_SWAP)
            gencert(node)
            reached(Step.REKEY_ISSUE)
        if rekey.phase is Phase.DROP and node.credentials.issuer != pin:
            # Whoever forgets the old CA first would be trusted by nobody.
            gencert(node)
        if rekey.phase is Phase.DROP and not self._comes_last(rekey, pin):
            if self._trust((new,)):
                reached(Step.REKEY_DROP)
            self._restart_for((new,))

    def _comes_last(self, rekey: Rekey, pin: str) -> bool:
        """Tell whether this server leads, and others are still to restart: one hand-over less."""
        if not self._leads():
            return False
        view = self._node.replica.view
        others = {n: m for n, m in view.voters.items() if n != self._node.name}
        waiting = waiting_for(rekey.phase, pin, others, self._reported())
        answering = self._node.prober.answering(0.0)
        return any(name in answering for name in waiting)

    def _trust(self, wanted: tuple[Authority, ...]) -> bool:
        """Trust these CAs and no others; tell whether that was new. etcd is not asked yet."""
        node = self._node
        if node.credentials.trusts == _pins(wanted):
            return False
        node.credentials.trust(wanted)
        node.prober.use(node.credentials.client_context)
        return True

    def _restart_for(self, wanted: tuple[Authority, ...]) -> None:
        """Have etcd trust what the files say, in this server's turn."""
        node = self._node
        if node.keys.trusts != _pins(wanted):
            with turn(node, "re-keying", _TURN_SECONDS):
                node.restart_etcd()
            reached(Step.REKEY_RESTART)

    def _take_key(self, new: Authority) -> None:
        """Get the new CA's key from a voter that has it."""
        pin = new.pin.hex()
        for name, keys in self._reported().items():
            member = self._node.replica.view.voters.get(name)
            if member is None or name == self._node.name or keys is None or pin not in keys.holds:
                continue
            peer = self._node.peer(member)
            try:
                raw = peer.call("GET", messages.CA_KEY, None, _CALL_SECONDS)
            finally:
                peer.close()
            for field in ("next", "key"):  # the second, where that server issues with it already
                if self._store_if_it_fits(new, messages.text({field: "", **raw}, field)):
                    return

    def _store_if_it_fits(self, new: Authority, key: str) -> bool:
        try:
            following = Authority.from_pem(new.certificate_pem, key.encode())
        except InputError:
            return False
        self._node.credentials.store_next(following)
        reached(Step.REKEY_KEY)
        return True

    def _reported(self, since: float | None = None) -> Mapping[str, Keys | None]:
        """Return what each member says of its keys, None for one that does not answer."""
        found = self._node.prober.answers(0.0 if since is None else _CALL_SECONDS, since)
        said = {name: keys_of(answer.status) for name, answer in found.items()}
        return {**said, self._node.name: self._node.keys}

    def _advance(self, rekey: Rekey, pin: str) -> None:
        """Begin the next phase, if everybody has done this one."""
        node = self._node
        view = node.store.read()
        if view.rekey != rekey:
            return
        node.prober.follow(view.members.values())
        reported = self._reported(since=elapsed())
        if waiting_for(rekey.phase, pin, view.members, reported):
            self._mind_orphan(view, rekey, pin, reported)
            return
        following = replace(rekey, phase=next_phase(rekey.phase))
        ends = invitations_of_old(view, rekey) if following.phase is Phase.ISSUE else ()
        if not node.store.advance_rekey(view, following, ends):
            return
        log.info("re-keying number=%d phase=%s", rekey.number, following.phase.value)
        reached(Step.REKEY_ADVANCE)

    def _mind_orphan(
        self, view: View, rekey: Rekey, pin: str, reported: Mapping[str, Keys | None]
    ) -> None:
        if not is_orphaned(rekey.phase, pin, reported):
            self._orphaned_since = None
        elif self._orphaned_since is None:
            self._orphaned_since = elapsed()
        elif elapsed() - self._orphaned_since > _ORPHAN_SECONDS:
            self._orphaned_since = None
            replace_lost(self._node, view, rekey)


def _pins(authorities: Iterable[Authority]) -> frozenset[str]:
    return frozenset(authority.pin.hex() for authority in authorities)


def keys_of(status: ServerStatus | None) -> Keys | None:
    """Return what a server's status says of its keys, None for one that does not answer."""
    if status is None:
        return None
    return Keys(frozenset(status.trusts), status.issuer, frozenset(status.holds))
