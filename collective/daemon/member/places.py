"""How much of a voter one member without a vote takes at a time: some places of each kind.

It does not know what a place is for.

Invariants:
  * A member never has more than its places, whatever it sends, and never takes another's.
  * Who finds none in time is refused before anything is done for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.member.room import Room
from collective.errors import RefusedError


class Places:
    """The places of one kind, of every member."""

    def __init__(self, most: int, what: str) -> None:
        """Make them.

        Args:
            most: of one member.
            what: for the refusal, such as "watches".
        """
        self._most = most
        self._what = what
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()

    def enter(self, name: str, seconds: float = 0.0) -> None:
        """Take a place of a member's, which ``leave`` gives back.

        Raises:
            RefusedError: there was none in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._taken[name] < self._most, seconds):
                raise RefusedError(
                    f"{name} has {self._most} {self._what} here at a time, and no more",
                    "another voter has room, or this one in a moment",
                )
            self._taken[name] += 1

    def leave(self, name: str) -> None:
        """Give a place back."""
        with self._changed:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]
            self._changed.notify_all()

    @contextmanager
    def taken(self, name: str, seconds: float) -> Iterator[None]:
        """Have a place for a block of code, or wait for one.

        Raises:
            RefusedError: there was none in time.
        """
        self.enter(name, seconds)
        try:
            yield
        finally:
            self.leave(name)


class MemberPlaces:
    """What a voter has for each member that does not vote.

    Attributes:
        readings: calls that read ranges of keys: etcd holds each answer several times.
        transactions: large ones: nothing else is written while etcd does one.
        watches: watches that are open, each with a queue of its own.
        room: what etcd's database has for all of them together.
    """

    def __init__(self) -> None:
        self.room = Room()
        self.readings = Places(2, "readings of many keys")
        self.transactions = Places(1, "large transactions")
        self.watches = Places(16, "watches")
