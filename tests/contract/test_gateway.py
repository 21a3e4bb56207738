"""The gateway on a real etcd: what it promises, and what etcd really answers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import EtcdError, EtcdUnavailableError
from collective.etcd import transport
from collective.etcd.deadline import DEFAULT_SECONDS, seconds_allowed, within
from collective.etcd.gateway import Gateway
from collective.etcd.requests import PutRequest, encode
from tests.contract.conftest import Member
from tests.harness import wait_until
from tests.harness.processes import stopped

pytestmark = pytest.mark.contract


def put(member: Member, key: str, value: str, lease: int = 0) -> int:
    done, revision = member.gateway.transact({}, [PutRequest(key, value, lease)])
    assert done
    return revision


def keys(member: Member, prefix: str = "k/") -> dict[str, bytes]:
    return {kv.key: kv.value for kv in member.gateway.range(prefix)[1]}


def test_status_tells_of_a_leader_of_one(member: Member) -> None:
    """A collective of one leads itself, and every number is there."""
    status = member.gateway.status()
    assert status.member_id == status.leader != 0
    assert status.version == member.binary.version_text
    assert min(status.term, status.index, status.revision, status.db_size) > 0
    assert not status.learner
    assert status.errors == ()


def test_member_list_has_this_member(member: Member) -> None:
    """Name, id and the URL that others would dial."""
    (only,) = member.gateway.members()
    assert only.id == member.gateway.status().member_id
    assert (only.name, only.learner) == ("mgt1", False)
    assert only.peer_urls == (f"https://127.0.0.2:{member.plan.peer_port}",)


def test_commit_changes_nothing_and_is_followed(member: Member) -> None:
    """The log has one entry more; key, revision and events are what they were."""
    revision = put(member, "k/a", "1")
    before = member.gateway.status()
    assert member.gateway.commit_and_range("k/") == member.gateway.range("k/")
    after = member.gateway.status()
    assert (after.index, after.revision) == (before.index + 1, revision)


def test_range_gives_the_keys_of_a_prefix_at_a_revision(member: Member) -> None:
    """No neighbours, each value whole, also for a serializable read."""
    neighbours = ["j/z", "k", "k.", "k0", "l"]
    for key in neighbours:
        put(member, key, "no")
    put(member, "k/a", "é\n\0")
    revision = put(member, "k/b", "")
    for serializable in (False, True):
        at, found = member.gateway.range("k/", serializable)
        assert at == revision
        assert [(kv.key, kv.value) for kv in found] == [
            ("k/a", "é\n\0".encode()),
            ("k/b", b""),
        ]
        assert found[1].mod_revision == revision
    assert member.gateway.range("absent/") == (revision, [])


def test_read_sees_the_write_before_it(member: Member) -> None:
    """Linearizable reads, a hundred times over."""
    for n in range(100):
        revision = put(member, "k/n", str(n))
        at, (kv,) = member.gateway.range("k/")
        assert (at, kv.value) == (revision, str(n).encode())


def test_transaction_on_an_absent_key_succeeds_once(member: Member) -> None:
    """A revision of 0 means absent; afterwards it means a refusal, and nothing is written."""
    done, revision = member.gateway.transact({"k/a": 0}, [PutRequest("k/a", "1")])
    assert (done, revision) == (True, member.gateway.range("k/")[0])
    again = member.gateway.transact({"k/a": 0}, [PutRequest("k/a", "2"), PutRequest("k/b", "2")])
    assert again == (False, revision)
    assert keys(member) == {"k/a": b"1"}


def test_transaction_on_a_key_that_changed_writes_nothing(member: Member) -> None:
    """Neither its puts nor its deletes, though one of its two compares holds."""
    old = put(member, "k/a", "1")
    put(member, "k/a", "2")
    other = put(member, "k/b", "1")
    unchanged = {"k/b": other, "k/a": old}
    done, _ = member.gateway.transact(unchanged, [PutRequest("k/c", "x")], ["k/b"])
    assert not done
    assert keys(member) == {"k/a": b"2", "k/b": b"1"}


def test_transaction_on_a_key_that_was_deleted_writes_nothing(member: Member) -> None:
    """A key that is gone is absent, not unchanged; deleting and making it is a change."""
    old = put(member, "k/a", "1")
    member.gateway.transact({}, [], ["k/a"])
    assert not member.gateway.transact({"k/a": old}, [PutRequest("k/a", "x")])[0]
    put(member, "k/a", "1")
    assert not member.gateway.transact({"k/a": old}, [PutRequest("k/a", "x")])[0]
    assert keys(member) == {"k/a": b"1"}


def test_transaction_writes_all_at_one_revision(member: Member) -> None:
    """Puts and deletes together."""
    before = put(member, "k/old", "1")
    puts = [PutRequest(f"k/{n:03}", str(n)) for n in range(50)]
    done, revision = member.gateway.transact({"k/old": before}, puts, ["k/old", "k/absent"])
    assert (done, revision) == (True, before + 1)
    _, found = member.gateway.range("k/")
    assert {kv.mod_revision for kv in found} == {revision}
    assert [kv.key for kv in found] == [p.key for p in puts]


def test_many_keys_are_read_in_one_answer(member: Member) -> None:
    """Some 5 MB, past every limit of a message that might stand in between."""
    for first in range(0, 5000, 100):
        member.gateway.transact(
            {}, [PutRequest(f"k/{n:05}", "x" * 1000) for n in range(first, first + 100)]
        )
    _, found = member.gateway.range("k/")
    assert len(found) == 5000
    assert all(len(kv.value) == 1000 for kv in found)


def test_answer_that_is_too_long_is_an_error_and_not_taken_in(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is of can still be read in parts, over the same gateway."""
    put(member, "k/large", "x" * 200_000)
    monkeypatch.setattr(transport, "MOST_ANSWER_BYTES", 100_000)
    with pytest.raises(EtcdError, match="an answer has more than") as caught:
        member.gateway.range("k/")
    assert not isinstance(caught.value, EtcdUnavailableError)
    assert member.gateway.range("absent/")[1] == []


