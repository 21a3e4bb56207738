"""Every route of the door that faces the network, for every kind of caller.

The table below is what the design says, written once more: a route that it does not list fails
here, and so does one that lets in whom it does not name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.certificates import replacement
from collective.daemon.lifecycle.server import CERTIFICATES_AT_ONCE, CERTIFICATES_PER_SECOND
from collective.daemon.listeners import peer_api as door
from collective.daemon.listeners.peer_api import Asked, Route, handler, route_of
from collective.daemon.member.access import Caller
from collective.errors import AccessError, CollectiveError, InputError, RefusedError, RemovedError
from collective.model.plan import Mode
from collective.model.records import MemberRecord, Revocation, Role
from collective.model.view import View
from collective.protocol.limits import RateLimit
from collective.protocol.web import PeerCertificate, Request, Requester, Response
from tests.unit.identities import identity, record_of, view_of

KINDS = {
    "S": Caller.STRANGER,
    "N": Caller.NONVOTING,
    "L": Caller.LEARNER,
    "V": Caller.VOTER,
}


@dataclass(frozen=True)
class Row:
    """What is right for a route.

    Attributes:
        callers: who may ask, by the letters of ``KINDS``.
        fresh: whether the records are read linearizably for it: it changes something, or tells
            what only a member of this moment may know.
        full: whether only a voter that has finished to join answers.
    """

    callers: str
    fresh: bool = False
    full: bool = False


TABLE = {
    # A joiner is a stranger; what it may do stands in its proof.
    ("GET", "/v1/enroll/challenge"): Row("SNLV", full=True),
    ("POST", "/v1/enroll/claim"): Row("SNLV"),
    ("POST", "/v1/enroll/confirm"): Row("SNLV", full=True),
    ("POST", "/v1/enroll/admit"): Row("SNLV"),
    # What proves itself, or is no secret.
    ("GET", "/v1/succession"): Row("SNLV"),
    ("POST", "/v1/deleted"): Row("SNLV"),
    # Between voters.
    ("POST", "/v1/sync"): Row("V"),
    ("POST", "/v1/hand-over"): Row("V"),
    # What a server asks about itself, or for itself.
    ("GET", "/v1/status"): Row("NLV"),
    ("GET", "/v1/return"): Row("LV"),
    ("GET", "/v1/self"): Row("NLV", fresh=True, full=True),
    ("POST", "/v1/leave"): Row("NV", fresh=True, full=True),
    ("POST", "/v1/give-up"): Row("LV", fresh=True),
    ("POST", "/v1/certificate"): Row("N", fresh=True, full=True),
    ("POST", "/v1/learner"): Row("NL", fresh=True, full=True),
    ("POST", "/v1/readdress"): Row("NV", fresh=True, full=True),
    ("POST", "/v1/whereabouts"): Row("NV"),
    ("POST", "/v1/command"): Row("NV", fresh=True, full=True),
    # With a path behind them.
    ("POST", "/v1/call/"): Row("NLV"),
    ("POST", "/v1/etcd/"): Row("NL", full=True),
}
NONVOTING, LEARNER, VOTER = (
    record_of("mgt2", Role.NONVOTING),
    record_of("mgt3", Role.LEARNER),
    record_of("mgt4", Role.VOTER),
)
NAMES = {"N": "mgt2", "L": "mgt3", "V": "mgt4"}
GONE = Revocation(identity("mgt5").fingerprint, "mgt5", 0.0)
VIEW = view_of(record_of("mgt1"), NONVOTING, LEARNER, VOTER, GONE)
ROUTES = sorted(TABLE)
each_route = pytest.mark.parametrize(("method", "path"), ROUTES)


class Server:
    """A server with a life and its records, at which every route but notes that it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seen: View, stored: View) -> None:
        self.asked: list[Asked] = []
        self.reads = 0
        self.heard = True
        for name in ("ROUTES", "PREFIXES"):
            noting = {key: replace(r, run=self._run) for key, r in getattr(door, name).items()}
            monkeypatch.setattr(door, name, noting)
        runtime = SimpleNamespace(
            name="mgt1",
            has_heard=lambda seconds: self.heard,
            records_view=SimpleNamespace(view=seen),
            store=SimpleNamespace(read=lambda: self._read(stored)),
        )
        self.plan = SimpleNamespace(name="mgt1", votes=True, mode=Mode.MEMBER)
        self.server: Any = SimpleNamespace(
            runtime=runtime, plan=self.plan, stopped=threading.Event(), gate=self
        )

    def _run(self, asked: Asked) -> Response:
        self.asked.append(asked)
        return Response(200)

    def _read(self, stored: View) -> View:
        self.reads += 1
        return stored

    @contextmanager
    def sponsoring(self, _name: str) -> Iterator[None]:
        yield

    def ask(self, method: str, path: str, name: str | None) -> CollectiveError | None:
        """Ask with a server's certificate, None for none; return the refusal."""
        certificate = None if name is None else PeerCertificate(name, identity(name).fingerprint)
        whole = path + "somewhere" if path.endswith("/") else path
        peer = Requester("tls", "10.0.0.9", certificate)
        request = Request(method, whole, {}, b'{"format": 1}', peer, {})
        try:
            handler(self.server, None, None)(request)  # type: ignore[arg-type]
        except CollectiveError as error:
            return error
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server whose records are those of the store."""
    return Server(monkeypatch, VIEW, VIEW)


def listed() -> dict[tuple[str, str], Route]:
    """Return the routes that there are, those with a path behind them with a slash."""
    behind = {("POST", f"{start}/"): route for start, route in door.PREFIXES.items()}
    return {**door.ROUTES, **behind}


def test_every_route_is_in_the_table_and_no_other() -> None:
    """Whoever adds a route says here who may ask it."""
    assert set(listed()) == set(TABLE)


@each_route
def test_route_says_what_the_table_says(method: str, path: str) -> None:
    """Callers, and whether they are looked up anew, stand beside the route."""
    row, route = TABLE[method, path], listed()[method, path]
    assert route.callers == {KINDS[letter] for letter in row.callers}
    assert (route.fresh, route.takes_part) == (row.fresh, row.full)


def test_whatever_changes_something_for_a_member_looks_it_up_anew() -> None:
    """But between voters, who are told what has changed, and where the call itself does (etcd)."""
    for (method, path), row in TABLE.items():
        if method == "POST" and "S" not in row.callers and row.callers != "V":
            assert row.fresh or path in ("/v1/whereabouts", "/v1/call/", "/v1/etcd/")


@each_route
@pytest.mark.parametrize("kind", KINDS)
def test_caller_is_answered_where_the_table_names_its_kind(
    server: Server, method: str, path: str, kind: str
) -> None:
    """And nowhere else, whatever it sends."""
    refused = server.ask(method, path, NAMES.get(kind))
    if kind not in TABLE[method, path].callers:
        assert isinstance(refused, AccessError)
        assert server.asked == []
        return
    assert refused is None
    (asked,) = server.asked
    if "S" in TABLE[method, path].callers:
        assert asked.asking is None, "who proves himself is nobody before that"
        with pytest.raises(AccessError):
            _ = asked.member
    else:
        assert asked.member.name == NAMES[kind]
        assert asked.fingerprint == identity(NAMES[kind]).fingerprint


@each_route
@pytest.mark.parametrize(("name", "error"), [("mgt5", RemovedError), ("mgt6", AccessError)])
def test_deleted_and_unknown_servers_are_strangers_at_most(
    server: Server, method: str, path: str, name: str, error: type[Exception]
) -> None:
    """Their certificates open nothing that a stranger does not get."""
    refused = server.ask(method, path, name)
    if "S" in TABLE[method, path].callers:
        assert refused is None
        assert server.asked[0].asking is None
        return
    assert type(refused) is error
    assert server.asked == []


@each_route
@pytest.mark.parametrize("kind", NAMES)
def test_member_that_was_deleted_a_moment_ago_is_refused_where_it_would_change_something(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, kind: str
) -> None:
    """The records here are old by a moment; those that were read for it are not."""
    row = TABLE[method, path]
    gone = Revocation(identity(NAMES[kind]).fingerprint, NAMES[kind], 0.0)
    after = view_of(*(m for n, m in VIEW.members.items() if n != NAMES[kind]), gone, revision=9)
    server = Server(monkeypatch, VIEW, after)
    refused = server.ask(method, path, NAMES[kind])
    if row.fresh:
        assert isinstance(refused, AccessError | RemovedError)
        assert (server.asked, server.reads) == ([], 1)
    else:
        assert (refused is None) is (kind in row.callers)
        assert server.reads == 0, "a flood of such calls costs no message to the other voters"


@each_route
def test_member_that_lost_its_vote_a_moment_ago_is_what_it_is_now(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """Its kind is looked up in the same records."""
    row = TABLE[method, path]
    demoted = replace(VOTER, role=Role.NONVOTING, target=Role.NONVOTING)
    after = view_of(record_of("mgt1"), demoted, revision=9)
    refused = Server(monkeypatch, VIEW, after).ask(method, path, "mgt4")
    assert (refused is None) is (("N" if row.fresh else "V") in row.callers)


@each_route
@pytest.mark.parametrize("kind", NAMES)
def test_member_that_is_not_known_here_yet_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, kind: str
) -> None:
    """It was taken in by another voter a moment ago; where nothing is read it asks again."""
    row = TABLE[method, path]
    before = view_of(record_of("mgt1"))
    refused = Server(monkeypatch, before, VIEW).ask(method, path, NAMES[kind])
    assert (refused is None) is ("S" in row.callers or (row.fresh and kind in row.callers))


@each_route
@pytest.mark.parametrize("mode", [Mode.JOINING, Mode.NONVOTING])
def test_server_that_is_no_voter_yet_answers_what_needs_none(
    server: Server, method: str, path: str, mode: Mode
) -> None:
    """The rest is refused with the name of a server to ask."""
    server.plan.mode, server.plan.votes = mode, mode is Mode.JOINING
    row = TABLE[method, path]
    for kind in row.callers:
        refused = server.ask(method, path, NAMES.get(kind))
        assert isinstance(refused, RefusedError) if row.full else refused is None
        if refused is not None:
            assert "ask" in str(refused.hint)


@each_route
@pytest.mark.parametrize("kind", NAMES)
def test_server_that_was_off_answers_no_member_before_it_has_heard_who_was_deleted(
    server: Server, method: str, path: str, kind: str
) -> None:
    """But for what servers need that come back together, and what a stranger gets as well."""
    server.heard = False
    refused = server.ask(method, path, NAMES[kind])
    if path in ("/v1/return", "/v1/whereabouts"):
        assert (refused is None) is (kind in TABLE[method, path].callers)
    elif "S" in TABLE[method, path].callers:
        assert refused is None
    else:
        assert isinstance(refused, RefusedError)
        assert (server.asked, server.reads) == ([], 0)


@each_route
def test_server_that_is_in_no_collective_answers_nobody(
    server: Server, method: str, path: str
) -> None:
    """It has no records to look anybody up in."""
    server.server.runtime = None
    for name in (None, *NAMES.values(), "mgt5"):
        assert isinstance(server.ask(method, path, name), RefusedError)
    assert server.asked == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/enroll/claim"),
        ("POST", "/v1/status"),
        ("PUT", "/v1/sync"),
        ("GET", "/v1/etcd/kv/range"),
        ("POST", "/v1/etcd"),
        ("POST", "/v1/etcdx/kv/range"),
        ("POST", "/v1/sync/"),
        ("POST", "/V1/SYNC"),
        ("POST", "/v1/ca-key"),
        ("GET", "/v1/ca-key"),
        ("POST", "/v1/certify"),
        ("POST", "/v1/revocation-lists"),
        ("POST", "/v1/dial-back"),
    ],
)
def test_what_is_no_route_is_none(method: str, path: str) -> None:
    """Another method, half a path, and what an authority once had."""
    with pytest.raises(InputError):
        route_of(method, path)


def test_member_that_changes_its_certificate_over_and_over_is_refused_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two changes at once, then one in two minutes; each leaves a revocation. Others wait not."""
    now, taken = [0.0], list[str]()

    def take(_runtime: object, member: MemberRecord, _shown: str, _pem: str) -> int:
        taken.append(member.name)
        return 1

    monkeypatch.setattr(door, "elapsed", lambda: now[0])
    monkeypatch.setattr(replacement, "take_request", take)
    limit = RateLimit(CERTIFICATES_PER_SECOND, CERTIFICATES_AT_ONCE)
    server: Any = SimpleNamespace(certificates=limit)

    def change(member: MemberRecord) -> None:
        peer = Requester("tls", "10.0.0.9", PeerCertificate(member.name, member.fingerprints[0]))
        body = b'{"format": 1, "certificate": ""}'
        request = Request("POST", "/v1/certificate", {}, body, peer, {})
        runtime: Any = SimpleNamespace(name="mgt1")
        nothing: Any = None
        asked = Asked(server, nothing, nothing, runtime, request, member)
        route_of("POST", "/v1/certificate").run(asked)

    for _ in range(4):
        change(NONVOTING)
    with pytest.raises(RefusedError, match="mgt2 has changed its certificate too often"):
        change(NONVOTING)
    change(record_of("mgt6", Role.NONVOTING))
    now[0] = 61.0
    change(NONVOTING)
    with pytest.raises(RefusedError):
        change(NONVOTING)
    assert taken == ["mgt2"] * 4 + ["mgt6", "mgt2"]
