"""The records on a real etcd: all or nothing, and every event in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from collective.daemon.member.records_view import RecordsView
from collective.errors import EtcdError
from collective.etcd.follower import Raw
from collective.etcd.requests import PutRequest
from collective.model.records import (
    Change,
    ChangeKind,
    Invitation,
    LoadedTrust,
    MemberRecord,
    Revocation,
    Role,
)
from collective.model.view import PREFIX, View, invitation_key, member_key, revoked_key
from collective.pki import make_certificate, new_key
from tests.contract.conftest import Member
from tests.harness import wait_until

pytestmark = pytest.mark.contract

SECONDS = 60.0

A1, A2, A3 = (make_certificate(new_key(), "mgt1", ["127.0.0.2"]) for _ in range(3))
B0, B1 = (make_certificate(new_key(), "mgt2", ["127.0.0.3"]) for _ in range(2))
MGT1 = MemberRecord("mgt1", "1", Role.VOTER, "127.0.0.2", 13002, 13003, (A1.pem, A2.pem), 1.0)
MGT2 = replace(MGT1, name="mgt2", member_id="2", role=Role.LEARNER, certificates=(B1.pem,))


def invitation(name: str, key: str = "ab") -> Invitation:
    return Invitation(name, Role.VOTER, key, "mgt1", 0.0, 3600.0)


def test_records_are_written_and_read(member: Member) -> None:
    """What is put is in the next view, at its revision; the local read has it too."""
    store = member.store
    empty = store.read()
    assert not empty.items
    assert store.put_member(empty, MGT1, 5.0)
    assert store.invite(empty, invitation("mgt2"), 600)
    view = store.read()
    assert dict(view.members) == {"mgt1": MGT1}
    assert dict(view.invitations) == {"mgt2": invitation("mgt2")}
    assert view.revision > empty.revision
    assert store.read_local() == view
    assert view.lease(invitation_key("mgt2")) != 0
    assert view.lease(member_key("mgt1")) == 0


def test_write_on_an_old_view_is_refused_and_writes_nothing(member: Member) -> None:
    """Each kind of write, when its record changed after the view was read."""
    store = member.store
    old = store.read()
    change = Change(ChangeKind.REMOVE, "mgt2", "2", "mgt1", False)
    assert store.put_member(old, MGT2, 5.0)
    assert store.invite(old, invitation("mgt3"), 600)
    assert store.begin_change(old, change)
    now = store.read()
    assert not store.put_member(old, MGT2, 5.0)
    assert not store.promote_member(old, replace(MGT2, role=Role.VOTER))
    assert not store.admit_member(old, MGT2, 5.0)
    assert not store.invite(old, invitation("mgt3", "cd"), 600)
    assert not store.invite(old, invitation("mgt2"), 600)
    assert not store.claim(old, replace(invitation("mgt3"), claimed_by="c1"))
    assert not store.begin_change(old, replace(change, name="mgt1"))
    assert not store.finish_change(old, change, 5.0)
    assert not store.drop_member(old, MGT2, 5.0)
    assert store.read() == now


def test_second_invitation_replaces_the_first(member: Member) -> None:
    """One name, one pending invitation, the newer one's lease."""
    store = member.store
    store.put_member(store.read(), MGT1, 5.0)
    assert store.invite(store.read(), invitation("mgt2"), 600)
    first = store.read()
    assert store.invite(first, invitation("mgt2", "cd"), 600)
    second = store.read()
    assert second.invitations["mgt2"].public_key == "cd"
    assert second.lease(invitation_key("mgt2")) != first.lease(invitation_key("mgt2"))


