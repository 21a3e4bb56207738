"""May etcd start after a time off: the safety property, by brute force over small histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations, product

import pytest

from collective.model.records import Record, Revocation, Role
from collective.model.view import View
from collective.policy.membership import quorum
from collective.policy.returning import Report, missing, newest_agreed
from tests.unit.identities import identity, record_of, view_of

HERE = "m0"
NAMES = tuple(f"m{n}" for n in range(7))


def fingerprint(name: str, number: int = 1) -> str:
    return identity(name, number=number).fingerprint


def records(members: Sequence[str], gone: Sequence[str] = (), revision: int = 1) -> View:
    """Return records of voters, with the certificates of those that were deleted revoked."""
    made: list[Record] = [record_of(name) for name in members]
    made += [Revocation(fingerprint(name), name, 0.0) for name in gone]
    return view_of(*made, revision=revision)


def report(name: str, view: View) -> Report:
    return Report(fingerprint(name), view)


def subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield from chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))


def deletions(voters: int) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield each deletion of a voter while we were off that the forecast would have allowed.

    Yields:
        Who was deleted, who knows of it, and who was off as we were.
    """
    names = NAMES[:voters]
    if voters < 2:
        return
    gone = names[1]
    others = names[2:]
    for off in subsets(others):
        knowing = tuple(name for name in others if name not in off)
        if len(knowing) >= quorum(voters - 1):
            yield gone, knowing, off


def lies(names: Sequence[str], gone: str, others: Sequence[str]) -> Iterator[View]:
    """Yield what a deleted server may say: all is as it was, it was never deleted, others were."""
    yield records(names, revision=10)
    yield records(names, revision=99)
    yield records([HERE, gone], others, revision=99)
    yield records([HERE, gone, "m9"], others, revision=99)
    for kept in others:
        yield records([HERE, gone, kept], [n for n in others if n != kept], revision=99)
    yield View(99)


@pytest.mark.parametrize("voters", range(3, 8))
def test_deleted_server_and_those_that_lag_are_never_enough(voters: int) -> None:
    """Whatever it says, whoever answers: no records are taken that let it in."""
    names = NAMES[:voters]
    known = records(names, revision=10)
    tried = accepted = 0
    for gone, knowing, off in deletions(voters):
        truth = records([n for n in names if n != gone], [gone], revision=20)
        honest = {n: report(n, truth) for n in knowing} | {n: report(n, known) for n in off}
        for lie, answering in product(lies(names, gone, names[2:]), subsets(names[2:])):
            reports = {gone: report(gone, lie)} | {n: honest[n] for n in answering}
            found = newest_agreed(known, HERE, reports)
            tried += 1
            if found is None:
                continue
            accepted += 1
            assert fingerprint(gone) not in found.certificates
            assert found == truth
    # Of three voters with one off, none can be deleted: there is nothing to try.
    assert (tried > 0) is (voters > 3)
    assert (accepted > 0) is (voters > 3)


@pytest.mark.parametrize("voters", range(1, 8))
def test_majority_of_honest_voters_is_always_enough(voters: int) -> None:
    """Whoever was deleted, whoever lags: what the newest of them has is taken."""
    names = NAMES[:voters]
    known = records(names, revision=10)
    cases = [(None, (), names[1:]), *deletions(voters)]
    for gone, knowing, off in cases:
        left = [n for n in names if n != gone]
        truth = records(left, [gone] if gone else [], revision=20)
        honest = {n: report(n, truth) for n in knowing} | {n: report(n, known) for n in off}
        for answering in subsets([n for n in names[1:] if n != gone]):
            found = newest_agreed(known, HERE, {n: honest[n] for n in answering})
            if len(answering) + 1 < quorum(voters):
                assert found is None
                continue
            assert found == (truth if set(answering) & set(knowing) else known)


