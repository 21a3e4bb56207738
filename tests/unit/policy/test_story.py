"""The story that the log tells: what is told of two moments, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from collective.model.records import MemberRecord, Role, Turn
from collective.policy.story import (
    FIRST_SECONDS,
    PATIENCE_SECONDS,
    Condition,
    Heard,
    Scene,
    Story,
    standing,
)

WELL = Heard(Condition.WELL)
GONE = Heard(Condition.SILENT, "cannot reach\n10.0.0.2:13002: connection refused")
NO_PART = Heard(Condition.NO_PART, "etcd does not run")
LONG = PATIENCE_SECONDS + FIRST_SECONDS


def member(name: str, role: Role = Role.VOTER, address: str = "10.0.0.9") -> MemberRecord:
    """Return a record; nobody looks at its certificates here."""
    target = Role.NONVOTING if role is Role.NONVOTING else Role.VOTER
    return MemberRecord(name, name, role, address, 13002, 13003, (), 0.0, target)


def scene(leader: str = "mgt1", **heard: Heard) -> Scene:
    """Return what mgt1 of three voters sees; who is not named is well."""
    members = {name: member(name) for name in ("mgt1", "mgt2", "mgt3")}
    others: Mapping[str, Heard] = {"mgt2": WELL, "mgt3": WELL, **heard}
    return Scene("mgt1", members, leader, others)


def told(*scenes: Scene, apart: float = LONG) -> list[str]:
    """Return what is told of these after the first one, with ``!`` before what is wrong."""
    story, lines = Story(), []
    for number, each in enumerate(scenes):
        found = story.go_on(each, number * apart)
        lines += found if number else []
    return [("! " if line.wrong else "") + line.text for line in lines]


def test_first_look_tells_who_leads_and_nothing_of_how_it_came_to_be_so() -> None:
    """A daemon that starts does not tell of a collective of five that five have joined."""
    lines = Story().go_on(scene(), 0.0)
    assert [line.text for line in lines] == ["there is a quorum leader=mgt1 voters=3"]


def test_nothing_new_nothing_told() -> None:
    """However long it lasts."""
    assert told(*[scene(mgt3=GONE)] * 2, *[scene(mgt3=GONE)] * 20) == [
        "! a member does not answer: cannot reach 10.0.0.2:13002: connection refused name=mgt3"
    ]


def test_member_that_goes_and_comes_back_has_a_line_each() -> None:
    """The one with the reason, the other with how long it was gone."""
    assert told(scene(), scene(mgt2=GONE), scene(mgt2=GONE), scene()) == [
        "! a member does not answer: cannot reach 10.0.0.2:13002: connection refused name=mgt2",
        "a member is well again name=mgt2 seconds=24",
    ]


def test_answer_that_is_late_once_is_not_told() -> None:
    """Nor that it came the next time."""
    assert told(scene(), scene(mgt2=GONE), scene(), apart=PATIENCE_SECONDS / 2) == []


def test_quorum_lost_and_back_has_a_line_each_with_its_numbers() -> None:
    """And no line says that every single member takes no part: none does then."""
    lost = scene("", mgt2=GONE, mgt3=GONE)
    lines = told(scene(), lost, lost, scene("mgt3"))
    assert lines[0] == "! no quorum: 1 of 3 voters answer, quorum is 2"
    assert lines[-1] == "a member is well again name=mgt3 seconds=24"
    assert "there is a quorum again leader=mgt3 seconds=24" in lines
    assert len(lines) == 6


def test_quorum_that_answers_and_elects_nobody_is_said_so() -> None:
    """The numbers alone would say that all is well."""
    lost = scene("")
    assert told(scene(), lost, lost) == [
        "! no quorum: 3 of 3 voters answer, quorum is 2, and etcd knows no leader"
    ]


def test_election_is_one_line_and_no_loss_of_the_quorum() -> None:
    """For as long as it takes no longer than elections do."""
    scenes = scene(), scene(""), scene("mgt2")
    assert told(*scenes, apart=PATIENCE_SECONDS / 2) == [
        "another member leads leader=mgt2 former=mgt1"
    ]


def test_own_etcd_that_does_not_run_is_told_by_whoever_notices_it() -> None:
    """Here the end of it is told only: no line claims that the collective has no quorum."""
    ailing = replace(scene(""), ailing=True)
    assert told(scene(), ailing, ailing, scene()) == [
        "there is a quorum again leader=mgt1 seconds=24"
    ]


def test_etcd_of_another_that_takes_no_part_is_told() -> None:
    """Its daemon answers, so it is not gone."""
    assert told(scene(), *[scene(mgt3=NO_PART)] * 2) == [
        "! a member answers, but its etcd takes no part: etcd does not run name=mgt3"
    ]


def test_restart_on_purpose_is_told_with_its_reason_and_as_nothing_else() -> None:
    """Nobody looks for a fault where a join has etcd restarted."""
    turn = replace(scene(mgt2=NO_PART), turn=Turn("mgt2", "taking up mgt4"))
    assert told(scene(), turn, turn, scene()) == [
        "a member restarts its etcd: taking up mgt4 name=mgt2"
    ]


def test_restart_here_is_told_where_it_is_done() -> None:
    """And its leader that is gone for a moment is no lost quorum."""
    turn = replace(scene(""), turn=Turn("mgt1", "taking up mgt4"))
    assert told(scene(), turn, turn, scene()) == []


def test_join_of_a_voter_is_told_from_its_arrival_to_its_vote() -> None:
    """On every member."""
    before = scene()
    learner = replace(
        before, members={**before.members, "mgt4": member("mgt4", Role.LEARNER)}, lacking=("mgt2",)
    )
    voter = replace(before, members={**before.members, "mgt4": member("mgt4")})
    assert told(before, learner, replace(learner, lacking=()), voter) == [
        "a server joins name=mgt4",
        "a trust round begins: each restarts its etcd names=mgt2",
        "the trust round is over: every voter that answers lets every other in",
        "a member votes now name=mgt4",
    ]


def test_changes_of_members_have_a_line_each() -> None:
    """Deleted, joined without a vote, demoted, to be promoted, moved."""
    before = scene()
    few = {n: m for n, m in before.members.items() if n != "mgt2"}
    quiet = member("mgt9", Role.NONVOTING)
    joins = replace(quiet, role=Role.LEARNER)
    promoted = replace(quiet, target=Role.VOTER)
    moved = {**few, "mgt3": member("mgt3", address="10.0.0.8")}
    demoted = {**moved, "mgt3": member("mgt3", Role.NONVOTING, "10.0.0.8")}
    scenes = [
        replace(before, members=m)
        for m in (
            before.members,
            few,
            moved,
            demoted,
            {**demoted, "mgt9": joins},
            {**demoted, "mgt9": quiet},
        )
    ]
    last = replace(before, members={**demoted, "mgt9": promoted})
    assert told(*scenes, last) == [
        "a member was deleted name=mgt2",
        "a member has another address name=mgt3 address=10.0.0.8 former=10.0.0.9",
        "a member does not vote any more name=mgt3",
        "a server joins name=mgt9",
        "a server has joined, without a vote name=mgt9",
        "a member is to be promoted name=mgt9",
    ]


def test_deleted_member_is_not_told_to_be_gone_too() -> None:
    """It does not answer any more, which is as it should be."""
    members = {n: m for n, m in scene().members.items() if n != "mgt3"}
    after = replace(scene(mgt3=GONE), members=members)
    assert told(scene(), after, after, after) == ["a member was deleted name=mgt3"]


def test_without_records_nothing_is_told_and_nothing_is_taken_as_known() -> None:
    """They are read in a moment, and what they say is no news then."""
    assert told(replace(scene(), members={}), scene()) == [
        "there is a quorum leader=mgt1 voters=3"
    ]


@given(st.lists(st.tuples(st.sampled_from([WELL, GONE, NO_PART]), st.booleans()), max_size=40))
def test_what_is_told_to_be_wrong_is_told_to_be_well(seen: list[tuple[Heard, bool]]) -> None:
    """Whatever happened before, at any pace: no line is repeated, and each wrong one is ended."""
    story, now, wrong = Story(), 0.0, False
    for heard, slow in [*seen, (WELL, True), (WELL, True)]:
        now += LONG if slow else PATIENCE_SECONDS / 4
        for line in story.go_on(scene(mgt2=heard), now):
            if "mgt2" in line.text:
                assert line.wrong or wrong
                wrong = line.wrong
    assert not wrong


def test_how_things_stand_is_one_sentence() -> None:
    """For ``systemctl status``."""
    alone = Scene("mgt1", {"mgt1": member("mgt1")}, "mgt1")
    assert standing(alone) == "a collective of one"
    assert standing(scene("mgt2")) == (
        "voter in a collective of 3: mgt2 leads, 3 of 3 voters answer; 1 more server may be lost"
    )
    assert standing(scene("", mgt2=GONE, mgt3=GONE)) == (
        "voter in a collective of 3: no quorum: 1 of 3 voters answer, quorum is 2; "
        "silent: mgt2, mgt3"
    )
    assert standing(replace(alone, members={})) == "starting"