def test_claim_is_won_by_one_of_many(member: Member) -> None:
    """P3: a race for one invitation has one winner, and the lease stays."""
    store = member.store
    store.put_member(store.read(), MGT1, 5.0)
    store.invite(store.read(), invitation("mgt2"), 600)
    view = store.read()
    claims = [replace(invitation("mgt2"), claimed_by=f"c{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda claim: store.claim(view, claim), claims))
    assert won.count(True) == 1
    after = store.read()
    assert after.invitations["mgt2"] == claims[won.index(True)]
    key = invitation_key("mgt2")
    assert after.lease(key) == view.lease(key)


def test_invitation_ends_with_its_lease_claimed_or_not(member: Member) -> None:
    """The claim does not make it live longer; what is beside it stays."""
    store = member.store
    store.put_member(store.read(), MGT1, 5.0)
    for name in ("mgt2", "mgt3"):
        assert store.invite(store.read(), invitation(name), 4)
    view = store.read()
    assert store.claim(view, replace(invitation("mgt2"), claimed_by="c1"))
    wait_until(lambda: not store.read().invitations, 15.0, "the end of the invitations")
    assert set(store.read().members) == {"mgt1"}


def test_completed_join_ends_its_invitation_in_one_step(member: Member) -> None:
    """Never a voter with an invitation that is still good."""
    store = member.store
    store.invite(store.read(), invitation("mgt2"), 600)
    store.put_member(store.read(), MGT2, 5.0)
    before = store.read()
    assert store.promote_member(before, replace(MGT2, role=Role.VOTER))
    after = store.read()
    assert (after.revision, set(after.voters)) == (before.revision + 1, {"mgt2"})
    assert not after.invitations


def test_certificates_that_a_record_drops_are_revoked_in_the_same_step(member: Member) -> None:
    """No moment in which a certificate is neither listed nor revoked."""
    store = member.store
    store.put_member(store.read(), MGT1, 5.0)
    before = store.read()
    renewed = replace(MGT1, certificates=(A2.pem, A3.pem))
    assert store.put_member(before, renewed, 6.0)
    after = store.read()
    assert after.revision == before.revision + 1
    assert dict(after.members) == {"mgt1": renewed}
    assert dict(after.revoked) == {A1.fingerprint: Revocation(A1.fingerprint, "mgt1", 6.0)}
    assert after.lease(revoked_key(A1.fingerprint)) == 0, "whoever ends a lease would undo it"
    assert after.lease(member_key("mgt1")) == 0


def test_revoked_invitation_is_gone_unless_it_or_its_server_has_changed(member: Member) -> None:
    """What was decided on must still hold; the invitations of others stay."""
    store = member.store
    store.put_member(store.read(), MGT1, 5.0)
    assert store.invite(store.read(), invitation("mgt2"), 600)
    assert store.invite(store.read(), invitation("mgt3"), 600)
    old = store.read()
    assert store.put_member(old, MGT2, 5.0)
    assert not store.revoke_invitation(old, "mgt2")
    assert store.revoke_invitation(store.read(), "mgt2")
    assert store.read().invitations.keys() == {"mgt3"}


def test_learner_that_gives_up_leaves_nothing_but_its_revocation(member: Member) -> None:
    """Record and invitation go and its certificate is revoked in one step."""
    store = member.store
    assert store.invite(store.read(), invitation("mgt2"), 600)
    old = store.read()
    assert store.put_member(old, MGT2, 5.0)
    assert not store.put_out(old, MGT2, 6.0)
    view = store.read()
    assert view.members.keys() == {"mgt2"}
    assert store.put_out(view, MGT2, 6.0)
    view = store.read()
    assert (dict(view.members), dict(view.invitations)) == ({}, {})
    assert view.revoked.keys() == {B1.fingerprint}


def test_admission_writes_the_record_and_revokes_the_former_one(member: Member) -> None:
    """The invitation stays, claimed, until the learner is promoted."""
    store = member.store
    store.invite(store.read(), invitation("mgt2"), 600)
    store.put_member(store.read(), MGT1, 4.0)
    store.put_member(store.read(), replace(MGT2, certificates=(B0.pem,)), 4.0)
    before = store.read()
    assert store.admit_member(before, MGT2, 5.0)
    after = store.read()
    assert after.revision == before.revision + 1
    assert dict(after.members) == {"mgt1": MGT1, "mgt2": MGT2}
    assert dict(after.revoked) == {B0.fingerprint: Revocation(B0.fingerprint, "mgt2", 5.0)}
    assert after.invitations == before.invitations != {}


@pytest.mark.parametrize("what", ["record", "invitation", "end of the invitation", "change"])
def test_admission_on_what_is_no_more_is_refused(member: Member, what: str) -> None:
    """P3: nothing that the decision was made on may have changed before it is written."""
    store = member.store
    store.invite(store.read(), invitation("mgt2"), 600)
    old = store.read()
    if what == "record":
        assert store.put_member(old, replace(MGT2, address="127.0.0.9"), 5.0)
    elif what == "invitation":
        assert store.claim(old, replace(invitation("mgt2"), claimed_by="c1"))
    elif what == "change":
        assert store.begin_change(old, Change(ChangeKind.REMOVE, "mgt3", "3", "mgt1", False))
    else:
        member.gateway.transact({}, [], [invitation_key("mgt2")])
    now = store.read()
    assert not store.admit_member(old, MGT2, 5.0)
    assert store.read() == now


def test_finished_removal_revokes_and_forgets_in_one_step(member: Member) -> None:
    """Every certificate of the server is revoked when its record goes."""
    store = member.store
    change = Change(ChangeKind.REMOVE, "mgt1", "1", "mgt9", False)
    store.put_member(store.read(), MGT1, 5.0)
    store.invite(store.read(), invitation("mgt1"), 600)
    assert store.begin_change(store.read(), change)
    before = store.read()
    assert store.finish_change(before, change, 5.0)
    after = store.read()
    assert after.revision == before.revision + 1
    assert (dict(after.members), dict(after.invitations)) == ({}, {})
    assert {f: r.name for f, r in after.revoked.items()} == dict.fromkeys(
        MGT1.fingerprints, "mgt1"
    )
    assert after.change == replace(change, done=True)
    assert not store.finish_change(before, change, 6.0)


def test_demotion_is_noted_in_the_record_and_ends_in_one_step(member: Member) -> None:
    """Its server knows what is to become of it, and stays, under its certificate."""
    store = member.store
    change = Change(ChangeKind.DEMOTE, "mgt1", MGT1.member_id, "mgt9", False)
    store.put_member(store.read(), MGT1, 5.0)
    store.put_loaded(store.read(), LoadedTrust("mgt1", ()))
    assert store.invite(store.read(), replace(invitation("mgt4"), issuer="mgt1"), 600)
    first = store.read()
    assert store.begin_change(first, change)
    before = store.read()
    assert before.revision == first.revision + 1
    assert before.change == before.change_under_way == change
    assert dict(before.members) == {"mgt1": replace(MGT1, target=Role.NONVOTING)}
    assert store.finish_change(before, change, 5.0)
    after = store.read()
    assert after.revision == before.revision + 1
    assert dict(after.members) == {"mgt1": MGT1.as_nonvoting()}
    assert (after.change, after.change_under_way) == (replace(change, done=True), None)
    assert (dict(after.revoked), dict(after.loaded), dict(after.invitations)) == ({}, {}, {})


def test_removal_of_a_former_member_spares_its_successor(member: Member) -> None:
    """A server that came back under the same name has another id, and keeps its record."""
    store = member.store
    change = Change(ChangeKind.REMOVE, "mgt1", "1", "mgt9", False)
    store.begin_change(store.read(), change)
    successor = replace(MGT1, member_id="77")
    store.put_member(store.read(), successor, 5.0)
    assert store.finish_change(store.read(), change, 5.0)
    after = store.read()
    assert dict(after.members) == {"mgt1": successor}
    assert not after.revoked


def test_follower_sees_every_change_in_order(member: Member) -> None:
    """Puts, deletes and transactions while it follows: each view is what the store was then."""
    store = member.store
    start = store.read()
    written: dict[int, dict[str, str]] = {start.revision: {}}

    def write() -> None:
        model: dict[str, str] = {}
        for n in range(301):
            key = f"{PREFIX}x/{n % 7}"
            if n % 5 == 4:
                deletes = sorted(model)[:2]
                puts: list[PutRequest] = []
            else:
                deletes, puts = [], [PutRequest(key, str(n)), PutRequest(f"{PREFIX}y", str(n))]
            _, revision = member.gateway.transact({}, puts, deletes)
            model.update({p.key: p.value for p in puts})
            for gone in deletes:
                del model[gone]
            written[revision] = dict(model)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[View] = []
    with following(member, seen.append) as records_view:
        assert records_view.wait_until(
            lambda view: "300" in {item.value.decode() for item in view.items.values()}, SECONDS
        )
    writer.join()
    assert [v.revision for v in seen] == sorted({v.revision for v in seen})
    for view in seen:
        assert {k: i.value.decode() for k, i in view.items.items()} == written[view.revision]


@contextmanager
def following(member: Member, listener: Callable[[View], None]) -> Iterator[RecordsView]:
    """Follow the records of an etcd."""
    records_view = RecordsView(member.gateway, [listener], View(0))
    records_view.start()
    try:
        yield records_view
    finally:
        records_view.stop()


def backlog(member: Member, count: int) -> View:
    """Write so many revisions and return the view from before them."""
    start = member.store.read()

    def write(n: int) -> None:
        member.gateway.transact({}, [PutRequest(f"{PREFIX}x/{n:05}", "")])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(count)))
    return start


