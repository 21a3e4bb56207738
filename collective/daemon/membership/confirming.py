"""See that a server that was deleted is locked out of every member that answers.

A member that is off learns it before it takes part again, so it is named and not waited for.

Invariants:
  * Success means that every member that answers refuses the server, and has nothing of it open.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from collective.daemon.clock import elapsed
from collective.daemon.member.peers import Peers
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import (
    CollectiveError,
    EtcdError,
    LostError,
    PendingError,
    RefusedError,
    RemovedError,
)
from collective.model.names import natural_key
from collective.model.records import Invitation, MemberRecord, Role
from collective.policy.membership import Strength
from collective.protocol.messages import SYNC, Sync, Synced

log = logging.getLogger(__name__)

_REACH_SECONDS = 2.0
_CONFIRM_SECONDS = 10.0
_CALL_SECONDS = 4.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Deleted:
    """The outcome of a removal.

    Attributes:
        name: who was removed.
        after: voters and answering voters now.
        confirmed: members that refuse the server from now on.
        unconfirmed: members that did not answer; they learn it before they take part again.
        remaining: the members that there are now, with their certificates' fingerprints.
        pending: the invitations that are good still, with their issuers.
    """

    name: str
    after: Strength
    confirmed: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    remaining: tuple[MemberRecord, ...] = ()
    pending: tuple[Invitation, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return the JSON form: whom it is cut off by, and who remains."""
        return {
            "name": self.name,
            "confirmed": list(self.confirmed),
            "unconfirmed": list(self.unconfirmed),
            "remaining": [
                {"name": m.name, "role": m.role.value, "fingerprints": list(m.fingerprints)}
                for m in self.remaining
            ],
            "pending": [
                {"name": i.name, "role": i.role.value, "issuer": i.issuer} for i in self.pending
            ],
        }


@dataclass(frozen=True)
class Said:
    """What a member says of a deletion.

    Attributes:
        wants: why it has not cut the server off, for people; None when it has, or is off.
        takes_part: whether it answers, and lets anybody in.
    """

    wants: str | None
    takes_part: bool = True


_OFF = Said(None, takes_part=False)


def confirm(runtime: MemberRuntime, done: str, name: str) -> Deleted:
    """Wait until each member that answers refuses what a server may not do any more.

    Args:
        runtime: this server.
        done: what was made, such as "mgt3 is deleted".
        name: of that server, which is not asked itself.

    Raises:
        PendingError: one that answers has not, or nobody could be asked.
    """
    try:
        observed = runtime.observe()
    except EtcdError as error:
        raise PendingError(
            f"{done}, but who has cut it off could not be asked ({error.message})",
            "run the same command again",
        ) from error
    revision = observed.view.newest
    others = [m for n, m in observed.view.members.items() if n not in (runtime.name, name)]
    with ThreadPoolExecutor(max(1, len(others)), "confirm") as pool:
        asked = pool.map(lambda m: _wait_to_confirm(runtime, m, revision), others)
        here = runtime.lock_out(revision, _CONFIRM_SECONDS)
        said = {m.name: answer for m, answer in zip(others, asked, strict=True)}
    said[runtime.name] = Said(here)
    ordered = sorted(said, key=natural_key)
    failed = [f"{n} ({wants})" for n in ordered if (wants := said[n].wants)]
    if failed:
        raise PendingError(
            f"{done}, but not cut off yet by {' and '.join(failed)}",
            "run the same command again",
        )
    members = observed.view.members
    return Deleted(
        name,
        observed.strength(),
        tuple(n for n in ordered if said[n].takes_part),
        tuple(n for n in ordered if not said[n].takes_part),
        tuple(members[n] for n in sorted(members, key=natural_key)),
        tuple(observed.view.invitations.values()),
    )


def _wait_to_confirm(runtime: MemberRuntime, member: MemberRecord, revision: int) -> Said:
    """Ask a member until it has cut off who was deleted, or says that it is of no concern.

    One that answers and cannot say it yet may just have been started. A learner is asked once: it
    takes part only when it has all of this.
    """
    if member.role is Role.LEARNER:
        said = _ask_to_confirm(runtime.peers, member, revision)
        return said if said.wants is None else _OFF
    peers, deadline = runtime.peers, elapsed() + _CONFIRM_SECONDS
    while (said := _ask_to_confirm(peers, member, revision)).wants and elapsed() < deadline:
        if runtime.stopping.wait(_POLL_SECONDS):
            break
    return said


def _ask_to_confirm(peers: Peers, member: MemberRecord, revision: int) -> Said:
    peer = peers.client(member)
    try:
        # Who does not answer at all is not waited for: cutting off takes long only where the
        # deleted server holds on.
        peer.open(_REACH_SECONDS)
    except CollectiveError as error:
        peer.close()
        log.warning("a member is not there to confirm: %s name=%s", error, member.name)
        return _OFF
    try:
        raw = peer.call("POST", SYNC, Sync(revision).to_wire(), _CALL_SECONDS)
        return Said(Synced.from_wire(raw).wants or None)
    except (RefusedError, RemovedError, LostError) as error:
        log.info("a member lets nobody in: %s name=%s", error, member.name)
        return _OFF
    except CollectiveError as error:
        log.warning("a member did not confirm: %s name=%s", error, member.name)
        return Said(error.message)
    finally:
        peer.close()
