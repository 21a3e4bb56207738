"""What a change of the members does to the quorum: the numbers before it and after it.

It refuses nothing; ``collective.policy.membership`` does, on the same numbers.

Invariants:
  * The numbers after a change are those of the numbers before it and of that change alone.
  * A line claims no more than was observed: who does not answer is counted as lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collective.errors import ProtocolError
from collective.policy.membership import Strength

_MOST_VOTERS = 1000


@dataclass(frozen=True)
class Forecast:
    """The collective before and after a change.

    Attributes:
        before, after: voters, and how many of them answer.
        what: the change, such as "with mgt2".
    """

    before: Strength
    after: Strength
    what: str

    def lines(self, done: bool = False) -> tuple[str, str]:
        """Return a short line for before and one for after.

        Args:
            done: whether the change was made, so that "now" would be the wrong word.
        """
        spare_now = self.before.spare
        still = self.after.voters > self.before.voters and self.after.spare == spare_now == 0
        begin = "before" if done else "now"
        return f"{begin}: {_numbers(self.before)}", f"{self.what}: {_numbers(self.after, still)}"

    def to_document(self, done: bool = False) -> dict[str, Any]:
        """Return the JSON form, for scripts and for the renderer."""
        return {**self.to_wire(), "what": self.what, "lines": list(self.lines(done))}

    def to_wire(self) -> dict[str, Any]:
        """Return the numbers as they cross a door."""
        return {"before": _fields(self.before), "after": _fields(self.after)}

    @classmethod
    def from_wire(cls, raw: object, what: str) -> Forecast:
        """Read what another server foretells.

        Args:
            raw: the decoded JSON.
            what: the change, in our own words.

        Raises:
            ProtocolError: it is not such a forecast.
        """
        if not isinstance(raw, Mapping):
            raise ProtocolError("a forecast is broken")
        return cls(_strength(raw.get("before")), _strength(raw.get("after")), what)


def with_voter(before: Strength, name: str) -> Forecast:
    """Foretell an invitation, a join or a promotion: one more voter, which answers."""
    after = Strength(before.voters + 1, before.answering + 1)
    return Forecast(before, after, f"with {name}")


def with_nonvoting(before: Strength, name: str) -> Forecast:
    """Foretell the invitation or the join of a server that does not vote."""
    return Forecast(before, before, f"with {name}, which does not vote")


def without_voter(before: Strength, name: str, answers: bool) -> Forecast:
    """Foretell a deletion, or that this voter leaves.

    Args:
        before: with it.
        name: the voter.
        answers: whether it is among those that answer.
    """
    return Forecast(before, _less(before, answers), f"without {name}")


def without_nonvoting(before: Strength, name: str) -> Forecast:
    """Foretell the deletion of a server that does not count: one without a vote, or a learner."""
    return Forecast(before, before, f"without {name}")


def demoted(before: Strength, name: str, answers: bool) -> Forecast:
    """Foretell a demotion: the server stays, its vote goes."""
    return Forecast(before, _less(before, answers), f"without the vote of {name}")


def _less(before: Strength, answers: bool) -> Strength:
    return Strength(before.voters - 1, before.answering - answers)


def _numbers(strength: Strength, still: bool = False) -> str:
    voters = f"{strength.voters} voter" + ("" if strength.voters == 1 else "s")
    parts = [voters, f"quorum {strength.quorum}"]
    if strength.answering != strength.voters:
        parts.append(f"{strength.answering} {'answers' if strength.answering == 1 else 'answer'}")
    if not strength.holds:
        return ", ".join([*parts, "no quorum"])
    lost = "none" if strength.spare == 0 else f"{strength.spare} more"
    parts.append(f"{'still ' if still else ''}{lost} may be lost")
    wanted = "; a third voter is wanted" if strength.voters == 2 else ""
    return ", ".join(parts) + wanted


def _fields(strength: Strength) -> dict[str, int]:
    return {
        "voters": strength.voters,
        "answering": strength.answering,
        "quorum": strength.quorum,
        "spare": strength.spare,
    }


def _strength(raw: object) -> Strength:
    if not isinstance(raw, Mapping):
        raise ProtocolError("a forecast is broken")
    voters, answering = raw.get("voters"), raw.get("answering")
    if (
        not isinstance(voters, int)
        or not isinstance(answering, int)
        or not 0 <= answering <= voters <= _MOST_VOTERS
    ):
        raise ProtocolError("a forecast is broken")
    return Strength(voters, answering)
