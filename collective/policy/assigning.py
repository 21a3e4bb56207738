"""Which manager has which node: a decision on what was seen, and no input or output.

Safety properties:
  * A node is given to a manager only where nobody has it, or where the session of the one who
    had it has ended. A manager that is there keeps it until it has given it up itself.
  * Nobody gets a node that it is no candidate for, or one that is to be taken out.
  * No more nodes move than have to: those of a manager that is gone for longer than the grace
    time, those whose candidates have changed, and, where it was asked for, as many as it takes
    to level the loads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Seat:
    """Who manages one node.

    Attributes:
        node: its name.
        manager: the name of a server, "" for nobody.
        session: the session of that manager, 0 for none: another one is another life of it.
        candidates: who may manage it; none means whoever is there.
        leaving: whether its manager was asked to give it up.
        removed: whether the node is to be taken out of the group, once nobody has it.
    """

    node: str
    manager: str = ""
    session: int = 0
    candidates: tuple[str, ...] = ()
    leaving: bool = False
    removed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether the seat itself can go."""
        return self.removed and not self.manager

    def allows(self, manager: str) -> bool:
        """Tell whether a manager is a candidate."""
        return not self.candidates or manager in self.candidates

    def given_to(self, manager: str, session: int) -> Seat:
        """Return the seat with another manager, or with nobody."""
        return replace(self, manager=manager, session=session, leaving=False)


@dataclass(frozen=True)
class Situation:
    """What was seen.

    Attributes:
        seats: by node.
        present: the session of each manager that is there.
        gone_since: when each session that is not there was missed first, in seconds.
        now: in seconds, by the same clock.
        grace: for so many seconds the nodes of a manager that is gone are left alone.
        level: whether to level the loads.
    """

    seats: Mapping[str, Seat]
    present: Mapping[str, int]
    gone_since: Mapping[int, float]
    now: float
    grace: float
    level: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes:
        changed: seats as they should be, or that are over; those that stay are left out.
        again_in: after how many seconds to look again though nothing happens; None for never.
    """

    changed: tuple[Seat, ...]
    again_in: float | None


def decide(seen: Situation) -> Decision:
    """Return which nodes change hands now."""
    seats = [seen.seats[node] for node in sorted(seen.seats)]
    load = Counter(dict.fromkeys(seen.present, 0))
    load.update(s.manager for s in seats if _is_held(s, seen) and not s.leaving)
    changed: dict[str, Seat] = {}
    waits: list[float] = []
    for seat in seats:
        if _is_held(seat, seen):
            if not seat.leaving and not seat.allows(seat.manager) and _allowed(seat, load):
                changed[seat.node] = replace(seat, leaving=True)
                load[seat.manager] -= 1
            continue
        wait = _grace_left(seat, seen)
        if wait > 0:
            waits.append(wait)
            continue
        if seat.removed:
            changed[seat.node] = seat.given_to("", 0)
            continue
        chosen = _choose(seat, load)
        if chosen is not None:
            changed[seat.node] = seat.given_to(chosen, seen.present[chosen])
            load[chosen] += 1
    if seen.level:
        for seat in _to_level([changed.get(s.node, s) for s in seats], seen, load):
            changed[seat.node] = seat
    return Decision(tuple(changed.values()), min(waits, default=None))


def _is_held(seat: Seat, seen: Situation) -> bool:
    return bool(seat.manager) and seen.present.get(seat.manager) == seat.session


def _grace_left(seat: Seat, seen: Situation) -> float:
    """Return for how long to wait for a manager that is gone; 0 or less for no longer."""
    if not seat.manager or (seat.manager in seen.present and seat.allows(seat.manager)):
        return 0.0  # nobody had it, or it is back in another life, and without its old nodes
    return seen.gone_since.get(seat.session, seen.now) + seen.grace - seen.now


def _allowed(seat: Seat, load: Mapping[str, int]) -> list[str]:
    return [manager for manager in load if seat.allows(manager)]


def _choose(seat: Seat, load: Mapping[str, int]) -> str | None:
    """Return who gets a node: who had it, if it is back, else who has the least."""
    allowed = _allowed(seat, load)
    if seat.manager in allowed:
        return seat.manager
    return min(allowed, key=lambda manager: (load[manager], manager), default=None)


def _to_level(seats: Iterable[Seat], seen: Situation, load: Counter[str]) -> Iterable[Seat]:
    """Yield seats to be given up, so that who gets them has no more than others."""
    movable: dict[str, list[Seat]] = {manager: [] for manager in load}
    for seat in seats:
        if _is_held(seat, seen) and not seat.leaving:
            movable[seat.manager].append(seat)
    while True:
        found = _best_move(movable, load)
        if found is None:
            return
        seat, target = found
        load[seat.manager] -= 1
        load[target] += 1
        yield replace(seat, leaving=True)


def _best_move(movable: dict[str, list[Seat]], load: Mapping[str, int]) -> tuple[Seat, str] | None:
    """Take a node from who may give it, from the most loaded to the least, and say to whom."""
    for giver in sorted(load, key=lambda manager: (-load[manager], manager)):
        for taker in sorted(load, key=lambda manager: (load[manager], manager)):
            if load[giver] - load[taker] < 2:
                break
            theirs = movable[giver]
            for place in range(len(theirs) - 1, -1, -1):
                if theirs[place].allows(taker):
                    return theirs.pop(place), taker
    return None
