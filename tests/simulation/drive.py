"""The same histories without hypothesis: by a seed, many times faster, but not made smaller.

    python -m tests.simulation.drive [SECONDS [FIRST_SEED]]

runs random histories for so long, on one core, and ends at the first that breaks a promise.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable

from tests.simulation.actors import Fate
from tests.simulation.history import FATES, FAULTS, HAPPENINGS, TOTALS, WAITS, WORKS, History

STEPS = 60


class Driver:
    """One history, made up by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._history = History()
        actions: list[tuple[int, Callable[[], None]]] = [
            (3, self._invite),
            (8, self._join),
            (4, self._rename),
            (3, self._delete),
            (1, self._leave),
            (1, self._revoke),
            (1, self._abort),
            (2, self._demote),
            (3, self._promote),
            (2, self._gencert),
            (2, self._readdress),
            (6, self._duties),
            (12, self._work),
            (8, self._step),
            (8, self._go_on),
            (2, self._wait),
            (6, self._happen),
            (4, self._fault),
        ]
        self._weights = [weight for weight, _ in actions]
        self._actions = [action for _, action in actions]

    def run(self, steps: int = STEPS, renamed: bool = False) -> None:
        """Run it.

        Args:
            steps: at most.
            renamed: whether it begins with a join by another name, see ``History.renamed``.

        Raises:
            AssertionError: a promise was broken.
        """
        draw, history = self._random, self._history
        try:
            history.begin(draw.randint(1, 4), draw.randint(0, 2), draw.random() < 0.5)
            if renamed:
                history.renamed(self._ahead())
            for _ in range(draw.randint(steps // 4, steps)):
                draw.choices(self._actions, self._weights)[0]()
                history.promises_hold()
        finally:
            history.teardown()

    def _index(self) -> int:
        return self._random.randrange(20)

    def _ahead(self) -> int:
        return self._random.randrange(13)

    def _mostly(self) -> bool:
        return self._random.random() < 0.75

    def _invite(self) -> None:
        seconds = self._random.choice([60, 3600])
        votes = self._mostly()
        self._history.invite(self._index(), self._index(), seconds, votes, self._ahead())

    def _join(self) -> None:
        if self._history.tokens:
            token = self._random.choice([0, 0, 0, 1, 2, 5])
            index, via = self._index(), self._index()
            self._history.join(token, index, via, self._mostly(), self._ahead())

    def _rename(self) -> None:
        if len(self._history.tokens) > 1:
            self._history.rename(self._index(), self._index(), self._index(), self._ahead())

    def _delete(self) -> None:
        self._history.delete(self._index(), self._index(), self._mostly(), self._ahead())

    def _demote(self) -> None:
        self._history.demote(self._index(), self._index(), self._ahead())

    def _promote(self) -> None:
        self._history.promote(self._index(), self._index(), self._ahead())

    def _gencert(self) -> None:
        self._history.gencert(self._index(), self._ahead())

    def _readdress(self) -> None:
        self._history.readdress(self._index(), self._ahead())

    def _work(self) -> None:
        self._history.work(self._random.choice(WORKS), self._index(), self._ahead())

    def _revoke(self) -> None:
        self._history.revoke(self._index(), self._index(), self._ahead())

    def _abort(self) -> None:
        self._history.abort(self._index(), self._index(), self._ahead())

    def _leave(self) -> None:
        self._history.leave(self._index(), self._ahead())

    def _duties(self) -> None:
        self._history.duties(self._random.randint(-8, 7), self._ahead())

    def _step(self) -> None:
        fate: Fate = self._random.choice(FATES)
        if self._history.world.actors.running:
            self._history.step(self._index(), fate)

    def _go_on(self) -> None:
        if self._history.world.actors.running:
            fate: Fate = self._random.choice(FATES)
            self._history.go_on(self._index(), self._random.randint(1, 40), fate)

    def _wait(self) -> None:
        self._history.wait(self._random.choice(WAITS), self._random.random() < 0.5)

    def _happen(self) -> None:
        self._history.happen(self._random.choice(HAPPENINGS), self._index())

    def _fault(self) -> None:
        self._history.fault(self._random.choice(FAULTS), self._index())


def drive(first: int, enough: Callable[[int], bool], renamed: bool = False) -> int:
    """Run one history after the other; return how many.

    Args:
        first: the first seed.
        enough: gets the number of histories that were run.
        renamed: whether each begins with a join by another name.

    Raises:
        AssertionError: a promise was broken; it names the seed.
    """
    count = 0
    while not enough(count):
        try:
            Driver(first + count).run(renamed=renamed)
        except Exception as error:
            raise AssertionError(f"history {first + count}: {error!r}") from error
        count += 1
    return count


def main(arguments: list[str]) -> None:
    """Run histories for some seconds and say what was in them."""
    logging.disable(logging.CRITICAL)
    seconds = float(arguments[0]) if arguments else 60.0
    first = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(1 << 48)
    ends = time.monotonic() + seconds
    count = drive(first, lambda _: time.monotonic() > ends)
    print(f"{count} histories from seed {first}, no promise broken")
    print(", ".join(f"{what}: {number}" for what, number in sorted(TOTALS.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
