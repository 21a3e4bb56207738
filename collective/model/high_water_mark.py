"""What members are known to have on their disks: the memory that tells old data from new.

It does not observe, and does not decide (``collective.policy.old_data`` does).

Invariants:
  * A promise is never more than what was on the member's disk when it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from collective.errors import ProtocolError

FORMAT = 1
_LONGEST = 200
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class HighWaterMark:
    """That a member has so much of the log, and will never have less.

    Attributes:
        member_id: etcd member id in hex; one that is deleted and taken in again has another.
        term: a term that it has promised to follow.
        index: of an entry that it has.
    """

    member_id: str
    term: int
    index: int

    def exceeds(self, other: HighWaterMark) -> bool:
        """Tell whether this says more than another one of the same member."""
        return (self.term, self.index) > (other.term, other.index)


def newest(known: HighWaterMark | None, heard: HighWaterMark) -> HighWaterMark:
    """Return what is to be remembered: the larger one, or the one of the newer member."""
    if known is None or known.member_id != heard.member_id or heard.exceeds(known):
        return heard
    return known


def to_json(promises: Mapping[str, HighWaterMark], collective: str) -> str:
    """Return the text of a file with the promises of members by name."""
    kept = {name: [p.member_id, p.term, p.index] for name, p in promises.items()}
    return json.dumps({"format": FORMAT, "collective": collective, "promises": kept})


def from_json(text: str, collective: str) -> dict[str, HighWaterMark]:
    """Read what ``to_json`` made; what cannot be read, or is of another collective, is nothing."""
    try:
        return read(text, collective)
    except ProtocolError:
        return {}


def read(text: str, collective: str) -> dict[str, HighWaterMark]:
    """Read what ``to_json`` made; of another collective it says nothing.

    Raises:
        ProtocolError: it is broken, or of a newer format.
    """
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ProtocolError(f"it has format {raw['format']}, this release reads {FORMAT}")
        found = {
            str(name): HighWaterMark(str(member_id), int(term), int(index))
            for name, (member_id, term, index) in raw["promises"].items()
        }
        return found if raw["collective"] == collective else {}
    except _UNREADABLE as error:
        raise ProtocolError(f"it cannot be read: {error!r}"[:_LONGEST]) from None
