"""The calls to etcd over its socket and through a voter's door: one test body on both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collective.daemon.member.backend import Frame
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.room import Room
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.nonvoting.etcd_proxy import BEAT_SECONDS, relay
from collective.daemon.nonvoting.remote_etcd import SILENCE_SECONDS, RemoteGateway
from collective.daemon.nonvoting.voters_etcd import VotersEtcd
from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd.api import EtcdApi
from collective.etcd.arguments import Timing
from collective.etcd.deadline import within
from collective.etcd.record_store import RecordStore
from collective.etcd.requests import PutRequest, encode, prefix_end
from collective.handle import Collective
from collective.model.keyspace import COORDINATION, STORE
from collective.model.lease_ids import is_of, new_lease_id
from collective.model.names import certified_addresses
from collective.model.records import Invitation, MemberRecord, Role, to_json
from collective.model.view import View, invitation_key, member_key
from collective.pki import make_certificate, new_key
from collective.protocol.door import Door, DoorServer
from collective.protocol.peer import PeerClient, client_context, only
from collective.protocol.web import Request, Response
from tests.contract.conftest import ADDRESS, Member
from tests.harness import wait_until
from tests.harness.fake_etcd import nowhere
from tests.harness.processes import stopped

pytestmark = pytest.mark.contract

SECONDS = 20.0
K = STORE + "k/"
MANY = 20_000


@dataclass
class Voter:
    """A voter with its door, and a member without an etcd that may use it.

    Attributes:
        runtime: the voter.
        remote: the other one's calls.
        record: the other one's record.
        requests: paths of what came in at the door.
    """

    runtime: MemberRuntime
    remote: RemoteGateway
    record: MemberRecord
    requests: list[str]


def put_record(store: RecordStore, name: str, role: Role, pem: str, port: int) -> MemberRecord:
    record = MemberRecord(name, "", role, ADDRESS, port, port, (pem,), 0.0)
    assert store.put_member(store.read(), record, 0.0)
    return record


@pytest.fixture
def voter(idle: Member, tmp_path: Path) -> Iterator[Voter]:
    """A voter whose etcd runs, and its door."""
    credentials = Credentials(Path(idle.layout.pki))
    frame = Frame(idle.layout, idle.process, Timing(50, 500), [ADDRESS])
    runtime = MemberRuntime(frame, idle.plan, credentials, lambda *_: None, View(0), VotersEtcd)
    requests: list[str] = []

    def handle(request: Request) -> Response:
        requests.append(request.path)
        return relay(runtime, request)

    doors = DoorServer()
    doors.start()
    doors.listen_tls(
        Door("t", handle), ADDRESS, idle.plan.door_port, lambda: credentials.server_context
    )
    runtime.start()
    assert runtime.etcd.wait_until(lambda status: bool(status.leader), SECONDS)
    key = new_key()
    certificate = make_certificate(key, "mgt4", certified_addresses(["127.0.0.4"]))
    record = put_record(runtime.store, "mgt4", Role.NONVOTING, certificate.pem, 1)
    runtime.records_view.wait_until(lambda view: "mgt4" in view.members, SECONDS)
    own = credentials.identity
    ours = MemberRecord("mgt1", "1", Role.VOTER, ADDRESS, idle.plan.door_port, 2, (own.pem,), 0.0)
    (tmp_path / "mgt4.pem").write_bytes(key + certificate.pem.encode())
    context = client_context(tmp_path / "mgt4.pem")
    check = only((own.fingerprint,), "another server answers")

    def connect(member: MemberRecord) -> PeerClient:
        return PeerClient(member.address, member.door_port, context, check, 64 << 20)

    remote = RemoteGateway(lambda: [ours], connect)
    try:
        yield Voter(runtime, remote, record, requests)
    finally:
        remote.close()
        runtime.stop(hand_over=False)
        doors.stop(1.0)


@pytest.fixture(params=["socket", "door"])
def calls(request: pytest.FixtureRequest, voter: Voter) -> EtcdApi:
    """The calls to the same etcd, in either way."""
    return voter.runtime.gateway if request.param == "socket" else voter.remote


def put(calls: EtcdApi, key: str, value: str, lease: int = 0) -> int:
    done, revision = calls.transact({}, [PutRequest(key, value, lease)])
    assert done
    return revision


def test_keys_are_written_and_read(calls: EtcdApi) -> None:
    """All of a prefix, at the revision of the write, with and without a quorum."""
    put(calls, K + "a", "é\n")
    revision = put(calls, K + "b", "")
    for serializable in (False, True):
        at, found = calls.range(K, serializable)
        assert at == revision
        assert [(kv.key, kv.value) for kv in found] == [(K + "a", "é\n".encode()), (K + "b", b"")]
    assert calls.range(STORE + "absent/") == (revision, [])


def test_transaction_is_done_once_and_all_or_nothing(calls: EtcdApi) -> None:
    """The caller's own compare counts, whatever it is wrapped in."""
    done, revision = calls.transact(
        {K + "a": 0}, [PutRequest(K + "a", "1"), PutRequest(K + "b", "1")]
    )
    assert done
    assert calls.transact({K + "a": 0}, [PutRequest(K + "a", "2")]) == (False, revision)
    done, after = calls.transact({K + "a": revision}, [PutRequest(K + "c", "3")], [K + "a"])
    assert (done, after) == (True, revision + 1)
    assert {kv.key: kv.value for kv in calls.range(K)[1]} == {K + "b": b"1", K + "c": b"3"}


