"""The forecast: promise P1, by brute force, and the words of each refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, combinations

import pytest

from collective.errors import CollectiveError, InputError, QuorumError, RefusedError
from collective.model.records import Change, ChangeKind, MemberRecord, Role, to_json
from collective.model.view import CHANGE_KEY, Item, View, member_key
from collective.policy.membership import (
    Observed,
    Strength,
    can_be_spared,
    check_addresses,
    check_admission,
    check_delete,
    check_demote,
    check_invite,
    check_no_change_under_way,
    check_promote,
    check_restart,
    quorum,
    removal_of,
    tolerance_sentence,
)

MOST_VOTERS = 7


def view_of(
    voters: int,
    others: dict[str, Role] | None = None,
    change: Change | None = None,
    address: str = "10.0.0.1",
) -> View:
    """Return a view with voters m1, m2, … and others."""
    roles = {f"m{n}": Role.VOTER for n in range(1, voters + 1)} | (others or {})
    items = {
        member_key(name): Item(
            to_json(MemberRecord(name, name, role, address, 1, 2, (), 0.0)).encode(), 1
        )
        for name, role in roles.items()
    }
    if change is not None:
        items[CHANGE_KEY] = Item(to_json(change).encode(), 1)
    return View(1, items)


def observe(here: str, view: View, answering: frozenset[str]) -> Observed:
    """Return what is decided on where etcd's voters are those of the records."""
    return Observed(here, view, frozenset(view.voters), answering)


def subsets(names: list[str]) -> Iterator[frozenset[str]]:
    sizes = range(len(names) + 1)
    yield from map(frozenset, chain.from_iterable(combinations(names, size) for size in sizes))


def allowed(observed: Observed, name: str, force: bool) -> bool:
    try:
        check_delete(observed, name, force)
    except CollectiveError:
        return False
    return True


def majority(voters: int) -> int:
    """Return the smallest number that two disjoint sets of voters cannot both have."""
    return next(n for n in range(voters + 1) if 2 * n > voters)


def test_quorum_is_the_smallest_majority() -> None:
    """Two quorums always have a voter in common, and one voter less would not do."""
    assert [quorum(n) for n in range(1, 10)] == [majority(n) for n in range(1, 10)]


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_no_allowed_deletion_leaves_less_than_a_quorum(voters: int) -> None:
    """P1, for every set of voters that answers, every victim, with and without force."""
    others = {"l1": Role.LEARNER, "n1": Role.NONVOTING}
    view = view_of(voters, others)
    names = [f"m{n}" for n in range(1, voters + 1)]
    tried = 0
    for answering in subsets([*names, "l1"]):
        for victim in view.members:
            for here in answering & set(names):
                for force in (False, True):
                    tried += 1
                    if not allowed(observe(here, view, answering), victim, force):
                        continue
                    left = set(names) - {victim}
                    assert left
                    assert len(left & answering) >= majority(len(left))
    assert tried > voters


@pytest.mark.parametrize("voters", range(2, MOST_VOTERS + 1))
def test_forced_deletion_is_allowed_wherever_it_leaves_a_quorum(voters: int) -> None:
    """The forecast refuses no more than it must."""
    view = view_of(voters)
    names = [f"m{n}" for n in range(1, voters + 1)]
    for answering in subsets(names):
        for victim in names:
            left = set(names) - {victim}
            enough = len(left & answering) >= majority(len(left))
            assert allowed(observe("m1", view, answering), victim, force=True) is enough


@pytest.mark.parametrize(
    ("voters", "answering", "strength"),
    [
        (1, "m1", Strength(1, 1)),
        (3, "m1 m2", Strength(3, 2)),
        (3, "m1 m2 l1 n1 stranger", Strength(3, 2)),
        (3, "", Strength(3, 0)),
    ],
)
def test_only_voters_are_counted(voters: int, answering: str, strength: Strength) -> None:
    """A learner or a stranger that answers makes no quorum."""
    view = view_of(voters, {"l1": Role.LEARNER, "n1": Role.NONVOTING})
    assert observe("m1", view, frozenset(answering.split())).strength() == strength


