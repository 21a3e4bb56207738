"""The door that faces the network: each route, and beside it who may call it.

Invariants:
  * Who asks is looked up in the records at every request, not once a connection.
  * A route without a set of callers does not import.
  * A server that was off serves no member, but for its return, before it knows who was deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collective.daemon.addresses import readdress
from collective.daemon.certificates import replacement
from collective.daemon.clock import elapsed, later
from collective.daemon.joining import sponsor
from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners import services
from collective.daemon.listeners.service_calls import ServiceCalls
from collective.daemon.member.access import ANYBODY, MEMBERS, Caller, check_caller, member_of
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.membership import learner, removal
from collective.daemon.membership.changes import finish
from collective.daemon.membership.promotion import make_learner
from collective.daemon.nonvoting.etcd_proxy import relay
from collective.errors import (
    AccessError,
    CollectiveError,
    EtcdError,
    InputError,
    ProtocolError,
    RefusedError,
    RemovedError,
)
from collective.etcd.record_store import RecordStore
from collective.model.high_water_mark import HighWaterMark
from collective.model.plan import Mode
from collective.model.records import Change, MemberRecord, Role
from collective.protocol import messages
from collective.protocol.web import Request, Response, json_response, lines_response

log = logging.getLogger(__name__)

_SYNC_SECONDS = 2.0
_PROOF_SECONDS = 1.0
# Less than others wait for an answer.
_HEARD_SECONDS = 0.3
_LEAVE_PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Asked:
    """A request that was let in.

    Attributes:
        server, coordinator, calls: this server.
        runtime: its life.
        request: what is asked.
    """

    server: CollectiveServer
    coordinator: JoinCoordinator
    calls: ServiceCalls
    runtime: MemberRuntime
    request: Request
    asking: MemberRecord | None

    @property
    def member(self) -> MemberRecord:
        """Who asks, on a route that strangers may not call.

        Raises:
            AccessError: nobody that is known.
        """
        if self.asking is None:
            raise AccessError("this needs the certificate of a member")
        return self.asking

    @property
    def fingerprint(self) -> str:
        """Of the certificate with which it asks, "" for none."""
        certificate = self.request.peer.certificate
        return "" if certificate is None else certificate.fingerprint

    def read(self, kind: type[messages.M]) -> messages.M:
        """Return the message.

        Raises:
            ProtocolError: it is broken, or of a newer format.
        """
        return kind.from_wire(self.request.json())


@dataclass(frozen=True)
class Route:
    """What answers, and who may call it.

    Attributes:
        run: answers.
        callers: who may.
        fresh: whether who asks is looked up in records that were read linearizably.
        takes_part: whether only a voter that has finished to join answers.
        early: whether it is answered on records that are remembered only, to a member that may
            have been deleted since: what servers need that come back together.
    """

    run: Callable[[Asked], Response | messages.Message]
    callers: frozenset[Caller]
    fresh: bool = False
    takes_part: bool = False
    early: bool = False


def handler(
    server: CollectiveServer, coordinator: JoinCoordinator, calls: ServiceCalls
) -> Callable[[Request], Response]:
    """Return the handler of the network door."""

    def handle(request: Request) -> Response:
        route = route_of(request.method, request.path)
        runtime = server.runtime
        if runtime is None:
            ending = server.stopped.is_set()
            what = "is about to end" if ending else "is in no collective, or not in this moment"
            raise RefusedError(f"{server.plan.name} {what}")
        _check_heard(runtime, request, route)
        member = _who_asks(runtime, request, route)
        check_caller(member, route.callers, f"{request.method} {request.path[:60]}")
        if route.takes_part:
            _only_full_member(server, runtime)
        answer = route.run(Asked(server, coordinator, calls, runtime, request, member))
        return answer if isinstance(answer, Response) else json_response(200, answer.to_wire())

    return handle


def _check_heard(runtime: MemberRuntime, request: Request, route: Route) -> None:
    """Refuse a member while it may have been deleted, and nobody has told this server so yet.

    Raises:
        RefusedError: this server has not heard from the others since it started.
    """
    if request.peer.certificate is None or route.early or route.callers == ANYBODY:
        return
    if not runtime.has_heard(_HEARD_SECONDS):
        raise RefusedError(
            f"{runtime.name} has not heard from the others since it started",
            "try again in a few seconds",
        )


def _who_asks(runtime: MemberRuntime, request: Request, route: Route) -> MemberRecord | None:
    """Return the member that asks, None for a stranger.

    Raises:
        RemovedError: it was deleted.
        AccessError: its certificate is nobody's.
    """
    if request.peer.certificate is None or route.callers == ANYBODY:
        return None
    view = runtime.records_view.view
    try:
        member = member_of(view, request.peer)
    except RemovedError:
        raise
    except AccessError:
        if not route.fresh:
            raise
        return member_of(runtime.store.read(), request.peer)
    return member_of(runtime.store.read(), request.peer) if route.fresh else member


def route_of(method: str, path: str) -> Route:
    """Return the route of a request.

    Raises:
        InputError: there is none.
    """
    route = ROUTES.get((method, path))
    if route is None and method == "POST":
        route = next((r for start, r in PREFIXES.items() if path.startswith(f"{start}/")), None)
    if route is None:
        raise InputError("there is nothing at this path")
    return route


def _only_full_member(server: CollectiveServer, runtime: MemberRuntime) -> None:
    services.require_voter(server, runtime)
    if server.plan.mode is not Mode.MEMBER:
        raise RefusedError(
            f"{server.plan.name} is itself still joining", "ask another member, or try again soon"
        )


# A join --------------------------------------------------------------------------------------


def _challenge(asked: Asked) -> messages.Message:
    return sponsor.challenge(asked.runtime, asked.request)


def _claim(asked: Asked) -> messages.Message:
    with asked.server.gate.sponsoring(asked.runtime.name):
        _only_full_member(asked.server, asked.runtime)
        return sponsor.claim(asked.runtime, asked.request)


def _confirm(asked: Asked) -> messages.Message:
    return sponsor.confirm(asked.runtime, asked.read(messages.ClaimQuestion))


def _admit(asked: Asked) -> Response:
    def lines() -> Iterator[dict[str, Any] | None]:
        with asked.server.gate.sponsoring(asked.runtime.name):
            _only_full_member(asked.server, asked.runtime)
            for line in sponsor.admit(asked.runtime, asked.request):
                told = None if line is None else line.to_wire()
                yield {"result": told} if isinstance(line, messages.Admission) else told

    return lines_response(lines())


# Who does not know us, or whom we do not know -------------------------------------------------


def _succession(asked: Asked) -> messages.Message:
    return asked.runtime.credentials.succession


def _deleted(asked: Asked) -> messages.Message:
    """Tell whoever names a certificate whether it was revoked: it may have been its."""
    fingerprint = asked.read(messages.RevocationQuestion).fingerprint
    return messages.RevocationAnswer(fingerprint in asked.runtime.records_view.view.revoked)


# Between members ------------------------------------------------------------------------------


def _status(asked: Asked) -> messages.Message:
    asked.runtime.detector.heard(asked.member.name)
    return asked.runtime.reporter.status()


def _sync(asked: Asked) -> messages.Message:
    revision = asked.read(messages.Sync).revision
    if revision > asked.runtime.records_view.view.revision:
        _check_exists(asked.runtime.store, revision)
    return messages.Synced(asked.runtime.lock_out(revision, _SYNC_SECONDS) or "")


def _check_exists(store: RecordStore, revision: int) -> None:
    """Refuse to wait for what will not come; where nobody can say so now, it is waited for.

    Raises:
        ProtocolError: the store has no such revision yet.
    """
    try:
        newest = store.prove(_PROOF_SECONDS)
    except EtcdError as error:
        log.debug("the newest revision is not known: %s", error)
        return
    if revision > newest:
        raise ProtocolError(f"a sync asks for revision {revision}, the newest is {newest}")


def _leave(asked: Asked) -> messages.Message:
    """Answer when the removal is written down: once it is made, that server hears no answer."""
    runtime, member = asked.runtime, asked.member
    asked.read(messages.Message)
    if member.role is Role.NONVOTING:
        later(_LEAVE_PAUSE_SECONDS, lambda: _put_out(runtime, member.name))
        return messages.Message()
    change = removal.begin_removal(runtime, member.name, force=True, by=member.name)
    later(_LEAVE_PAUSE_SECONDS, lambda: _finish_leave(runtime, change))
    return messages.Message()


def _finish_leave(runtime: MemberRuntime, change: Change) -> None:
    try:
        finish(runtime, change)
    except CollectiveError as error:
        log.warning("whoever leads must finish a removal: %s name=%s", error, change.name)


def _give_up(asked: Asked) -> messages.Message:
    """Put a learner out that gives up its join; its record goes when it has heard the answer."""
    runtime, member = asked.runtime, asked.member
    joins = member.role is Role.LEARNER and member.fallback is None
    removed = joins and learner.evict(runtime, member)
    if removed:
        later(_LEAVE_PAUSE_SECONDS, lambda: _drop_learner(runtime, member))
    return messages.GivenUp(removed)


def _drop_learner(runtime: MemberRuntime, member: MemberRecord) -> None:
    try:
        learner.drop(runtime.store, member)
    except CollectiveError as error:
        log.warning("whoever leads must drop a learner's record: %s name=%s", error, member.name)


def _put_out(runtime: MemberRuntime, name: str) -> None:
    try:
        removal.put_out(runtime, name, force=True)
    except CollectiveError as error:
        log.warning("a server that leaves must ask again: %s name=%s", error, name)


def _hand_over(asked: Asked) -> messages.Message:
    runtime = asked.runtime
    if not asked.server.hand_overs.allow(asked.member.name, elapsed()):
        raise RefusedError(f"{runtime.name} handed over just now", "try again in a few seconds")
    runtime.etcd.hand_over()
    return messages.Message()


def _readdress(asked: Asked) -> messages.Message:
    with asked.server.gate.sponsoring(asked.runtime.name):
        wanted = asked.read(messages.NewAddress)
        readdress.answer(asked.runtime, asked.member, asked.fingerprint, wanted)
        return messages.Message()


def _whereabouts(asked: Asked) -> messages.Message:
    return asked.server.locator.hear(asked.runtime, asked.member, asked.read(messages.Whereabouts))


def _return(asked: Asked) -> messages.Message:
    """Tell a member that returns the records, and what is remembered of its data."""
    marks, runtime = asked.server.high_water_marks, asked.runtime
    mark = (marks.of(asked.member.name) if marks is not None else None) or HighWaterMark("", 0, 0)
    view = runtime.records_view.view.to_json(runtime.plan.cluster_token)
    return messages.Remembered(view, mark.member_id, mark.term, mark.index)


def _relay(asked: Asked) -> Response:
    return relay(asked.runtime, asked.request)


def _self(asked: Asked) -> messages.Message:
    return services.tell_self(asked.member, asked.runtime.store.read().change_under_way)


def _certificate(asked: Asked) -> messages.Message:
    pem = asked.read(messages.NextCertificate).certificate
    if not asked.server.certificates.allow(asked.member.name, elapsed()):
        raise RefusedError(
            f"{asked.member.name} has changed its certificate too often just now",
            "try again in a minute",
        )
    shown = asked.fingerprint
    return messages.Recorded(replacement.take_request(asked.runtime, asked.member, shown, pem))


def _learner(asked: Asked) -> messages.Message:
    with asked.server.gate.sponsoring(asked.runtime.name):
        return make_learner(asked.runtime, asked.member)


def _command(asked: Asked) -> Response:
    sent = asked.read(messages.SentCommand)
    return services.command(asked.server, asked.coordinator, asked.runtime, asked.member, sent)


def _call(asked: Asked) -> Response:
    return asked.calls.incoming(asked.runtime, asked.member, asked.request)


_VOTER = frozenset({Caller.VOTER})
_NONVOTING = frozenset({Caller.NONVOTING})
_LEARNER = frozenset({Caller.LEARNER})

ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", messages.CHALLENGE): Route(_challenge, ANYBODY, takes_part=True),
    ("POST", messages.CLAIM): Route(_claim, ANYBODY),
    ("POST", messages.CONFIRM): Route(_confirm, ANYBODY, takes_part=True),
    ("POST", messages.ADMIT): Route(_admit, ANYBODY),
    ("GET", messages.SUCCESSION): Route(_succession, ANYBODY),
    ("POST", messages.DELETED): Route(_deleted, ANYBODY),
    ("GET", messages.STATUS): Route(_status, MEMBERS),
    ("POST", messages.SYNC): Route(_sync, _VOTER),
    ("POST", messages.LEAVE): Route(_leave, _VOTER | _NONVOTING, fresh=True, takes_part=True),
    ("POST", messages.GIVE_UP): Route(_give_up, _LEARNER | _VOTER, fresh=True),
    ("POST", messages.HAND_OVER): Route(_hand_over, _VOTER),
    ("GET", messages.RETURN): Route(_return, _VOTER | _LEARNER, early=True),
    ("GET", messages.SELF): Route(_self, MEMBERS, fresh=True, takes_part=True),
    ("POST", messages.CERTIFICATE): Route(_certificate, _NONVOTING, fresh=True, takes_part=True),
    ("POST", messages.LEARNER): Route(
        _learner, _NONVOTING | _LEARNER, fresh=True, takes_part=True
    ),
    ("POST", messages.READDRESS): Route(
        _readdress, _VOTER | _NONVOTING, fresh=True, takes_part=True
    ),
    ("POST", messages.WHEREABOUTS): Route(_whereabouts, _VOTER | _NONVOTING, early=True),
    ("POST", messages.COMMAND): Route(_command, _VOTER | _NONVOTING, fresh=True, takes_part=True),
}
#: What stands behind these in the path is the route's own.
PREFIXES: Mapping[str, Route] = {
    messages.CALL: Route(_call, MEMBERS),
    messages.ETCD: Route(_relay, _NONVOTING | _LEARNER, takes_part=True),
}