def test_lease_takes_its_keys_with_it(member: Member) -> None:
    """Keys of no lease stay."""
    lease = member.gateway.grant_lease(3)
    revision = put(member, "k/leased", "1", lease)
    put(member, "k/kept", "1")
    assert {kv.key: kv.lease for kv in member.gateway.range("k/")[1]} == {
        "k/leased": lease,
        "k/kept": 0,
    }
    events = member.gateway.watch("k/leased", revision + 1, 20.0)
    deleted = next(r["events"] for r in events if r.get("events"))
    assert [event["type"] for event in deleted] == ["DELETE"]
    assert keys(member) == {"k/kept": b"1"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda g: g.remove(12345), "member not found"),
        (lambda g: g.promote(12345), "member not found"),
        (lambda g: g.promote(g.status().member_id), "can only promote a learner"),
        (lambda g: g.transact({}, [PutRequest("k", "v", 12345)]), "requested lease not found"),
        (lambda g: g.move_leader(12345), "etcd: "),
        (lambda g: g.call("/kv/range", {"key": "!"}), "etcd: "),
        (lambda g: g.transact({}, [PutRequest("k", "x" * (9 << 20))]), "larger than max"),
    ],
)
def test_what_etcd_refuses_is_an_etcd_error_in_its_words(
    member: Member, call: Callable[[Gateway], object], says: str
) -> None:
    """And never one of those that mean "maybe it happened"."""
    with pytest.raises(EtcdError, match=says) as caught:
        call(member.gateway)
    assert type(caught.value) is EtcdError
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


def test_refusal_that_is_no_json_is_one_line(member: Member) -> None:
    """etcd says "Not Found" and a newline for a path that this version does not have."""
    with pytest.raises(EtcdError, match="Not Found") as caught:
        member.gateway.call("/no/such/path", {})
    assert "\n" not in caught.value.message


def test_learner_that_does_not_run_is_added_listed_and_not_promoted(member: Member) -> None:
    """Each refusal of etcd about learners, as the duties meet it."""
    gateway = member.gateway
    url = "https://127.0.0.3:1"
    learner, listed = gateway.add_learner(url)
    assert {m.id: (m.name, m.peer_urls, m.learner) for m in listed}[learner] == ("", (url,), True)
    assert {m.id for m in gateway.members()} == {m.id for m in listed}
    with pytest.raises(EtcdError, match=r"in sync with leader"):
        gateway.promote(learner)
    # Raft drops a change of members while it has not noted that the last one was applied, and
    # etcd then waits in vain; an entry after that one shows that it has.
    put(member, "k/after", "")
    with pytest.raises(EtcdError, match=r"(?i)peer ?urls already exist|member id already exist"):
        gateway.add_learner(url)
    with pytest.raises(EtcdError, match=r"too many learner"):
        gateway.add_learner("https://127.0.0.4:1")
    with pytest.raises(EtcdError, match=r"learner|transferee"):
        gateway.move_leader(learner)
    assert put(member, "k/a", "1")  # a learner that is dead costs nothing (P2)
    gateway.remove(learner)
    put(member, "k/after", "")
    assert len(gateway.members()) == 1
    with pytest.raises(EtcdError, match=r"member not found|already removed|permanently removed"):
        gateway.remove(learner)


