"""Whose word makes a server move its data aside, as a table."""

from __future__ import annotations

from itertools import product

import pytest

from collective.policy.evidence import TRIES, Word, is_believed, is_unopposed

M, D, N = Word.MEMBER, Word.DELETED, Word.NOTHING
NAMES = ("b", "c", "d", "e", "f")


def words(*said: Word) -> dict[str, Word]:
    return dict(zip(NAMES, said, strict=False))


@pytest.mark.parametrize(
    ("said", "at_once", "in_the_end"),
    [
        ((), False, False),
        # Two voters, one deleted: the one that is left is all there is to ask.
        ((D,), False, True),
        ((M,), False, False),
        ((N,), False, False),
        # Three voters.
        ((D, D), True, True),
        # One of two others may have been deleted itself, and be the only one that answers.
        ((D, N), False, False),
        ((D, M), False, False),
        ((N, N), False, False),
        # Four: three of them are a majority.
        ((D, D, D), True, True),
        ((D, D, N), False, True),
        ((D, D, M), False, False),
        # Five.
        ((D, D, D, N), True, True),
        ((D, D, D, M), True, True),
        ((D, D, N, N), False, False),
        ((D, N, N, M), False, False),
    ],
)
def test_word_of_voters_is_believed(
    said: tuple[Word, ...], at_once: bool, in_the_end: bool
) -> None:
    """A majority at once; more than half of the others, when they have said it often enough."""
    voters = {"a", *NAMES[: len(said)]}
    assert is_believed(voters, "a", words(*said), 1) is at_once
    assert is_believed(voters, "a", words(*said), TRIES - 1) is at_once
    assert is_believed(voters, "a", words(*said), TRIES) is in_the_end


def test_one_liar_among_many_is_never_enough() -> None:
    """While any other voter says that we are a member, one word moves no data."""
    for size in (2, 3, 4):
        for rest in product((M, N), repeat=size - 1):
            if M in rest:
                voters = {"a", *NAMES[:size]}
                assert not is_believed(voters, "a", words(D, *rest), 1000)


def test_words_of_strangers_make_no_majority() -> None:
    """Only voters that this server knows count towards the majority."""
    said = words(N, N, D, D, D)
    assert not is_believed({"a", "b", "c"}, "a", said, 1)


def test_own_name_is_counted_once() -> None:
    """A view that lacks our record, or has it, gives the same answer."""
    assert is_believed({"b", "c"}, "a", words(D, D), 1)
    assert is_believed({"a", "b", "c"}, "a", words(D, D), 1)


@pytest.mark.parametrize(
    ("said", "unopposed"),
    [((), False), ((N,), False), ((D,), True), ((D, N), True), ((D, M), False)],
)
def test_unopposed_word_is_counted(said: tuple[Word, ...], unopposed: bool) -> None:
    """Silence neither supports nor contradicts."""
    assert is_unopposed(words(*said)) is unopposed
