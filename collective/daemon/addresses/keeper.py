"""Look after the address of this server: by command, or by itself when it starts with another one.

One change is carried out by ``change``; after servers moved while they were off, the quorum is
brought back by ``recovery``.

Invariants:
  * Without being asked it changes an address only at the start, see ``policy.addressing``.
  * One change at a time.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from collective.daemon.addresses.change import AddressChange, Emit, is_vacated
from collective.daemon.addresses.recovery import AddressRecovery
from collective.daemon.certificates.replacement import replace_certificate
from collective.daemon.clock import elapsed
from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.copy_check import copy_error, elsewhere
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.nonvoting.voters import candidates
from collective.daemon.settings import Settings
from collective.errors import (
    CollectiveError,
    EtcdError,
    InputError,
    QuorumError,
    RefusedError,
    UnreachableError,
)
from collective.model.names import is_vacant
from collective.model.plan import Mode, Plan
from collective.policy.addressing import OwnAddresses, is_zoned, new_address
from collective.protocol.interfaces import is_local, local_addresses, source_towards

log = logging.getLogger(__name__)

# An interface may get its address a little later than this daemon starts.
_GRACE_SECONDS = 5.0
_SETTLED = (Mode.MEMBER, Mode.NONVOTING)
_LOST_SECONDS = 5.0
_BY_DETOUR = "servers have new addresses, and etcd reaches them by a detour until that is recorded"
_LOOK_SECONDS = 2.0
_RENEW_SECONDS = 600.0
_ATTACH_SECONDS = 30.0


def _log_step(step: str, said: str) -> None:
    log.info("readdress: %s step=%s", said, step)


@dataclass(frozen=True)
class Looked:
    """What came of a look for the others.

    Attributes:
        found, missing: names of members.
        objections: for each address that was given, by the member's name, why it does not answer
            there as that member; None where it does.
    """

    found: tuple[str, ...]
    missing: tuple[str, ...]
    objections: Mapping[str, str | None]


class AddressKeeper:
    """The changes of address of one server."""

    def __init__(self, server: CollectiveServer, read_settings: Callable[[], Settings]) -> None:
        """Prepare; ``start`` begins to look after the address.

        Args:
            server: this server.
            read_settings: reads the settings file again: a command takes the address from there.
        """
        self._server = server
        self._read_settings = read_settings
        self._move = AddressChange(server)
        self._moving = threading.Lock()
        self._began = elapsed()
        self._settled = False
        self._next_renewal = 0.0
        self._leaderless: float | None = None
        #: The life in which etcd has known a leader.
        self._had_leader: MemberRuntime | None = None
        self._roundabout = AddressRecovery(server.locator, Path(server.layout.pki))

    def start(self) -> None:
        """Look after the address of this server from now on; returns at once."""
        threading.Thread(target=self._look_after, name="address", daemon=True).start()

    def readdress(self, asked: str | None, emit: Emit) -> tuple[str, str]:
        """Change the address, or finish a change.

        Args:
            asked: an IP address; None for that of the settings file, or what is found.
            emit: gets each step's name and a sentence.

        Returns:
            The former address, and the new one; the same where there is nothing to change.

        Raises:
            RefusedError: see ``policy.addressing``; nothing was changed.
            UnreachableError: no member finds this server at the new address.
            QuorumError, EtcdError: the store did not answer.
        """
        if not self._moving.acquire(timeout=_ATTACH_SECONDS):
            raise RefusedError("cannot change the address: that is under way here already")
        try:
            runtime = self._server.require_runtime()
            if self._server.plan.mode not in _SETTLED:
                raise RefusedError(
                    f"cannot change the address of {runtime.name}: it is still joining",
                    "wait until 'collective show' lists it as active",
                )
            self._take_up_settings(asked)
            address, former = self._wanted(asked), self._server.plan.address
            if address != former or self._server.plan.moving_to:
                self._change(runtime, address, emit)
            return former, address
        finally:
            self._moving.release()

    def _change(self, runtime: MemberRuntime, address: str, emit: Emit) -> None:
        _refuse_copy(runtime)
        self._move.run(runtime, address, emit)

    def look_for(self, places: Mapping[str, str]) -> Looked:
        """Remember where members may be, ask there, and look for all of them.

        Raises:
            InputError: there is no such member.
        """
        runtime = self._server.require_runtime()
        others = runtime.records_view.view.members.keys() - {runtime.name}
        for name in sorted(places.keys() - others):
            raise InputError(f"there is no other member {name}", f"there are {sorted(others)}")
        self._server.locator.hint(places)
        plan, settings = self._server.plan, self._server.settings
        here = lives.next_address(settings, plan) or plan.address
        found = self._server.locator.look(runtime, here, settings.hosts)
        objections = self._server.locator.objections(runtime, places)
        return Looked(tuple(sorted(found)), tuple(sorted(others - found.keys())), objections)

    def _take_up_settings(self, asked: str | None) -> None:
        """Use the addresses that the settings file gives now.

        Raises:
            RefusedError: it gives another one than was asked for, so the next start of the
                daemon would undo the change.
        """
        fresh = self._read_settings()
        setting = lives.own_address(fresh)
        if asked is not None and setting is not None and asked != setting:
            raise RefusedError(
                f"cannot change the address to {asked}: the setting 'address' gives {setting}",
                "change the settings file, then run 'collective readdress'",
            )
        self._server.use_addresses_of(fresh)

    def _wanted(self, asked: str | None) -> str:
        plan, settings = self._server.plan, self._server.settings
        address = asked or lives.own_address(settings) or plan.moving_to or self._found(plan)
        parsed = ipaddress.ip_address(address)
        if not is_local(address) or is_zoned(address) or parsed.is_unspecified:
            raise RefusedError(
                f"cannot change the address to {address}: this server does not have it",
                f"it has {', '.join(local_addresses())}",
            )
        return address

    def _found(self, plan: Plan) -> str:
        return new_address(self._own_addresses(plan)) or lives.guessed_address()

    def _own_addresses(self, plan: Plan) -> OwnAddresses:
        runtime = self._server.runtime
        others = candidates(runtime) if runtime is not None else []
        sources = (source_towards(member.address) for member in others)
        return OwnAddresses(
            plan.address,
            lives.own_address(self._server.settings),
            local_addresses(),
            [source for source in sources if source is not None],
        )

    # By itself -------------------------------------------------------------------------------

    def _look_after(self) -> None:
        told = ""
        while not self._server.stopped.is_set():
            runtime, trouble = self._server.runtime, ""
            try:
                if runtime is not None and self._server.plan.mode in _SETTLED:
                    trouble = self._look(runtime)
            except CollectiveError as error:
                trouble = f"{error.message}; {error.hint}" if error.hint else error.message
            except Exception:
                log.exception("the address of this server could not be looked after")
            if runtime is not None:
                runtime.reporter.note_trouble(trouble)
            if trouble and trouble != told:
                log.warning("the address of this server: %s", trouble)
            told = trouble
            self._server.stopped.wait(_LOOK_SECONDS)
        self._roundabout.stop()

    def _look(self, runtime: MemberRuntime) -> str:
        """Do what is to be done about the address; return what a person should know of it.

        Raises:
            CollectiveError: something is wrong.
        """
        if not self._moving.acquire(blocking=False):
            return ""
        try:
            address = self._due(runtime)
            here = address or self._server.plan.address
            # One that has had a leader here may just be restarted, or elect another one.
            at_once = here != self._server.plan.address and self._had_leader is not runtime
            if self._is_lost(runtime, patience=0.0 if at_once else _LOST_SECONDS):
                return self._seek(runtime, here)
            if not candidates(runtime) and not runtime.etcd.wait_for_leader(_LOST_SECONDS):
                return ""  # its own etcd is not ready yet, and there is nobody to look for
            if self._server.gate.is_joining:
                return ""  # it gets the address that it is to have from the join
            if address is not None and (
                address != self._server.plan.address or is_vacated(runtime)
            ):
                self._change(runtime, address, _log_step)
            elif address is not None:
                self._move.clean_up(runtime)
            elif self._settled and elapsed() > self._next_renewal:
                self._certify_more(runtime)
            self._roundabout.renew(runtime)
            self._roundabout.end_if_done(runtime)
        finally:
            self._moving.release()
        if not runtime.records_view.view.members.keys() - {runtime.name}:
            return lives.doubted_address(self._server.settings, self._server.plan) or ""
        return _BY_DETOUR if self._roundabout.is_on else ""

    def _is_lost(self, runtime: MemberRuntime, patience: float) -> bool:
        """Tell whether this server's etcd runs, but has had no leader for so long.

        One that finds no quorum at its start answers nobody. A server that is the only voter
        has nobody to be in touch with.
        """
        if not self._server.plan.votes or not candidates(runtime):
            return False
        try:
            leaderless = not runtime.etcd.status().leader
        except EtcdError:
            leaderless = runtime.etcd.failure is None or bool(runtime.etcd.waits_for)
        if not leaderless:
            self._leaderless, self._had_leader = None, runtime
            return False
        if self._leaderless is None:
            self._leaderless = elapsed()
        return elapsed() - self._leaderless >= patience

    def _seek(self, runtime: MemberRuntime, here: str) -> str:
        """Get this server back in touch: by a member that has a quorum, or by a detour.

        Raises:
            CollectiveError: that did not work.
        """
        refusal: CollectiveError | None = None
        if here != self._server.plan.address or is_vacated(runtime):
            _refuse_copy(runtime)
            try:
                self._move.run(runtime, here, _log_step)
                return ""
            except (QuorumError, UnreachableError, EtcdError, RefusedError) as error:
                refusal = error
        found = self._roundabout.seek(runtime, here, self._server.settings.hosts)
        # Who is refused may have old records, which it catches up with when etcd is in touch.
        if found and not isinstance(refusal, RefusedError):
            return _BY_DETOUR
        if refusal is not None:
            raise refusal
        return ""

    def _due(self, runtime: MemberRuntime) -> str | None:
        """Return the address to change to now, None for none."""
        plan = self._server.plan
        if begun := lives.begun_address(self._server.settings, plan):
            return begun
        recorded = _recorded(runtime, plan.address)
        if recorded != plan.address and is_local(recorded):
            return recorded  # changed for us by a run of which we have not heard the end
        wanted = new_address(self._own_addresses(plan))
        if wanted is None and is_vacated(runtime):
            return plan.address  # it is back where it was recorded, and where another one was
        if wanted is None:
            self._settled = True
            return None
        if self._settled:
            raise RefusedError(
                f"the address of this server, {plan.address}, is gone",
                "run 'collective readdress', or bring the address back",
            )
        explicit = self._server.settings.address is not None
        return wanted if explicit or elapsed() - self._began > _GRACE_SECONDS else None

    def _certify_more(self, runtime: MemberRuntime) -> None:
        """Make a new certificate when this server has an address that its own does not name."""
        wanted = lives.certified_here(runtime.plan.address)
        if set(wanted) <= set(runtime.credentials.identity.addresses):
            return
        self._next_renewal = elapsed() + _RENEW_SECONDS
        try:
            replace_certificate(runtime, wanted, _log_step)
        except CollectiveError as error:
            log.warning("no certificate for the further addresses of this server: %s", error)


def _refuse_copy(runtime: MemberRuntime) -> None:
    place = elsewhere(runtime, runtime.records_view.view)
    if place is not None:
        raise copy_error(runtime.name, place)


def _recorded(runtime: MemberRuntime, ours: str) -> str:
    """Return the address that our record has; ours while nothing certain says otherwise."""
    held = runtime.records_view.view.members.get(runtime.name)
    if held is None or held.address == ours or is_vacant(held.address):
        return ours
    try:
        member = runtime.store.read().members.get(runtime.name)
    except EtcdError:
        return ours
    return ours if member is None or is_vacant(member.address) else member.address