@pytest.mark.parametrize("voters", range(4, 8))
def test_deleted_server_cannot_hold_up_those_that_are_enough_without_it(voters: int) -> None:
    """It can call them deleted as often as it likes: nobody who is a member believes it."""
    names = NAMES[:voters]
    known = records(names, revision=10)
    for gone, knowing, off in deletions(voters):
        truth = records([n for n in names if n != gone], [gone], revision=20)
        honest = {n: report(n, truth) for n in knowing} | {n: report(n, known) for n in off}
        for lie, answering in product(lies(names, gone, names[2:]), subsets(names[2:])):
            enough = len(answering) + 1 >= quorum(voters) and set(answering) & set(knowing)
            if enough:
                reports = {gone: report(gone, lie)} | {n: honest[n] for n in answering}
                assert newest_agreed(known, HERE, reports) == truth


def test_deleted_server_does_not_count_for_records_of_before_its_deletion() -> None:
    """One that lags, one that knows and the deleted one are four of six with us: too few."""
    names = NAMES[:6]
    known = records(names, revision=10)
    truth = records([n for n in names if n != "m1"], ["m1"], revision=20)
    reports = {
        "m1": report("m1", records(names, revision=99)),
        "m2": report("m2", known),
        "m3": report("m3", truth),
    }
    assert newest_agreed(known, HERE, reports) is None
    reports["m4"] = report("m4", truth)
    assert newest_agreed(known, HERE, reports) == truth


def test_server_that_is_alone_starts_on_what_it_knows() -> None:
    """There is nobody to ask, and whoever answers all the same is nobody that it knows."""
    known = records([HERE], revision=10)
    assert newest_agreed(known, HERE, {}) == known
    false = {"m9": report("m9", records(["m9"], revision=99))}
    assert newest_agreed(known, HERE, false) == known


def test_answers_of_strangers_and_of_those_without_a_vote_do_not_count() -> None:
    """Only the voters that are known here are a majority of them."""
    nonvoting = record_of("m3", Role.NONVOTING)
    known = view_of(*(record_of(n) for n in NAMES[:3]), nonvoting, revision=10)
    newer = replace(known, revision=20)
    reports = {name: report(name, newer) for name in ("m3", "m4", "m5")}
    assert newest_agreed(known, HERE, reports) is None
    assert newest_agreed(known, HERE, {**reports, "m1": report("m1", newer)}) == newer


def test_records_that_are_older_than_ours_are_not_taken() -> None:
    """A majority that lags lets us start; what we know is newer."""
    known = records(NAMES[:3], revision=10)
    older = replace(known, revision=5)
    reports = {"m1": report("m1", older), "m2": report("m2", older)}
    assert newest_agreed(known, HERE, reports) == known


def test_voter_with_another_certificate_counts_where_the_records_list_it() -> None:
    """It was recorded for it before it was shown."""
    known = records(NAMES[:3], revision=10)
    changed = view_of(record_of(HERE), record_of("m1", numbers=(2,)), record_of("m2"), revision=20)
    shown = {"m1": Report(fingerprint("m1", 2), changed), "m2": report("m2", known)}
    assert newest_agreed(known, HERE, shown) == changed
    former = {"m1": Report(fingerprint("m1", 3), known)}
    assert newest_agreed(known, HERE, former) is None


def test_voter_that_joined_meanwhile_is_in_the_records_that_are_taken() -> None:
    """It is not asked, since nobody here knows it, and not needed."""
    known = records(NAMES[:3], revision=10)
    grown = records(NAMES[:5], revision=20)
    assert newest_agreed(known, HERE, {"m1": report("m1", grown)}) == grown


@pytest.mark.parametrize(
    ("answered", "absent"),
    [((), ("m1", "m2")), (("m2",), ("m1",)), (("m1", "m2"), ()), (("m9",), ("m1", "m2"))],
)
def test_those_that_have_not_answered_are_named(
    answered: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    """Whom a server waits for is told in show; it never waits for itself."""
    known = records(NAMES[:3])
    assert missing(known, HERE, {n: report(n, known) for n in answered}) == absent