def test_plain_operations_answer_as_themselves(calls: EtcdApi) -> None:
    """A put and a deletion outside of a transaction."""
    calls.call("/kv/put", {"key": encode(K + "a"), "value": "MQ=="})
    assert [kv.value for kv in calls.range(K)[1]] == [b"1"]
    assert calls.call("/kv/deleterange", {"key": encode(K + "a")})["deleted"] == "1"
    assert calls.range(K)[1] == []


def test_large_values_and_many_keys_pass(calls: EtcdApi) -> None:
    """More than a stranger may send, and more than one answer of a door would hold."""
    for first in range(0, 2000, 100):
        calls.transact(
            {}, [PutRequest(f"{K}{n:05}", "x" * 1000) for n in range(first, first + 100)]
        )
    assert len(calls.range(K)[1]) == 2000
    put(calls, K + "large", "x" * 1_000_000)


def test_lease_takes_its_key_with_it(calls: EtcdApi) -> None:
    """Granted, bound, kept alive, revoked."""
    lease = calls.grant_lease(60, "mgt4")
    put(calls, K + "leased", "1", lease)
    assert calls.call("/lease/keepalive", {"ID": str(lease)})["result"]["ID"] == str(lease)
    calls.call("/lease/revoke", {"ID": str(lease)})
    assert calls.range(K)[1] == []


def test_watch_tells_each_event_in_order(calls: EtcdApi) -> None:
    """From a revision on, with what was before it opened."""
    first = put(calls, K + "a", "0")
    stream = calls.watch(K, first, 20.0)
    for n in range(1, 50):
        put(calls, K + "a", str(n))
    seen: list[int] = []
    for result in stream:
        seen += [int(event["kv"]["mod_revision"]) for event in result.get("events", ())]
        if len(seen) == 50:
            break
    stream.close()  # type: ignore[attr-defined]
    assert seen == list(range(first, first + 50))


def test_watch_of_what_was_compacted_is_an_error(voter: Voter, calls: EtcdApi) -> None:
    """And does not hang."""
    for n in range(5):
        put(calls, K + "a", str(n))
    revision = calls.range(K)[0]
    voter.runtime.gateway.call("/kv/compaction", {"revision": str(revision)})
    with pytest.raises(EtcdError, match=r"cancelled: .*compacted"):
        list(calls.watch(K, 2, 5.0))


def test_refusal_of_etcd_is_in_its_words(calls: EtcdApi) -> None:
    """Never one that means "maybe it happened"."""
    with pytest.raises(EtcdError, match="requested lease not found") as caught:
        put(calls, K + "a", "v", new_lease_id("mgt4"))
    assert type(caught.value) is EtcdError


def test_members_and_leader_are_told(calls: EtcdApi) -> None:
    """The same to everybody."""
    assert [m.name for m in calls.members()] == ["mgt1"]
    assert calls.status().leader


# Through the door alone -------------------------------------------------------------------------