class Behind(RecordsView):
    """A view that has read all, and goes on from what was there before."""

    def __init__(self, member: Member, listener: Callable[[View], None], start: View) -> None:
        super().__init__(member.gateway, [listener], start)

    def replace(self, cluster: int, revision: int, found: Sequence[Raw]) -> None:
        """Take the first reading for an old one."""
        self._cluster, self._held = cluster, self.view


def test_follower_that_is_behind_catches_up_without_a_gap(member: Member) -> None:
    """2,500 revisions behind: more than etcd sends in one batch.

    Whoever goes on from a view's revision, or waits for one, must not miss anything.
    """
    start = backlog(member, 2500)
    goal = member.store.read()
    seen: list[View] = []
    records_view = Behind(member, seen.append, start)
    records_view.start()
    assert records_view.wait_until(lambda view: view.revision == goal.revision, SECONDS)
    records_view.stop()
    assert records_view.view == goal
    assert len(seen) > 1
    for view in seen:
        missing = [
            key
            for key, item in goal.items.items()
            if item.mod_revision <= view.revision and key not in view.items
        ]
        assert not missing, f"{len(missing)} changes are missing at revision {view.revision}"


def test_watch_from_a_compacted_revision_gets_an_error(member: Member) -> None:
    """Whoever follows must read again, and is told so at once."""
    start = backlog(member, 20)
    now = member.store.read()
    member.gateway.call("/kv/compaction", {"revision": str(now.revision)})
    begun = time.monotonic()
    with pytest.raises(EtcdError, match="compacted"):
        list(member.gateway.watch(PREFIX, start.revision + 1, SECONDS))
    assert time.monotonic() - begun < 5