def test_voters_are_those_of_etcd_where_a_record_is_behind() -> None:
    """Killed between promotion and its record, a learner of the records votes all the same."""
    view = view_of(2, {"l1": Role.LEARNER})
    voters = frozenset({"m1", "m2", "l1"})
    observed = Observed("m1", view, voters, frozenset({"m1", "m2"}))
    assert observed.strength() == Strength(3, 2)
    assert observed.strength(without="l1") == Strength(2, 2)
    with pytest.raises(QuorumError, match="1 of 2 voters would remain") as caught:
        check_delete(observed, "m2", force=True)
    assert caught.value.hint == "start l1 first"


def test_only_voter_of_etcd_stays_whatever_the_records_say() -> None:
    """A record that says voter makes none."""
    view = view_of(2)
    observed = Observed("m1", view, frozenset({"m1"}), frozenset({"m1", "m2"}))
    with pytest.raises(RefusedError, match="only voter"):
        check_delete(observed, "m1", force=True)
    check_delete(observed, "m2", force=True)


def test_refusal_gives_the_numbers_and_who_to_start() -> None:
    """P1 asks for voters, how many answer, and quorum before and after."""
    observed = observe("m1", view_of(3), frozenset({"m1", "m3"}))
    with pytest.raises(QuorumError) as caught:
        check_delete(observed, "m3", force=True)
    assert caught.value.message == (
        "cannot delete m3: 1 of 2 voters would remain reachable, quorum is 2 "
        "(now 2 of 3, quorum 2)"
    )
    assert caught.value.hint == "start m2 first"


def test_refusal_hides_no_other_voter_that_is_absent() -> None:
    """The victim itself is not among those to start."""
    observed = observe("m1", view_of(5), frozenset({"m1"}))
    with pytest.raises(QuorumError) as caught:
        check_delete(observed, "m5", force=False)
    assert caught.value.hint == "start m2 or m3 or m4 first"


@pytest.mark.parametrize(
    ("voters", "answering", "victim", "force", "error", "says"),
    [
        (2, "m1 m2", "m9", False, InputError, "no such member"),
        (1, "m1", "m1", True, RefusedError, "only voter"),
        (3, "m1 m2 m3", "m3", False, RefusedError, "m3: it is active"),
        (2, "m1 m2", "m2", False, RefusedError, "m2: it is active"),
        (3, "m1", "m3", False, QuorumError, "1 of 2"),
    ],
)
def test_deletion_that_must_not_be_is_refused(
    voters: int, answering: str, victim: str, force: bool, error: type[Exception], says: str
) -> None:
    """Each rule has its class and its words."""
    observed = observe("m1", view_of(voters), frozenset(answering.split()))
    with pytest.raises(error, match=says):
        check_delete(observed, victim, force)


@pytest.mark.parametrize(
    ("voters", "answering", "victim", "force"),
    [
        (3, "m1 m2", "m3", False),
        (3, "m1 m2 m3", "m3", True),
        (3, "m1 m2 m3", "m1", False),
        (2, "m1 m2", "m1", False),
        (3, "m1 m2 m3 l1", "l1", True),
        (3, "m1 m2 m3", "l1", False),
    ],
)
def test_deletion_that_costs_nothing_is_allowed(
    voters: int, answering: str, victim: str, force: bool
) -> None:
    """A dead server, a live one by force, this one itself, a learner."""
    view = view_of(voters, {"l1": Role.LEARNER})
    check_delete(observe("m1", view, frozenset(answering.split())), victim, force)


@pytest.mark.parametrize("name", ["m1", "m2", "n1"])
def test_member_is_not_invited(name: str) -> None:
    """A name that is in, voter or not, cannot be invited."""
    with pytest.raises(RefusedError, match=f"cannot invite {name}"):
        check_invite(view_of(2, {"n1": Role.NONVOTING}), name, "m1")


def test_learner_is_invited_again() -> None:
    """A join whose invitation ended on the way goes on with a new one."""
    check_invite(view_of(2, {"l1": Role.LEARNER}), "l1", "m1")


def test_server_whose_record_is_not_written_yet_does_not_invite_itself() -> None:
    """The view of a fresh collective of one may still be empty."""
    with pytest.raises(RefusedError, match="this server"):
        check_invite(View(1), "m1", "m1")