def test_voter_s_id_is_not_ours(voter: Voter) -> None:
    """Whoever takes it for its own would think that it leads."""
    assert voter.runtime.gateway.status().member_id == voter.runtime.gateway.status().leader
    assert voter.remote.status().member_id == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.add_learner("https://127.0.0.4:1"),
        lambda g: g.promote(1),
        lambda g: g.remove(1),
        lambda g: g.move_leader(1),
        lambda g: g.call("/kv/compaction", {"revision": "1"}),
        lambda g: g.call("/maintenance/defragment", {}),
    ],
)
def test_membership_and_maintenance_do_not_pass(
    voter: Voter, call: Callable[[EtcdApi], object]
) -> None:
    """They are refused at once, and never get to etcd."""
    with pytest.raises(EtcdError, match="may not ask etcd for") as caught:
        call(voter.remote)
    assert not isinstance(caught.value, EtcdUnavailableError)
    assert len(voter.runtime.gateway.members()) == 1


def test_records_cannot_be_written_and_nothing_else_is_touched(voter: Voter) -> None:
    """So none makes itself a voter, invites whom it likes, or reads what others keep in etcd."""
    store, gateway = RecordStore(voter.remote), voter.runtime.gateway
    view = store.read()
    put(gateway, "others/secret", "1")
    with pytest.raises(EtcdError, match="no record"):
        store.put_member(view, voter.record, 0.0)
    invitation = Invitation("mgt5", Role.VOTER, "00" * 32, "mgt1", 0.0, 9e9)
    with pytest.raises(EtcdError, match="is none of mgt4's"):
        store.invite(view, invitation, 60)
    record = PutRequest(
        invitation_key("mgt5"), to_json(invitation), voter.remote.grant_lease(60, "mgt4")
    )
    with pytest.raises(EtcdError, match="no record"):
        voter.remote.transact({}, [record])
    for attempt in (
        lambda: put(voter.remote, "others/x", "1"),
        lambda: put(voter.remote, "collective/v2/x", "1"),
        lambda: voter.remote.transact({}, [], ["others/secret"]),
        lambda: voter.remote.range("others/"),
        lambda: voter.remote.transact({"others/secret": 0}, []),
    ):
        with pytest.raises(EtcdError, match="a member that does not vote"):
            attempt()
    assert voter.runtime.store.read().items == view.items
    assert [kv.key for kv in gateway.range("others/")[1]] == ["others/secret"]
    put(voter.remote, COORDINATION + "x", "1")


def test_watch_of_all_tells_of_others_keys_the_revision_alone(voter: Voter) -> None:
    """So a cache knows how new it is, and what others keep stays theirs."""
    first = put(voter.runtime.gateway, "others/secret", "password")
    put(voter.remote, K, "1")
    events: list[dict[str, Any]] = []
    stream = voter.remote.watch("", first, SECONDS)
    while len(events) < 2:
        events += next(stream).get("events", ())
    stream.close()  # type: ignore[attr-defined]
    assert events[0] == {"kv": {"key": "", "mod_revision": str(first)}}
    assert (events[1]["kv"]["key"], events[1]["kv"]["value"]) == (encode(K), encode("1"))


def test_lease_of_another_cannot_be_prolonged_revoked_or_bound_to(voter: Voter) -> None:
    """A revoked certificate hung on one, and came back with it."""
    gateway = voter.runtime.gateway
    for lease in (
        gateway.grant_lease(60),
        gateway.grant_lease(60, "mgt1"),
        int(gateway.call("/lease/grant", {"TTL": "60"})["ID"]),
    ):
        put(gateway, K + "theirs", "1", lease)
        for path in ("/lease/keepalive", "/lease/revoke"):
            with pytest.raises(EtcdError, match="is none of mgt4's"):
                voter.remote.call(path, {"ID": str(lease)})
        with pytest.raises(EtcdError, match="is none of mgt4's"):
            put(voter.remote, K + "ours", "1", lease)
        with pytest.raises(EtcdError, match="is none of mgt4's"):
            voter.remote.call("/lease/grant", {"TTL": "60", "ID": str(lease)})
        assert gateway.prolong_lease(lease)
    assert [kv.key for kv in gateway.range(K)[1]] == [K + "theirs"]


