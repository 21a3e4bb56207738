"""When a learner counts as stuck, and who leads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon.membership.reconciler import (
    LearnerProgress,
    advance,
    leads,
    lost_learners,
    lost_voters,
    stuck,
)
from collective.etcd.api import EtcdMember, Status
from collective.model.records import Change, ChangeKind, MemberRecord, Role, to_json
from collective.model.view import CHANGE_KEY, Item, View, member_key

TIMEOUT = 300.0


def test_learner_is_on_the_clock_from_when_it_is_first_seen() -> None:
    """Also one that never answers, whose index is 0."""
    assert advance({}, {1: 0, 2: 50}, 10.0) == {
        1: LearnerProgress(0, 10.0, 10.0),
        2: LearnerProgress(50, 10.0, 10.0),
    }


@pytest.mark.parametrize(
    ("index", "becomes"),
    [
        (51, LearnerProgress(51, 20.0, 5.0)),
        (50, LearnerProgress(50, 10.0, 5.0)),
        (49, LearnerProgress(50, 10.0, 5.0)),
        (0, LearnerProgress(50, 10.0, 5.0)),
    ],
)
def test_only_a_higher_index_is_progress(index: int, becomes: LearnerProgress) -> None:
    """Falling back, or silence, does not turn the clock back."""
    assert advance({1: LearnerProgress(50, 10.0, 5.0)}, {1: index}, 20.0) == {1: becomes}


def test_learner_that_is_gone_is_forgotten() -> None:
    """A member id never comes back, but nobody should wait on one that is gone."""
    assert advance({1: LearnerProgress(5, 1.0, 1.0)}, {}, 2.0) == {}


@pytest.mark.peers(1)
@pytest.mark.parametrize(
    ("silent", "found"), [(0.0, []), (TIMEOUT, []), (TIMEOUT + 0.1, [1]), (1e9, [1])]
)
def test_learner_is_stuck_after_the_timeout_and_not_before(
    silent: float, found: list[int]
) -> None:
    """Exactly the timeout is not yet too long."""
    assert stuck({1: LearnerProgress(5, 100.0, 100.0)}, 100.0 + silent, TIMEOUT) == found


def test_stuck_learner_does_not_take_others_with_it() -> None:
    """Each is on a clock of its own."""
    progress = {
        n: LearnerProgress(5, since, since) for n, since in ((1, 0.0), (2, 200.0), (3, 0.0))
    }
    assert stuck(progress, 301.0, TIMEOUT) == [1, 3]


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 50)), min_size=1, max_size=30))
def test_learner_is_evicted_only_when_no_new_height_came_for_the_timeout_or_four_in_all(
    steps: list[tuple[float, int]],
) -> None:
    """The safety property over whole histories: time since the last new highest index."""
    progress: dict[int, LearnerProgress] = {}
    now, highest, since = 0.0, -1, 0.0
    for pause, index in steps:
        now += pause
        progress = advance(progress, {7: index}, now)
        if index > highest:
            highest, since = index, now
        late = now - since > TIMEOUT or now - steps[0][0] > 4 * TIMEOUT
        assert stuck(progress, now, TIMEOUT) == ([7] if late else [])


@pytest.mark.peers(1)
def test_learner_that_tells_of_progress_forever_is_put_out_all_the_same() -> None:
    """Its index is its own word; others waited to join for as long as it liked."""
    progress: dict[int, LearnerProgress] = {}
    for now in range(1201):
        progress = advance(progress, {7: now}, float(now))
        assert stuck(progress, float(now), TIMEOUT) == []
    progress = advance(progress, {7: 1201}, 1201.0)
    assert stuck(progress, 1201.0, TIMEOUT) == [7]


STATUS = Status(5, 5, 1, 1, 1, 1, "3.5.16", 1, False, ())


@pytest.mark.parametrize(
    ("member_id", "leader", "does"), [(5, 5, True), (5, 6, False), (5, 0, False), (0, 0, False)]
)
def test_leader_is_who_etcd_says(member_id: int, leader: int, does: bool) -> None:
    """Nobody leads where etcd knows no leader, not even a member without an id."""
    assert leads(replace(STATUS, member_id=member_id, leader=leader)) is does


def recorded(name: str, member_id: str, role: Role, address: str) -> MemberRecord:
    return MemberRecord(name, member_id, role, address, 13002, 13003, (), 0.0)


def seen(*records: MemberRecord) -> View:
    items = {member_key(r.name): Item(to_json(r).encode(), 1) for r in records}
    return View(1, items)


MGT1 = recorded("mgt1", f"{1:016x}", Role.VOTER, "10.0.0.1")
FIRST = EtcdMember(1, "mgt1", (MGT1.url,), False)


@pytest.mark.parametrize(
    ("member_id", "address", "others", "lost"),
    [
        ("", "10.0.0.2", (), True),
        (f"{2:016x}", "10.0.0.2", (), True),
        ("", "10.0.0.2", (EtcdMember(2, "", ("https://10.0.0.2:13003",), True),), False),
        (f"{2:016x}", "10.0.0.2", (EtcdMember(2, "", ("https://10.0.0.2:13003",), True),), False),
        ("", "10.0.0.1", (), True),
    ],
    ids=["not added", "gone", "added, id not written yet", "there", "another has its address"],
)
def test_record_is_of_no_learner_when_etcd_has_none_or_it_is_anothers(
    member_id: str, address: str, others: tuple[EtcdMember, ...], lost: bool
) -> None:
    """A server that was renamed while it was taken in leaves a record with another's address."""
    view = seen(MGT1, recorded("mgt2", member_id, Role.LEARNER, address))
    assert lost_learners(view, (FIRST, *others)) == (frozenset({"mgt2"}) if lost else frozenset())


MGT2 = recorded("mgt2", f"{2:016x}", Role.VOTER, "10.0.0.2")
GOING = Change(ChangeKind.REMOVE, "mgt2", MGT2.member_id, "mgt1", done=False)


@pytest.mark.parametrize(
    ("ids", "change", "lost"),
    [
        ((1, 2), None, frozenset()),
        ((1,), None, frozenset({"mgt2"})),
        ((1,), GOING, frozenset()),
        ((1,), replace(GOING, done=True), frozenset({"mgt2"})),
        ((8, 9), None, frozenset()),
    ],
    ids=["both there", "gone", "being removed", "removed before", "restored, all ids are new"],
)
def test_record_of_a_voter_that_etcd_has_no_more_is_lost(
    ids: tuple[int, ...], change: Change | None, lost: frozenset[str]
) -> None:
    """A learner was put out while it was promoted; nothing else leaves such a record."""
    members = tuple(EtcdMember(i, "", (f"https://10.0.0.{i}:13003",), False) for i in ids)
    view = seen(MGT1, MGT2)
    if change is not None:
        view = view.updated(2, {CHANGE_KEY: Item(to_json(change).encode(), 2)}, ())
    assert lost_voters(view, members, "mgt1") == lost