def test_server_whose_record_is_not_written_yet_invites_nobody() -> None:
    """Nothing may be written to a store that the first start can still throw away."""
    with pytest.raises(RefusedError, match="m1 has not finished to start") as caught:
        check_invite(View(1), "m2", "m1")
    assert caught.value.hint == "try again in a second"


def test_new_name_is_invited() -> None:
    """That is what an invitation is for."""
    check_invite(view_of(2), "m3", "m1")


@pytest.mark.parametrize(("done", "refused"), [(True, False), (False, True)])
def test_change_waits_for_the_one_before(done: bool, refused: bool) -> None:
    """Two changes of the voters never overlap."""
    view = view_of(3, change=Change(ChangeKind.REMOVE, "m3", "m3", "m2", done))
    if not refused:
        check_no_change_under_way(view)
        return
    with pytest.raises(RefusedError, match="remove m3, by m2"):
        check_no_change_under_way(view)


def test_first_change_has_nothing_to_wait_for() -> None:
    """A store without a change record is one where none was made."""
    check_no_change_under_way(view_of(3))


@pytest.mark.parametrize(
    ("name", "refused"), [("m3", False), ("l1", False), ("m2", True), ("m1", True), ("n1", True)]
)
def test_admission_is_for_those_who_are_not_in(name: str, refused: bool) -> None:
    """A join that was cut off, whose learner is listed already, goes on."""
    view = view_of(2, {"l1": Role.LEARNER, "n1": Role.NONVOTING})
    if not refused:
        check_admission(view, name, "m1")
        return
    with pytest.raises(RefusedError):
        check_admission(view, name, "m1")


def becoming_voter(view: View, name: str) -> View:
    """Return a view in which a member is being promoted."""
    member = replace(view.members[name], role=Role.LEARNER, fallback=Role.NONVOTING)
    return view.updated(2, {member_key(name): Item(to_json(member).encode(), 2)}, ())


def test_member_that_is_being_promoted_is_neither_invited_nor_taken_in() -> None:
    """Though its record says learner: its certificate is good, and its data is of use."""
    view = becoming_voter(view_of(2, {"n1": Role.NONVOTING}), "n1")
    with pytest.raises(RefusedError):
        check_invite(view, "n1", "m1")
    with pytest.raises(RefusedError):
        check_admission(view, "n1", "m1")


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_promotion_that_is_allowed_cannot_cost_the_quorum(voters: int) -> None:
    """P1: whoever answers now, with the new voter they are a quorum of one voter more."""
    view = view_of(voters, {"n1": Role.NONVOTING})
    for answering in subsets([f"m{n}" for n in range(1, voters + 1)]):
        observed = observe("m1", view, answering | {"n1"})
        if len(answering) < majority(voters):
            with pytest.raises(QuorumError, match=f"{len(answering)} of {voters} voters"):
                check_promote(observed, "n1")
            continue
        check_promote(observed, "n1")
        assert len(answering) + 1 >= majority(voters + 1)


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_demotion_that_is_allowed_leaves_a_quorum_of_voters_that_answer(voters: int) -> None:
    """P1, for every set of voters that answers and every one that is to lose its vote."""
    view = view_of(voters, {"n1": Role.NONVOTING})
    names = [f"m{n}" for n in range(1, voters + 1)]
    for answering in subsets(names):
        for name in names:
            try:
                check_demote(observe("m1", view, answering), name)
            except CollectiveError:
                continue
            assert voters > 1
            assert name in answering
            assert len(answering - {name}) >= majority(voters - 1)


def test_voter_that_does_not_follow_is_told_apart_from_one_that_is_off() -> None:
    """To start a server that runs would be no way out (etcd 15247)."""
    view = view_of(3)
    observed = Observed(
        "m1", view, frozenset(view.voters), frozenset({"m1", "m2"}), frozenset({"m3"})
    )
    with pytest.raises(QuorumError) as refused:
        check_demote(observed, "m2")
    assert refused.value.hint == "see why etcd on m3 does not follow: is its disk well?"
    with pytest.raises(RefusedError, match="m3: it answers, but its etcd does not follow"):
        check_demote(observed, "m3")
    check_delete(observed, "m3", force=False)
    with pytest.raises(QuorumError) as refused:
        check_delete(replace(observed, voters=observed.voters | {"m4"}), "m2", force=True)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("start m4, or see why etcd on m3 does not follow")