def test_lease_that_a_server_had_as_a_voter_is_its_own_without_a_vote(voter: Voter) -> None:
    """And the other way about: whose it is, its id says, at any voter."""
    before = voter.runtime.gateway.grant_lease(60, "mgt4")
    put(voter.remote, K, "1", before)
    assert voter.remote.prolong_lease(before)
    given = int(voter.remote.call("/lease/grant", {"TTL": "60"})["ID"])
    assert is_of("mgt4", given)
    voter.remote.call("/lease/revoke", {"ID": str(before)})
    assert voter.remote.range(K)[1] == []


@pytest.mark.parametrize("seconds", [0, 86401, 9_000_000_000])
def test_lease_of_another_time_than_is_allowed_is_refused(voter: Voter, seconds: int) -> None:
    """The limits hold at the voter, and are named."""
    with pytest.raises(EtcdError, match="from 1 s to 86400 s"):
        voter.remote.grant_lease(seconds, "mgt4")


def test_many_keys_and_large_values_are_read_in_bounded_answers(voter: Voter) -> None:
    """Whatever is asked for at once: etcd holds an answer several times over."""
    gateway = voter.runtime.gateway
    for number in range(12):
        put(gateway, K + f"large{number:02}", "x" * (1 << 20))
    body = {"key": encode(K), "range_end": encode(prefix_end(K))}
    seen: list[str] = []
    inner = gateway.call

    def noted(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = inner(path, body)
        seen.append(path)
        assert len(json.dumps(answer)) < 8 << 20
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "call", noted)
        answer = voter.remote.call("/kv/range", body)
    assert answer["more"]
    assert len(json.dumps(answer)) < 8 << 20
    assert seen
    assert len(voter.remote.range(K)[1]) == 12


def test_feed_reads_large_values_and_many_keys_through_a_voter(voter: Voter) -> None:
    """Its pages are what the voter gives."""
    gateway = voter.runtime.gateway
    for number in range(12):
        put(gateway, K + f"large{number:02}", "x" * (1 << 20))
    value = "x" * 200
    for first in range(0, MANY, 100):
        keys = [STORE + f"n/{n:06}" for n in range(first, first + 100)]
        gateway.transact({}, [PutRequest(key, value) for key in keys])
    handle = Collective("mgt4", voter.remote, nowhere())
    try:
        handle.wait_until_ready(60.0)
        assert len(handle.store.range("n/").entries) == MANY
        assert len(handle.store.range("k/").entries) == 12
        with handle.store.lease(60) as lease:
            assert is_of("mgt4", lease.id)
            handle.store.put("k/small", b"1", lease=lease)
            assert handle.store.get("k/small", linearizable=True) == b"1"
        assert handle.store.get("k/small", linearizable=True) is None
    finally:
        handle.close()


def test_member_has_so_many_watches_at_a_time(voter: Voter) -> None:
    """The next one is refused, and nobody else is; what ends gives its place back."""
    streams = [voter.remote.watch(K, 0, SECONDS) for _ in range(16)]
    for stream in streams:
        next(stream)
    with pytest.raises(EtcdUnavailableError, match="16 watches"):
        next(voter.remote.watch(K, 0, SECONDS))
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    wait_until(lambda: not voter.runtime.places.watches._taken, SECONDS, "they are given back")
    assert put(voter.remote, K, "x")


def test_member_that_was_deleted_gets_nothing_though_the_view_be_old(voter: Voter) -> None:
    """The record is looked at in the very transaction: our replica may be behind (P4)."""
    put(voter.remote, K + "a", "secret")
    voter.runtime.records_view.stop()
    gateway = voter.runtime.gateway
    put(voter.remote, K + "tick", "1")  # the replica's last event
    gateway.transact({}, [], [member_key("mgt4")])
    for attempt in (
        lambda: voter.remote.range(K),
        lambda: put(voter.remote, K + "b", "x"),
        lambda: voter.remote.range(K, serializable=True),
    ):
        with pytest.raises(EtcdError, match="belongs to no member"):
            attempt()
    assert K + "b" not in {kv.key for kv in gateway.range(K)[1]}


def lines_of_a_watch(voter: Voter, most: int) -> list[tuple[float, bytes]]:
    """Return the first lines of a watch in which nothing happens, and when each came."""
    body = {"create_request": {"key": encode(K), "range_end": encode(prefix_end(K))}}
    lines = voter.remote.lines("/watch", body, 5.0)
    seen = []
    with suppress(EtcdUnavailableError):
        for line in lines:
            seen.append((time.monotonic(), line))
            if len(seen) == most:
                break
    lines.close()
    return seen