def test_reading_what_was_compacted_is_an_etcd_error(member: Member) -> None:
    """A watch from there ends with an error, and does not hang."""
    for n in range(5):
        put(member, "k/a", str(n))
    revision = member.gateway.status().revision
    member.gateway.call("/kv/compaction", {"revision": str(revision)})
    with pytest.raises(EtcdError, match="compacted"):
        member.gateway.call("/kv/range", {"key": encode("k/a"), "revision": "2"})
    with pytest.raises(EtcdError, match=r"cancelled: .*compacted"):
        list(member.gateway.watch("k/", 2, 5.0))


def test_silent_watch_ends_after_its_seconds(member: Member) -> None:
    """So a connection that died unseen is found out."""
    begun = time.monotonic()
    stream = member.gateway.watch("k/", 1, 0.5)
    with pytest.raises(EtcdUnavailableError, match="the watch broke off"):
        list(stream)
    assert 0.4 < time.monotonic() - begun < 5


def test_watch_ends_with_its_etcd(member: Member) -> None:
    """Killed, not stopped: nobody says goodbye."""
    stream = member.gateway.watch("k/", 1, 30.0)
    assert next(stream).get("created")
    os.kill(member.pid, signal.SIGKILL)
    with pytest.raises(EtcdUnavailableError, match="the watch broke off"):
        list(stream)


def test_watch_leaves_the_deadline_of_its_reader_alone(member: Member) -> None:
    """A call between two results of a watch has the deadline that it would have without."""
    stream = member.gateway.watch("k/", 1, 30.0)
    with within(7.0):
        next(stream)
    try:
        assert seconds_allowed() == DEFAULT_SECONDS
    finally:
        stream.close()  # type: ignore[attr-defined]
    assert seconds_allowed() == DEFAULT_SECONDS


def test_deadline_holds_while_etcd_is_stopped(member: Member) -> None:
    """A process that takes connections and says nothing costs no more than the deadline."""
    with stopped(member.pid):
        for fresh in (member.gateway, Gateway(Path(member.layout.etcd_socket))):
            begun = time.monotonic()
            with pytest.raises(EtcdUnavailableError, match="in time"), within(0.5):
                fresh.range("k/")
            assert 0.4 < time.monotonic() - begun < 4
    assert member.gateway.range("k/")[1] == []


def test_etcd_that_does_not_run_is_unavailable_at_once(idle: Member) -> None:
    """No socket file, or one that nobody listens on: the same class of error, no wait."""
    begun = time.monotonic()
    with pytest.raises(EtcdUnavailableError) as caught:
        idle.gateway.status()
    idle.start()
    os.kill(idle.pid, signal.SIGKILL)
    idle.process.stop(5.0)
    with pytest.raises(EtcdUnavailableError):
        idle.gateway.status()
    assert time.monotonic() - begun < 15
    assert "Pool" not in caught.value.message
    assert "0x" not in caught.value.message


def test_connections_of_a_killed_etcd_are_not_used_again(member: Member) -> None:
    """The first call after a restart works: a pooled connection that broke is replaced."""
    pid = member.pid
    member.gateway.status()
    os.kill(pid, signal.SIGKILL)
    member.wait(other_than=pid)
    assert member.gateway.status().leader


def test_environment_cannot_redirect_the_calls(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, CA bundles and netrc of the environment are not obeyed."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.delenv("no_proxy", raising=False)
    fresh = Gateway(Path(member.layout.etcd_socket))
    assert fresh.status().leader
    assert next(fresh.watch("k/", 1, 5.0)).get("created")
    fresh.close()


def leads(member: Member) -> bool:
    try:
        return member.gateway.status().leader != 0
    except EtcdError:
        return False


def test_write_under_way_ends_before_etcd_is_restarted_on_purpose(member: Member) -> None:
    """Its writer would not know whether it was made; the next ones wait for the new start."""
    failed: list[EtcdError] = []
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            try:
                with within(20.0):
                    put(member, "k/a", "1")
            except EtcdError as error:
                failed.append(error)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        before = keys(member)
        with member.gateway.held():
            member.process.kill()
            member.process.start(member.arguments)
            wait_until(lambda: leads(member), 20.0, "a leader again")
        assert keys(member).keys() >= before.keys()
    done.set()
    for writer in writers:
        writer.join()
    assert failed == []