ALL_ANSWER = frozenset({"m1", "m2", "m3", "n1", "l1"})


@pytest.mark.parametrize(
    ("check", "name", "answering", "change", "error", "says"),
    [
        (check_promote, "n1", ALL_ANSWER, None, None, ""),
        (check_promote, "x", ALL_ANSWER, None, InputError, "cannot promote x: no such member"),
        (check_promote, "l1", ALL_ANSWER, None, RefusedError, "just being taken in"),
        (check_promote, "n1", ALL_ANSWER - {"n1"}, None, RefusedError, "does not answer"),
        (check_promote, "n1", ALL_ANSWER, "m2", RefusedError, "another change is under way"),
        (check_promote, "n1", {"m1", "n1"}, None, QuorumError, "1 of 3 voters answer"),
        (check_demote, "m2", ALL_ANSWER, None, None, ""),
        (check_demote, "m1", ALL_ANSWER, None, None, ""),
        (check_demote, "x", ALL_ANSWER, None, InputError, "cannot demote x: no such member"),
        (check_demote, "l1", ALL_ANSWER, None, RefusedError, "just becoming a voter"),
        (check_demote, "m2", ALL_ANSWER - {"m2"}, None, RefusedError, "does not answer"),
        (check_demote, "m2", {"m1", "m2"}, None, QuorumError, "cannot demote m2: 1 of 2 voters"),
    ],
)
def test_promotion_and_demotion_are_refused_in_these_words(
    check: Callable[[Observed, str], None],
    name: str,
    answering: frozenset[str],
    change: str | None,
    error: type[CollectiveError] | None,
    says: str,
) -> None:
    """One reason each, and the numbers where it is about the quorum."""
    begun = None if change is None else Change(ChangeKind.REMOVE, change, change, "m1", False)
    view = view_of(3, {"n1": Role.NONVOTING, "l1": Role.LEARNER}, begun)
    if error is None:
        check(observe("m1", view, frozenset(answering)), name)
        return
    with pytest.raises(error, match=says):
        check(observe("m1", view, frozenset(answering)), name)


def test_only_voter_cannot_be_demoted() -> None:
    """However many there are that do not vote."""
    observed = observe("m1", view_of(1, {"n1": Role.NONVOTING}), frozenset({"m1", "n1"}))
    with pytest.raises(RefusedError, match="the only voter"):
        check_demote(observed, "m1")


@pytest.mark.parametrize(
    ("theirs", "addresses"),
    [
        ("10.0.0.1", ["10.0.0.2"]),
        ("10.0.0.1", ["10.0.0.2", "fd00::2"]),
        ("fd00::1", ["10.0.0.2"]),
        ("127.0.0.1", ["127.0.0.2"]),
        ("127.0.0.1", ["127.9.9.9", "::1"]),
        ("::1", ["127.0.0.2"]),
    ],
)
def test_addresses_of_one_kind_are_taken_in(theirs: str, addresses: list[str]) -> None:
    """All on one machine, or none on loopback."""
    check_addresses(view_of(2, address=theirs), "m9", addresses)


@pytest.mark.parametrize(
    ("theirs", "addresses", "told"),
    [
        ("10.0.0.1", ["127.0.0.2"], "m1 10.0.0.1, m2 10.0.0.1, m9 127.0.0.2"),
        ("127.0.0.1", ["10.0.0.2"], "m1 127.0.0.1, m2 127.0.0.1, m9 10.0.0.2"),
        ("10.0.0.1", ["10.0.0.2", "127.0.0.2"], "m9 10.0.0.2"),
        ("127.0.0.1", ["127.0.0.2", "10.0.0.2"], "m9 127.0.0.2"),
        ("fd00::1", ["::1"], "m9 ::1"),
    ],
)
def test_loopback_mixed_with_real_addresses_is_refused(
    theirs: str, addresses: list[str], told: str
) -> None:
    """One that nobody else reaches would be a voter that never answers; all are named."""
    with pytest.raises(RefusedError, match="cannot take in m9: a loopback address") as caught:
        check_addresses(view_of(2, address=theirs), "m9", addresses)
    assert caught.value.message.endswith(told)
    assert "set 'address'" in str(caught.value.hint)


