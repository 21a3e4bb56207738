"""Invitations: make one, list them, end one, in one transaction on the records each.

It lets nobody in: ``sponsor`` does, for who shows the token.

Invariants:
  * Refused means that nothing was changed.
  * The store gets the public half of the token alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from collective.daemon.clock import elapsed, epoch
from collective.daemon.member.quorum import needs_quorum, strength_known
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import removal
from collective.daemon.membership.confirming import Deleted, confirm
from collective.daemon.retries import until_written
from collective.errors import InputError, RefusedError
from collective.model.guest_list import guest_list_hash
from collective.model.names import natural_key
from collective.model.records import Invitation, Role
from collective.model.token import Token
from collective.model.view import View, invitation_key
from collective.pki import new_seed, public_key_of
from collective.policy import forecast
from collective.policy.forecast import Forecast
from collective.policy.membership import check_invite, removal_of

log = logging.getLogger(__name__)

_START_SECONDS = 3.0
_ASK_SECONDS = 2.0

Emit = Callable[[str, str], None]


@dataclass(frozen=True)
class Invited:
    """An invitation that was made.

    Attributes:
        token: what lets the server in.
        invitation: what the store has of it.
        forecast: the collective now, and with that server.
    """

    token: Token = field(repr=False)
    invitation: Invitation
    forecast: Forecast


def invite(runtime: MemberRuntime, name: str, seconds: int, role: Role, issuer: str) -> Invited:
    """Make an invitation.

    Args:
        runtime: this server.
        name: the server to invite.
        seconds: how long it is good for.
        role: what it is to be, voter or nonvoting.
        issuer: the member that gave the command.

    Raises:
        RefusedError: the name is a member's.
        QuorumError: there is no quorum.
    """
    seed = new_seed()
    # The transaction proves the quorum, and that what was decided on still holds: so the view
    # that is held here is good enough to begin with, and a read is saved.
    held = [runtime.records_view.view]

    def attempt() -> Invited | None:
        view = held.pop() if held else runtime.store.read()
        try:
            check_invite(view, name, runtime.name)
        except RefusedError:
            view = runtime.store.read()
            check_invite(view, name, runtime.name)
        now = epoch()
        guests = guests_of(view)
        invitation = Invitation(
            name,
            role,
            public_key_of(seed).hex(),
            issuer,
            now,
            now + seconds,
            guests=guests,
        )
        if not runtime.store.invite(view, invitation, seconds):
            return None
        token = Token(name, seed, guest_list_hash(guests))
        return Invited(token, invitation, _with(runtime, name, role))

    _wait_for_own_record(runtime)
    with needs_quorum(runtime, f"invite {name}"):
        invited = until_written(f"invite {name}", attempt)
    log.info("invited name=%s seconds=%d", name, seconds)
    return invited


def _wait_for_own_record(runtime: MemberRuntime) -> None:
    """Wait a little on a fresh server, where the first command may come before its own record."""
    runtime.records_view.wait_until(lambda view: runtime.name in view.members, _START_SECONDS)


def guests_of(view: View) -> tuple[str, ...]:
    """Return the guest list of a token that is made now: who may take the server in."""
    known = (m.fingerprints[0] for m in view.voters.values() if m.certificates)
    # One that cannot be read has none: its server takes nobody in.
    return tuple(sorted(fingerprint for fingerprint in known if fingerprint))


def _with(runtime: MemberRuntime, name: str, role: Role) -> Forecast:
    # Nobody is asked for it: an invitation changes no quorum, and is to be quick.
    foretold = forecast.with_voter if role is Role.VOTER else forecast.with_nonvoting
    return foretold(strength_known(runtime), name)


def foretell(runtime: MemberRuntime, name: str, role: Role) -> Forecast:
    """Return what the server that is to be invited would do to the quorum.

    Raises:
        RefusedError, QuorumError: as ``invite``.
    """
    _wait_for_own_record(runtime)
    with needs_quorum(runtime, f"invite {name}"):
        check_invite(runtime.store.read(), name, runtime.name)
    return _with(runtime, name, role)


def pending(runtime: MemberRuntime) -> list[tuple[Invitation, float]]:
    """Return the invitations that are good now, and for how many seconds each still is.

    It is etcd that counts: the clocks of servers may be apart.

    Raises:
        QuorumError: there is no quorum.
    """
    with needs_quorum(runtime, "list the invitations"):
        view = runtime.store.read()
        found = view.invitations.values()
        return [(i, runtime.gateway.lease_left(view.lease(invitation_key(i.name)))) for i in found]


def revoke(runtime: MemberRuntime, name: str, dry_run: bool = False) -> Invitation:
    """End an invitation, so that its token lets nobody in.

    Args:
        runtime: this server.
        name: the server that was invited.
        dry_run: only look whether there is one.

    Raises:
        InputError: there is none.
        RefusedError: it has let the server in already.
        QuorumError: there is no quorum.
    """

    def attempt() -> Invitation | None:
        view = runtime.store.read()
        found = _pending_for(view, name)
        return found if dry_run or runtime.store.revoke_invitation(view, name) else None

    with needs_quorum(runtime, f"revoke the invitation for {name}"):
        ended = until_written(f"revoke the invitation for {name}", attempt)
    if not dry_run:
        log.info("invitation revoked name=%s", name)
    return ended


def _pending_for(view: View, name: str) -> Invitation:
    found = view.invitations.get(name)
    if found is None:
        known = ", ".join(sorted(view.invitations, key=natural_key))
        raise InputError(
            f"there is no invitation for {name}: it was used, revoked, or has expired",
            f"invitations are pending for: {known}" if known else None,
        )
    if name in view.members:
        raise RefusedError(
            f"cannot revoke the invitation for {name}: {name} is just being taken in on it",
            f"wait until it is a member, then run 'collective delete {name}'",
        )
    return found


def replace(
    runtime: MemberRuntime, name: str, seconds: int, role: Role, emit: Emit, issuer: str
) -> tuple[Deleted, Invited]:
    """Delete a member that was lost, and invite the server that was installed in its place.

    Run again after it was cut off it goes on: the member is gone then, and is invited.

    Raises:
        InputError: there is no such member.
        RefusedError: it answers, so it is not lost.
        QuorumError: there is no quorum, or the deletion would cost it.
    """
    if _was_removed(runtime, name):
        deleted = confirm(runtime, f"{name} is deleted", name)
    else:
        # Asked anew: a moment ago it may have been well.
        if name in runtime.detector.answering(_ASK_SECONDS, since=elapsed()):
            raise _not_lost(name)
        deleted = removal.delete(runtime, name, False, issuer)
        emit("delete", f"the former {name} is deleted")
    return deleted, invite(runtime, name, seconds, role, issuer)


def _not_lost(name: str) -> RefusedError:
    return RefusedError(
        f"cannot replace {name}: it is active",
        f"--replace is for a member that was lost; 'collective delete {name} --force' puts a live "
        "one out",
    )


def foretell_replacement(runtime: MemberRuntime, name: str, role: Role) -> Forecast:
    """Return what ``replace`` would do to the quorum until the new server has joined.

    Raises:
        InputError, RefusedError, QuorumError: as ``replace``.
    """
    if _was_removed(runtime, name):
        return foretell(runtime, name, role)
    if name in runtime.detector.answering(0.0):
        raise _not_lost(name)
    return removal.foretell(runtime, name, force=False)


def _was_removed(runtime: MemberRuntime, name: str) -> bool:
    """Tell whether the last change has removed this member, maybe for a command that was cut off.

    Raises:
        InputError: there is no such member, and was none just now.
        RefusedError: it is this server.
    """
    if name == runtime.name:
        raise RefusedError(f"cannot replace {name}: that is this server")
    with needs_quorum(runtime, f"replace {name}"):
        view = runtime.store.read()
    if name in view.members:
        return False
    begun = removal_of(view, name)
    if begun is not None:
        return begun.done  # else the deletion that follows goes on with it
    if removal.is_out(runtime, name):
        return True
    known = ", ".join(sorted(view.members, key=natural_key))
    raise InputError(
        f"cannot replace {name}: no such member",
        f"run 'collective invite {name}' for a new server; the members are: {known}",
    )
