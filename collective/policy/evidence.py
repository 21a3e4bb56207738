"""Was this server deleted? What the other voters say, weighed.

Safety property: a server is put to rest only by the word of more than half of the other voters
that it knows; one that says otherwise is always heard.

It asks nobody and does nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from collective.policy.membership import quorum

#: So often in a row must all that answer say it, where they are fewer than a majority.
TRIES = 4


class Word(enum.Enum):
    """What a voter said of this server when it was last asked."""

    MEMBER = "member"
    DELETED = "deleted"
    NOTHING = "nothing"


def is_believed(voters: Iterable[str], here: str, words: Mapping[str, Word], tries: int) -> bool:
    """Tell whether this server may take itself for deleted.

    Its data is moved aside then, so a voter that errs, or lies, must not be enough, nor one that
    was deleted itself and is the only one that answers. But the collective may have shrunk: of two
    voters, one is left, which is never a majority.

    Args:
        voters: names of the voters that this server knows, maybe with its own.
        here: its name.
        words: what each of them said last; one that is missing said nothing.
        tries: how many times in a row at least one said "deleted" and none "member".
    """
    known = frozenset(voters) | {here}
    said = [words.get(name, Word.NOTHING) for name in known - {here}]
    if said.count(Word.DELETED) >= quorum(len(known)):
        return True
    most = 2 * said.count(Word.DELETED) > len(said)
    return most and is_unopposed(words) and tries >= TRIES


def is_unopposed(words: Mapping[str, Word]) -> bool:
    """Tell whether somebody says "deleted" and nobody says "member"."""
    return Word.DELETED in words.values() and Word.MEMBER not in words.values()