def test_silent_watch_has_a_beat(voter: Voter) -> None:
    """An empty line at least every so often; etcd3gw's lines are between them."""
    seen: list[tuple[float, bytes]] = []
    for _ in range(3):
        seen = lines_of_a_watch(voter, 9)
        # The voter ends it where its etcd does not answer at once, as on a busy machine.
        if len(seen) == 9:
            break
    assert b"created" in b"".join(line for _, line in seen)
    assert sum(not line for _, line in seen) >= 7
    assert seen[-1][0] - seen[0][0] < 8 * (2 * BEAT_SECONDS + SILENCE_SECONDS)


def test_watch_ends_when_the_voter_s_etcd_hangs(voter: Voter) -> None:
    """Its daemon lives and could beat on for ever; it looks at its etcd first."""
    stream = voter.remote.watch(K, 1, 60.0)
    next(stream)
    pid = voter.runtime._backend._frame.etcd.pid  # type: ignore[attr-defined]
    with stopped(pid):
        begun = time.monotonic()
        with pytest.raises(EtcdError):
            list(stream)
        assert time.monotonic() - begun < 10.0


def test_write_without_an_answer_is_in_doubt_and_sent_once(voter: Voter) -> None:
    """It may have happened; only reads are asked again."""
    put(voter.remote, K + "a", "1")
    pid = voter.runtime._backend._frame.etcd.pid  # type: ignore[attr-defined]
    with stopped(pid):
        voter.requests.clear()
        with pytest.raises(EtcdUnavailableError), within(2.0):
            put(voter.remote, K + "a", "2")
        assert voter.requests == ["/v1/etcd/kv/txn"]
        voter.requests.clear()
        with pytest.raises(EtcdUnavailableError), within(2.5):
            voter.remote.range(K)
        assert len(voter.requests) > 1
    wait_until(lambda: voter.remote.range(K)[1] != [], SECONDS, "etcd answers again")


def test_calls_go_to_the_next_voter_when_one_is_gone(voter: Voter) -> None:
    """Nothing listens at the first: not even a write is in doubt."""
    (known,) = voter.remote._voters()
    gone = MemberRecord("mgt0", "2", Role.VOTER, ADDRESS, 1, 2, (), 0.0)
    remote = RemoteGateway(lambda: [gone, known], voter.remote._connect)
    for _ in range(4):
        remote._chosen = "mgt0"
        assert put(remote, K + "a", "1")
        assert remote._chosen == "mgt1"
    remote.close()
    with pytest.raises(EtcdUnavailableError):
        remote.range(K)


def test_prefix_of_our_records_can_be_read(voter: Voter) -> None:
    """The view that a voter has is the one that it gets."""
    assert prefix_end("k/") == "k0"
    assert RecordStore(voter.remote).read().items == voter.runtime.store.read().items


def test_store_that_is_nearly_full_takes_deletions_and_leases_and_reads_alone(
    voter: Voter,
) -> None:
    """What is left is for the voters; who does not vote is told so at once, in words."""
    remote = voter.remote
    put(remote, K + "a", "1")
    lease = remote.grant_lease(60, "mgt4")
    voter.runtime.places.room = Room(most_bytes=1)
    voter.requests.clear()
    for write in (
        lambda: remote.transact({}, [PutRequest(K + "b", "1")]),
        lambda: remote.call("/kv/put", {"key": encode(K + "b"), "value": "MQ=="}),
    ):
        with within(SECONDS), pytest.raises(EtcdError, match="no room for servers") as caught:
            write()
        assert not isinstance(caught.value, EtcdUnavailableError), "nothing was written, for sure"
    assert len(voter.requests) == 2, "it is not tried over and over"
    assert [kv.key for kv in remote.range(K)[1]] == [K + "a"]
    assert remote.prolong_lease(lease)
    assert remote.grant_lease(60, "mgt4")
    assert remote.call("/kv/deleterange", {"key": encode(K + "a")})["deleted"] == "1"
    put(voter.runtime.gateway, K + "c", "1")
