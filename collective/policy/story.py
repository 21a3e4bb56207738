"""What has happened, in a line each, from what one member sees of the others at two moments.

Every member tells it by itself, so that the journal of whichever server is left has the story.

It does not observe, read a clock, or write a log.

Invariants:
  * What is seen for a moment only, such as one answer that is late, or an election, is not told.
  * Nothing is told twice, and each thing that is told to be wrong is told to be well again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collective.model.names import is_vacant, natural_key
from collective.model.records import MemberRecord, Role, Turn
from collective.policy.membership import Strength, tolerance_sentence

#: For so long must something be wrong before it is told; longer where it was never well yet.
PATIENCE_SECONDS = 2.0
FIRST_SECONDS = 10.0
_WHY_LETTERS = 200


class Condition(enum.Enum):
    """How another member is, as far as is known here."""

    WELL = "well"
    SILENT = "silent"
    NO_PART = "no part"


#: What is told where a member comes to be so, but for WELL.
_TOLD = {
    Condition.SILENT: "a member does not answer",
    Condition.NO_PART: "a member answers, but its etcd takes no part",
}

_ARRIVED = {
    Role.VOTER: "a server has joined, and votes",
    Role.LEARNER: "a server joins",
    Role.NONVOTING: "a server has joined, without a vote",
}
_BECAME = {
    Role.VOTER: "a member votes now",
    Role.LEARNER: "a member is promoted, and catches up",
    Role.NONVOTING: "a member does not vote any more",
}


@dataclass(frozen=True)
class Heard:
    """How another member is, and why that is known.

    Attributes:
        condition: how it is.
        why: for people, "" where it is well.
    """

    condition: Condition
    why: str = ""


@dataclass(frozen=True)
class Scene:
    """What is seen at one moment.

    Attributes:
        here: the name of this server.
        members: the records.
        leader: the name, or else the id, of who leads, "" while none is known.
        heard: how the others are, as far as they were asked.
        ailing: whether this server's own etcd does not run, which is told where it is noticed.
        turn: who restarts its etcd on purpose.
        lacking: voters that answer and have not taken up the certificate of every other.
    """

    here: str
    members: Mapping[str, MemberRecord]
    leader: str = ""
    heard: Mapping[str, Heard] = field(default_factory=dict)
    ailing: bool = False
    turn: Turn | None = None
    lacking: tuple[str, ...] = ()

    @property
    def strength(self) -> Strength:
        """How many vote, and how many of these are well."""
        voters = [name for name, m in self.members.items() if m.role is Role.VOTER]
        return Strength(len(voters), sum(self.is_well(name) for name in voters))

    def is_well(self, name: str) -> bool:
        """Tell whether a member is known to be well; this server is, where its etcd runs."""
        if name == self.here:
            return not self.ailing
        heard = self.heard.get(name)
        return heard is not None and heard.condition is Condition.WELL


@dataclass(frozen=True)
class Line:
    """One line for the log.

    Attributes:
        text: a sentence, with facts at its end.
        wrong: whether it tells of something that is wrong: a warning.
    """

    text: str
    wrong: bool = False


class _Kind(enum.Enum):
    LEADER = 1
    ROLE = 2
    ADDRESS = 3
    CONDITION = 4
    TURN = 5
    TRUST = 6


_Key = tuple[_Kind, str]


class Story:
    """What was told so far by one member, in one life."""

    def __init__(self) -> None:
        #: What was told last, and since when it is so.
        self._told: dict[_Key, tuple[object, float]] = {}
        #: What has been seen since, and for how long, where that is not told yet.
        self._pending: dict[_Key, tuple[object, float]] = {}
        self._begun = False

    def go_on(self, scene: Scene, now: float) -> list[Line]:
        """Return what has happened.

        Args:
            scene: what is seen now; one without members says nothing.
            now: monotonic seconds.
        """
        if not scene.members:
            return []
        seen = _facts(scene)
        lines = [
            line
            for key, fact in seen.items()
            if self._is_news(key, fact, now)
            for line in self._tell(key, fact, scene, now)
        ]
        self._begun = True
        return lines + self._forget(scene)

    def _forget(self, scene: Scene) -> list[Line]:
        gone = [key for key in self._told if key[1] and key[1] not in scene.members]
        for key in gone:
            del self._told[key]
            self._pending.pop(key, None)
        return [Line(f"a member was deleted name={n}") for kind, n in gone if kind is _Kind.ROLE]

    def _is_news(self, key: _Key, fact: object, now: float) -> bool:
        """Tell whether a fact differs from what was told, and for long enough."""
        told = self._told.get(key)
        if told is not None and told[0] == fact:
            self._pending.pop(key, None)
            return False
        if key not in self._pending or self._pending[key][0] != fact:
            self._pending[key] = (fact, now)
        patience = PATIENCE_SECONDS if told is not None else FIRST_SECONDS
        return not _may_pass(key, fact) or now - self._pending[key][1] >= patience

    def _tell(self, key: _Key, fact: object, scene: Scene, now: float) -> Iterator[Line]:
        kind, name = key
        before, since = self._told.get(key, (None, now))
        self._told[key] = self._pending.pop(key)
        if kind is _Kind.LEADER:
            yield from _of_leader(scene, before, now - since)
        elif kind is _Kind.CONDITION:
            yield from _of_condition(scene, name, before, now - since)
        elif kind is _Kind.TURN:
            yield from _of_turn(scene)
        elif not self._begun:
            return  # as it was found: nothing has happened
        elif kind is _Kind.ROLE:
            yield from _of_role(scene, name, before)
        elif kind is _Kind.ADDRESS and before is not None:
            yield Line(f"a member has another address name={name} address={fact} former={before}")
        elif kind is _Kind.TRUST:
            yield from _of_trust(scene, before)


def _facts(scene: Scene) -> dict[_Key, object]:
    facts: dict[_Key, object] = {}
    for name in sorted(scene.members, key=natural_key):
        member = scene.members[name]
        facts[_Kind.ROLE, name] = (member.role, member.target)
        facts[_Kind.ADDRESS, name] = "none" if is_vacant(member.address) else member.address
    facts[_Kind.TURN, ""] = scene.turn
    facts[_Kind.TRUST, ""] = bool(scene.lacking)
    resting = scene.turn.name if scene.turn is not None else ""
    if scene.leader or resting != scene.here:
        facts[_Kind.LEADER, ""] = scene.leader
    for name, heard in scene.heard.items():
        if name in scene.members:
            # Who restarts its etcd on purpose is told to do so.
            excused = name == resting and heard.condition is Condition.NO_PART
            facts[_Kind.CONDITION, name] = Condition.WELL if excused else heard.condition
    return facts


def _may_pass(key: _Key, fact: object) -> bool:
    """Tell whether what is seen may be over in a moment."""
    if key[0] is _Kind.CONDITION:
        return fact is not Condition.WELL
    return key[0] is _Kind.LEADER and not fact


def _of_leader(scene: Scene, before: object, seconds: float) -> Iterator[Line]:
    voters = scene.strength
    if not scene.leader:
        if not scene.ailing:
            yield Line(f"no quorum: {_numbers(voters)}", wrong=True)
    elif before is None:
        yield Line(f"there is a quorum leader={scene.leader} voters={voters.voters}")
    elif not before:
        yield Line(f"there is a quorum again leader={scene.leader} seconds={seconds:.0f}")
    else:
        yield Line(f"another member leads leader={scene.leader} former={before}")


def _numbers(voters: Strength) -> str:
    found = f"{voters.answering} of {voters.voters} voters answer, quorum is {voters.quorum}"
    return f"{found}, and etcd knows no leader" if voters.holds else found


def _of_condition(scene: Scene, name: str, before: object, seconds: float) -> Iterator[Line]:
    heard = scene.heard[name]
    if heard.condition in _TOLD:
        why = " ".join(heard.why.split())[:_WHY_LETTERS]
        yield Line(f"{_TOLD[heard.condition]}: {why or 'it does not say why'} name={name}", True)
    elif before is not None:
        yield Line(f"a member is well again name={name} seconds={seconds:.0f}")


def _of_turn(scene: Scene) -> Iterator[Line]:
    turn = scene.turn
    if turn is not None and turn.name != scene.here:  # what happens here is told where it is done
        yield Line(f"a member restarts its etcd: {turn.doing} name={turn.name}")


def _of_role(scene: Scene, name: str, before: object) -> Iterator[Line]:
    role, target = scene.members[name].role, scene.members[name].target
    if before is None:
        yield Line(f"{_ARRIVED[role]} name={name}")
    elif before != (role, target) and isinstance(before, tuple):
        if before[0] is not role:
            taken_in = before == (Role.LEARNER, Role.NONVOTING)
            yield Line(f"{(_ARRIVED if taken_in else _BECAME)[role]} name={name}")
        elif role is Role.NONVOTING and target is Role.VOTER:
            yield Line(f"a member is to be promoted name={name}")


def _of_trust(scene: Scene, before: object) -> Iterator[Line]:
    if scene.lacking:
        yield Line(f"a trust round begins: each restarts its etcd names={','.join(scene.lacking)}")
    elif before is not None:
        yield Line("the trust round is over: every voter that answers lets every other in")


def standing(scene: Scene) -> str:
    """Return one sentence about how things stand, for ``systemctl status``."""
    own = scene.members.get(scene.here)
    if own is None:
        return "starting"
    if len(scene.members) == 1 and scene.leader:
        return "a collective of one"
    voters = scene.strength
    kind = {Role.VOTER: "voter", Role.LEARNER: "learner"}.get(own.role, "member without a vote")
    how = (
        f"{scene.leader} leads, {voters.answering} of {voters.voters} voters answer; "
        f"{tolerance_sentence(voters)}"
        if scene.leader
        else f"no quorum: {_numbers(voters)}"
    )
    return f"{kind} in a collective of {len(scene.members)}: {how}{_ailing(scene)}"


def _ailing(scene: Scene) -> str:
    """Return who is not well, by condition."""
    told = ""
    for condition in _TOLD:
        names = [n for n, h in scene.heard.items() if h.condition is condition]
        if names:
            told += f"; {condition.value}: {', '.join(sorted(names, key=natural_key))}"
    return told
