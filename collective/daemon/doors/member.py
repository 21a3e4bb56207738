"""The door that faces the network: what a stranger may ask, and what a member may.

Invariants:
  * Every route of a member checks the certificate against the records at every request, not
    once a connection.
  * The CA's key is given to voters only, on a view that was read linearizably.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from collective.daemon.addresses import readdress
from collective.daemon.certificates.revocation import tell_lists
from collective.daemon.clock import elapsed, later
from collective.daemon.doors import services
from collective.daemon.doors.access import member_of
from collective.daemon.doors.calls import Calls
from collective.daemon.joining import learner, sponsor
from collective.daemon.joining.enlist import Enlister
from collective.daemon.membership import removal
from collective.daemon.membership.changes import finish
from collective.daemon.membership.promotion import make_learner
from collective.daemon.node import Node
from collective.daemon.nonvoting.relay import relay
from collective.daemon.server import CollectiveServer
from collective.errors import (
    AccessError,
    CollectiveError,
    EtcdError,
    InputError,
    ProtocolError,
    RefusedError,
    RemovedError,
)
from collective.model.plan import Mode
from collective.model.promise import Promise
from collective.model.records import Change, MemberRecord, Role
from collective.policy.membership import check_no_change_under_way
from collective.protocol import messages
from collective.protocol.web import Request, Response, json_response, lines_response

log = logging.getLogger(__name__)

_SYNC_SECONDS = 2.0
_PROOF_SECONDS = 1.0
_LEAVE_PAUSE_SECONDS = 0.05

Route = Callable[[CollectiveServer, Node, Request], Response]


def handler(
    server: CollectiveServer, enlister: Enlister, calls: Calls
) -> Callable[[Request], Response]:
    """Return the handler of the network door."""

    def handle(request: Request) -> Response:
        if (request.method, request.path) == ("POST", messages.DIAL_BACK):
            return _dial_back(server.plan.name, enlister, request)
        asks_command = (request.method, request.path) == ("POST", messages.COMMAND)
        is_call = request.path.startswith(messages.CALL + "/")
        route = None if asks_command or is_call else _route(request)
        node = server.node
        if node is None:
            ending = server.stopped.is_set()
            what = "is about to end" if ending else "is in no collective, or not in this moment"
            raise RefusedError(f"{server.plan.name} {what}")
        _refuse_revoked(node, request)
        if is_call:
            return calls.incoming(node, request)
        if route is None:
            _only_full_member(server, node)
            return services.command(server, enlister, node, request)
        return route(server, node, request)

    return handle


def _refuse_revoked(node: Node, request: Request) -> None:
    """Refuse a server whose deletion the others have told: the records here may be older.

    Raises:
        RemovedError: its certificate is revoked.
    """
    certificate = request.peer.certificate
    if certificate is not None and certificate.serial in node.credentials.revoked:
        raise RemovedError(f"{certificate.name} was deleted from this collective")


def _route(request: Request) -> Route:
    route = _ROUTES.get((request.method, request.path))
    if route is not None:
        return route
    if request.method == "POST" and request.path.startswith(messages.ETCD + "/"):
        return _relay
    raise InputError("there is nothing at this path")


def _dial_back(name: str, enlister: Enlister, request: Request) -> Response:
    dialled = enlister.dialled
    if dialled is None:
        raise RefusedError(f"{name} is not joining a collective now")
    return json_response(200, dialled.answer(request.json()))


def _challenge(server: CollectiveServer, node: Node, request: Request) -> Response:
    _only_full_member(server, node)
    return json_response(200, sponsor.challenge(node, request))


def _claim(server: CollectiveServer, node: Node, request: Request) -> Response:
    with server.gate.sponsoring(node.name):
        _only_full_member(server, node)
        return json_response(200, sponsor.claim(node, request))


def _admit(server: CollectiveServer, node: Node, request: Request) -> Response:
    def lines() -> Iterator[dict[str, Any] | None]:
        with server.gate.sponsoring(node.name):
            _only_full_member(server, node)
            yield from sponsor.admit(node, request)

    return lines_response(lines())


def _only_full_member(server: CollectiveServer, node: Node) -> None:
    services.require_voter(server, node)
    if server.plan.mode is not Mode.MEMBER:
        raise RefusedError(
            f"{server.plan.name} is itself still joining", "ask another member, or try again soon"
        )


def _revocation_lists(server: CollectiveServer, node: Node, request: Request) -> Response:
    return json_response(200, tell_lists(node.credentials, request.json()))


def _status(server: CollectiveServer, node: Node, request: Request) -> Response:
    # A server that is still catching up may not have the records yet; the TLS library has
    # verified that a certificate of the collective's CA is at the other end.
    certificate = request.peer.certificate
    view = node.replica.view
    known = certificate is not None and (
        certificate.name in view.members or certificate.serial in view.revoked
    )
    if server.plan.mode is not Mode.JOINING or certificate is None or known:
        member_of(node.replica.view, request.peer)
    return json_response(200, node.own_status().to_wire())


def _sync(server: CollectiveServer, node: Node, request: Request) -> Response:
    member_of(node.replica.view, request.peer)
    raw = request.json()
    messages.check_format(raw)
    revision = raw.get("revision")
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise ProtocolError("a sync names no revision")
    if revision > node.replica.view.revision:
        _check_exists(node, revision)
    wants = node.lock_out(revision, _SYNC_SECONDS)
    return json_response(200, {"format": messages.FORMAT, "wants": wants or ""})


def _check_exists(node: Node, revision: int) -> None:
    """Refuse to wait for what will not come; where nobody can say so now, it is waited for.

    Raises:
        ProtocolError: the store has no such revision yet.
    """
    try:
        newest = node.store.prove(_PROOF_SECONDS)
    except EtcdError as error:
        log.debug("the newest revision is not known: %s", error)
        return
    if revision > newest:
        raise ProtocolError(f"a sync asks for revision {revision}, the newest is {newest}")


def _leave(server: CollectiveServer, node: Node, request: Request) -> Response:
    """Answer when the removal is written down: once it is made, that server hears no answer."""
    _only_full_member(server, node)
    member = member_of(node.store.read(), request.peer)
    raw = request.json()
    messages.check_format(raw)
    rekey = raw.get("rekey") is not False
    if member.role is Role.NONVOTING:
        if member.held_key:
            # It is written down later, and who hears "yes" does not ask again.
            check_no_change_under_way(node.store.read())
        later(_LEAVE_PAUSE_SECONDS, lambda: _put_out(node, member.name, rekey))
        return json_response(200, {"format": messages.FORMAT})
    change = removal.begin_removal(node, member.name, force=True, by=member.name, rekey=rekey)
    later(_LEAVE_PAUSE_SECONDS, lambda: _finish_leave(node, change))
    return json_response(200, {"format": messages.FORMAT})


def _finish_leave(node: Node, change: Change) -> None:
    try:
        finish(node, change)
    except CollectiveError as error:
        log.warning("whoever leads must finish a removal: %s name=%s", error, change.name)


def _give_up(server: CollectiveServer, node: Node, request: Request) -> Response:
    """Put a learner out that gives up its join; its record goes when it has heard the answer."""
    member = member_of(node.store.read(), request.peer)
    joins = member.role is Role.LEARNER and member.fallback is None
    removed = joins and learner.evict(node, member)
    if removed:
        later(_LEAVE_PAUSE_SECONDS, lambda: _drop_learner(node, member))
    return json_response(200, {"format": messages.FORMAT, "removed": removed})


def _drop_learner(node: Node, member: MemberRecord) -> None:
    try:
        learner.drop(node, member)
    except CollectiveError as error:
        log.warning("whoever leads must drop a learner's record: %s name=%s", error, member.name)


def _put_out(node: Node, name: str, rekey: bool) -> None:
    try:
        removal.put_out(node, name, force=True, by=name, rekey=rekey)
    except CollectiveError as error:
        log.warning("a server that leaves must ask again: %s name=%s", error, name)


def _hand_over(server: CollectiveServer, node: Node, request: Request) -> Response:
    member = member_of(node.replica.view, request.peer)
    if not server.hand_overs.allow(member.name, elapsed()):
        raise RefusedError(f"{node.name} handed over just now", "try again in a few seconds")
    node.hand_over()
    return json_response(200, {"format": messages.FORMAT})


def _readdress(server: CollectiveServer, node: Node, request: Request) -> Response:
    with server.gate.sponsoring(node.name):
        _only_full_member(server, node)
        return json_response(200, readdress.answer(node, request))


def _whereabouts(server: CollectiveServer, node: Node, request: Request) -> Response:
    member_of(node.replica.view, request.peer)
    return json_response(200, server.whereabouts.hear(node, request.json()))


def _ca_key(server: CollectiveServer, node: Node, request: Request) -> Response:
    member = member_of(node.store.read(), request.peer)
    if member.role is not Role.VOTER:
        raise AccessError(f"{member.name} is no voter: it does not get the CA's key")
    key = node.credentials.authority().key_pem
    if key is None:
        raise RefusedError(f"{node.name} does not hold the CA's key")
    following = node.credentials.next_authority()
    after = following.key_pem if following is not None else None
    answer = {"format": messages.FORMAT, "key": key.decode()}
    return json_response(200, answer | ({"next": after.decode()} if after is not None else {}))


def _revoked(server: CollectiveServer, node: Node, request: Request) -> Response:
    member_of(node.replica.view, request.peer)
    serials = sorted(node.replica.view.revoked)
    return json_response(200, {"format": messages.FORMAT, "serials": serials})


def _witness(server: CollectiveServer, node: Node, request: Request) -> Response:
    """Tell a member what is remembered of it: its own memory may be as old as its data."""
    member = member_of(node.replica.view, request.peer)
    recollection = server.recollection
    promise = recollection.of(member.name) if recollection is not None else None
    told = promise or Promise("", 0, 0)
    return json_response(200, {"format": messages.FORMAT, **asdict(told)})


def _relay(server: CollectiveServer, node: Node, request: Request) -> Response:
    _only_full_member(server, node)
    return relay(node, request)


def _self(server: CollectiveServer, node: Node, request: Request) -> Response:
    _only_full_member(server, node)
    return services.tell_self(node, request)


def _certify(server: CollectiveServer, node: Node, request: Request) -> Response:
    _only_full_member(server, node)
    return services.certify(node, request)


def _learner(server: CollectiveServer, node: Node, request: Request) -> Response:
    with server.gate.sponsoring(node.name):
        _only_full_member(server, node)
        return json_response(200, make_learner(node, request))


_ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", messages.CHALLENGE): _challenge,
    ("POST", messages.CLAIM): _claim,
    ("POST", messages.ADMIT): _admit,
    ("POST", messages.REVOCATION_LISTS): _revocation_lists,
    ("GET", messages.STATUS): _status,
    ("POST", messages.SYNC): _sync,
    ("POST", messages.LEAVE): _leave,
    ("POST", messages.GIVE_UP): _give_up,
    ("POST", messages.HAND_OVER): _hand_over,
    ("GET", messages.CA_KEY): _ca_key,
    ("GET", messages.REVOKED): _revoked,
    ("GET", messages.WITNESS): _witness,
    ("GET", messages.SELF): _self,
    ("POST", messages.CERTIFY): _certify,
    ("POST", messages.LEARNER): _learner,
    ("POST", messages.READDRESS): _readdress,
    ("POST", messages.WHEREABOUTS): _whereabouts,
}
