"""One change of this server's address, step by step.

What a voter does for it is in ``readdress``; a server that is alone does that itself, here.

    step         what the state file says meanwhile    a crash then means
    journal      moving_to: the new address            it goes on at the next start
    (trust)      the same                              the records have the new address already
    granted      the same                              the others' etcds dial it already
    restart      the same                              etcd listens on both at its next start
    saved        address and moving_to: the new one    only old certificates are left to revoke
    retired      address: the new one                  done
    (once every voter has answered at the new place; until then both addresses are certified)

Invariants:
  * Refused means that nothing was changed, and that the state file says so.
  * While etcd is dialled where it does not listen yet, and restarted for that, this server holds
    the turn. It does not while the other voters take its next certificate up: that takes theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from collective.daemon.addresses.readdress import Wish, grant
from collective.daemon.addresses.recovery import names_for
from collective.daemon.certificates.replacement import replace_certificate, retire_others
from collective.daemon.certificates.turn import turn
from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.peers import Peers
from collective.daemon.member.quorum import needs_quorum
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.nonvoting.voters import candidates
from collective.errors import (
    AccessError,
    CollectiveError,
    EtcdError,
    InputError,
    RefusedError,
    UnreachableError,
)
from collective.etcd.record_store import RecordStore
from collective.failpoints import Step, reached
from collective.model.listen import covers
from collective.model.names import MOST_ADDRESSES, is_vacant, peer_url
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.pki import Certificate
from collective.policy.addressing import certifiable, check_readdress, owner_of, vacating
from collective.protocol.listening import bind_tcp
from collective.protocol.messages import READDRESS, Message, NewAddress

log = logging.getLogger(__name__)

Emit = Callable[[str, str], None]

_TURN_SECONDS = 10.0
_DIAL_SECONDS = 3.0
# The voters restart their etcds in turn meanwhile.
_ASK_SECONDS = 90.0
_CALL_SECONDS = 2.0
_CATCH_UP_SECONDS = 6.0
_TAKEN_IN_SECONDS = 3.0


def _log_step(step: str, said: str) -> None:
    log.info("certificate: %s step=%s", said, step)


class AddressChange:
    """Changes of the address of one server."""

    def __init__(self, server: CollectiveServer) -> None:
        self._server = server

    def run(self, runtime: MemberRuntime, address: str, emit: Emit) -> None:
        """Change the address, or finish a change; whoever calls lets no other run beside it.

        Args:
            runtime: this server.
            address: an IP address that it has.
            emit: gets each step's name and a sentence.

        Raises:
            RefusedError: see ``policy.addressing``; nothing was changed.
            UnreachableError: no member finds this server at the new address.
            QuorumError, EtcdError: the store did not answer.
        """
        plan, listen = self._server.plan, runtime.listen
        if plan.address != address or is_vacated(runtime):
            wanted = lives.listen_addresses(self._server.settings, address)
            if not covers(wanted, address):
                raise RefusedError(
                    f"cannot change the address to {address}: the setting 'listen' does not "
                    "have it",
                    f"add {address} to 'listen' in the settings file",
                )
            # Our own view may be a moment behind the promotion that a join has just seen.
            runtime.records_view.wait_until(partial(_is_taken_in, runtime.name), _TAKEN_IN_SECONDS)
            # Once more on the member that is asked; here so that a refusal touches nothing. What
            # a member remembers of itself from its join is old: it may not hear better before.
            if plan.mode is not Mode.MEMBER or _is_taken_in(
                runtime.name, runtime.records_view.view
            ):
                view = runtime.records_view.view
                # It is here, so whoever had it is not there; the member that is asked looks.
                check_readdress(view, runtime.name, address, view.members.keys())
            restart = plan.votes and not covers(listen, address)
            with self._server.gate.sponsoring(runtime.name):
                with self._turn(runtime, restart):
                    pass  # who would be refused the restart is refused before any change
                self._switch(runtime, address, restart, emit)
        if not runtime.etcd.detoured and not runtime.etcd.wait_for_leader(_CATCH_UP_SECONDS):
            # Its connections may hang on an address that is gone; it takes no part, so this
            # restart costs the others nothing.
            log.warning("etcd is restarted: with its new address it does not take part")
            runtime.etcd.restart()
        self.clean_up(runtime)
        emit("ready", f"{runtime.name} is reached at {address}")

    @contextmanager
    def _turn(self, runtime: MemberRuntime, restart: bool) -> Iterator[None]:
        """Hold the turn, if etcd is to be restarted and takes part now."""
        if not restart or not candidates(runtime) or not _takes_part(runtime.store):
            yield
            return
        with turn(runtime, "a new address", _TURN_SECONDS):
            yield

    def _switch(self, runtime: MemberRuntime, address: str, restart: bool, emit: Emit) -> None:
        self._server.listener.listen_at(address)
        before = self._server.plan
        if before.moving_to != address:
            self._save(runtime, replace(before, moving_to=address))
        reached(Step.READDRESS_JOURNAL)
        emit("begin", f"from {before.address} to {address}")
        with ExitStack() as turn_held:
            try:
                with runtime.replacing:
                    with _held_open(address, before.peer_port, restart):
                        if restart:
                            self._obtain(runtime, address, prepare=True)
                        turn_held.enter_context(self._turn(runtime, restart))
                        by, granted = self._obtain(runtime, address)
                    # A next one that is prepared may be left of another change, not recorded.
                    if granted.fingerprint != runtime.credentials.identity.fingerprint:
                        runtime.use_next()
            except CollectiveError as error:
                self._take_back(runtime, error)
                raise
            reached(Step.READDRESS_GRANTED)
            emit("certificate", f"{by} has seen this server there and told the others")
            self._restart(runtime, address, restart, emit)

    def _restart(self, runtime: MemberRuntime, address: str, restart: bool, emit: Emit) -> None:
        listen = lives.listen_addresses(self._server.settings, address)
        plan = _at(self._server.plan, address)
        runtime.relocate(plan, listen if restart else runtime.listen)
        if restart:
            log.info("etcd is restarted to listen at its new address address=%s", address)
            runtime.etcd.restart()
            emit("restart", "etcd takes part again")
        reached(Step.READDRESS_RESTART)
        self._save(runtime, plan)
        self._server.listener.only(listen)
        reached(Step.READDRESS_SAVED)
        log.info("this server has a new address address=%s", address)

    def clean_up(self, runtime: MemberRuntime) -> None:
        """Revoke the certificates that name the former address, once nobody needs them.

        A voter that was off dials the former address until it has heard of the new one, be it by
        a detour, so its etcd must find that address in the certificate. And the certificate by
        which our own etcd goes by a detour is one of these. What cannot be done now is done later,
        see ``keeper``.
        """
        if runtime.etcd.detoured:
            return
        if self._server.plan.votes and not self._revoke_former(runtime):
            return
        self._save(runtime, replace(self._server.plan, moving_to=""))
        reached(Step.READDRESS_RETIRED)

    def _revoke_former(self, runtime: MemberRuntime) -> bool:
        voters = runtime.records_view.view.voters.keys() - {runtime.name}
        if not voters <= runtime.detector.answering(_CALL_SECONDS):
            return False
        try:
            wanted = lives.certified_here(runtime.plan.address)
            if set(runtime.credentials.identity.addresses) - set(wanted):
                replace_certificate(runtime, wanted, _log_step)
            retire_others(runtime)
        except CollectiveError as error:
            log.info("the former certificates are not revoked yet: %s", error)
            return False
        return True

    def _save(self, runtime: MemberRuntime, plan: Plan) -> None:
        with self._server.life:
            if self._server.runtime is not runtime:
                raise self._server.why_idle()
            self._server.save(plan)

    def _take_back(self, runtime: MemberRuntime, error: CollectiveError) -> None:
        """Forget the change, if it is sure that nothing of it was done."""
        try:
            recorded = runtime.store.read().members.get(runtime.name)
        except EtcdError:
            return
        plan = self._server.plan
        if recorded is not None and (
            recorded.address == plan.address or is_vacant(recorded.address)
        ):
            log.debug("the address was not changed: %s", error)
            self._save(runtime, replace(plan, moving_to=""))
            self._server.listener.only(lives.listen_addresses(self._server.settings, plan.address))

    def _obtain(
        self, runtime: MemberRuntime, address: str, prepare: bool = False
    ) -> tuple[str, Certificate]:
        """Have the new address proven and recorded, with a certificate that names it.

        Args:
            runtime: this server.
            address: the new one.
            prepare: whether etcd is not to hear of it yet.

        Returns:
            Who has done it, and the certificate, which is recorded.

        Raises:
            CollectiveError: nobody has done it; it says why not.
        """
        view, following = runtime.records_view.view, runtime.credentials.identity
        owner = owner_of(view, address, runtime.name)
        free = vacating(view, () if owner is None else (owner.name,))
        # What is another member's by now, such as the former address, it may not name. The one by
        # which etcd goes already will do where it may be: others let it in.
        ours = self._server.locator.ours
        claimed = [*names_for(runtime, address), *(() if ours is None else ours.addresses)]
        claimed = list(dict.fromkeys(claimed))[:MOST_ADDRESSES]
        names = certifiable(free, runtime.name, claimed)
        if not set(names) <= set(following.addresses):
            following = runtime.credentials.prepare_next(names)
        others = candidates(runtime)
        if others:
            places = [self._server.locator.at(member) for member in others]
            instance = runtime.reporter.instance
            wanted = NewAddress(address, following.pem, prepare, instance)
            return _ask_one(runtime.peers, places, wanted), following
        with needs_quorum(runtime, "change the address"):
            in_use = runtime.credentials.identity.fingerprint
            grant(runtime, Wish(runtime.name, address, following, in_use, prepare))
        return runtime.name, following


def is_vacated(runtime: MemberRuntime) -> bool:
    """Tell whether this server has no address by the records: another member has that now."""
    own = runtime.records_view.view.members.get(runtime.name)
    return own is not None and is_vacant(own.address)


def _takes_part(store: RecordStore) -> bool:
    try:
        store.read()
    except EtcdError:
        return False
    return True


def _ask_one(peers: Peers, others: list[MemberRecord], wanted: NewAddress) -> str:
    """Ask one voter after the other; a refusal counts, silence and a lack of quorum do not."""
    failure: CollectiveError | None = None
    for member in others:
        peer = peers.client(member)
        try:
            peer.open(_DIAL_SECONDS)
            Message.from_wire(peer.call("POST", READDRESS, wanted.to_wire(), _ASK_SECONDS))
            return member.name
        except (RefusedError, InputError, AccessError):
            raise
        except CollectiveError as error:
            log.info("a member did not change our address: %s name=%s", error, member.name)
            failure = failure or error
        finally:
            peer.close()
    raise failure or UnreachableError("there is no other voter to ask")


@contextmanager
def _held_open(address: str, port: int, needed: bool) -> Iterator[None]:
    """Hold a peer port open on which etcd does not listen yet."""
    if not needed:
        yield
        return
    with bind_tcp(address, port):
        yield


def _at(plan: Plan, address: str) -> Plan:
    """Return the plan of the same member at another address, with its cleaning still to do."""
    entries = plan.initial_cluster.split(",")
    ours = f"{plan.name}={peer_url(plan.address, plan.peer_port)}"
    moved = f"{plan.name}={peer_url(address, plan.peer_port)}"
    cluster = ",".join(moved if entry == ours else entry for entry in entries)
    return replace(plan, address=address, moving_to=address, initial_cluster=cluster)


def _is_taken_in(name: str, view: View) -> bool:
    own = view.members.get(name)
    return own is not None and own.role is not Role.LEARNER