@pytest.mark.peers(9)
@pytest.mark.parametrize(
    ("voters", "answering", "sentence"),
    [
        (
            1,
            1,
            "No more servers may be lost (three servers are needed to survive the loss of one)",
        ),
        (
            2,
            2,
            "No more servers may be lost (three servers are needed to survive the loss of one)",
        ),
        (3, 3, "1 more server may be lost"),
        (3, 2, "No more servers may be lost"),
        (3, 1, "No more servers may be lost"),
        (5, 5, "2 more servers may be lost"),
        (5, 4, "1 more server may be lost"),
    ],
)
def test_tolerance_is_said_in_one_sentence(voters: int, answering: int, sentence: str) -> None:
    """It counts the servers that were lost already."""
    assert tolerance_sentence(Strength(voters, answering)) == sentence


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_spare_is_how_many_losses_the_quorum_survives(voters: int) -> None:
    """One loss more than that and the quorum is gone."""
    for answering in range(voters + 1):
        strength = Strength(voters, answering)
        assert strength.holds is (answering >= majority(voters))
        if strength.holds:
            assert Strength(voters, answering - strength.spare).holds
            assert not Strength(voters, answering - strength.spare - 1).holds


@pytest.mark.parametrize(
    ("kind", "done", "victim", "members", "found"),
    [
        (ChangeKind.REMOVE, False, "m3", 3, True),
        (ChangeKind.REMOVE, True, "m3", 2, True),
        (ChangeKind.REMOVE, True, "m3", 3, False),
        (ChangeKind.REMOVE, False, "m2", 3, False),
        (ChangeKind.DEMOTE, False, "m3", 3, False),
        (ChangeKind.DEMOTE, True, "m3", 2, False),
    ],
    ids=["under way", "just made", "came back since", "another's", "a demotion", "long demoted"],
)
def test_removal_that_was_begun_is_found_again(
    kind: ChangeKind, done: bool, victim: str, members: int, found: bool
) -> None:
    """A delete that is run again goes on with its removal, or finds it made."""
    change = Change(kind, "m3", "m3", "m1", done)
    assert removal_of(view_of(members, change=change), victim) == (change if found else None)


def restarts(observed: Observed, spare: bool) -> bool:
    try:
        check_restart(observed, "taking up m9", spare)
    except QuorumError:
        return False
    return True


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_restart_that_spares_the_quorum_leaves_one_or_needs_everybody(voters: int) -> None:
    """P1: the others are a quorum meanwhile, or all of them are there when it comes back."""
    view = view_of(voters, {"l1": Role.LEARNER})
    names = [f"m{n}" for n in range(1, voters + 1)]
    for answering in subsets([*names[1:], "l1"]):
        observed = observe("m1", view, answering | {"m1"})
        others = len(answering - {"l1"})
        goes_on = others >= majority(voters)
        assert can_be_spared(observed) is goes_on
        assert restarts(observed, spare=True) is (goes_on or others == voters - 1)


@pytest.mark.parametrize("voters", range(1, MOST_VOTERS + 1))
def test_restart_that_need_not_spare_it_is_made_while_there_is_a_quorum_to_come_back_to(
    voters: int,
) -> None:
    """Three with one off: writers wait a moment. Without a quorum it could not end its turn."""
    view = view_of(voters)
    names = [f"m{n}" for n in range(1, voters + 1)]
    for answering in subsets(names[1:]):
        observed = observe("m1", view, answering | {"m1"})
        holds = len(answering) + 1 >= majority(voters)
        assert restarts(observed, spare=False) is holds
        if restarts(observed, spare=True):
            assert holds


def test_restart_that_is_refused_says_what_would_answer_and_whom_to_start() -> None:
    """The numbers, and why etcd was to be restarted."""
    observed = observe("m1", view_of(3), frozenset({"m1", "m3"}))
    with pytest.raises(QuorumError) as caught:
        check_restart(observed, "taking up m9")
    assert caught.value.message == (
        "cannot restart etcd on m1 for taking up m9: 1 of 3 voters would answer meanwhile, "
        "quorum is 2"
    )
    assert caught.value.hint == "start m2 first"
    check_restart(observed, "taking up m9", spare=False)
