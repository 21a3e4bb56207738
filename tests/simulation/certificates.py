"""A server's certificates, in memory: what ``Credentials`` does with files."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collective.daemon.member.credentials import Credentials
from collective.daemon.member.succession import Succession
from collective.pki import Certificate, judge_certificate, make_certificate, new_key

if TYPE_CHECKING:
    from tests.simulation.world import Machine

#: Judging one takes a while, and gives the same each time.
judged = lru_cache(4096)(judge_certificate)
Made = tuple[bytes, Certificate]


@cache
def make(name: str, number: int, count: int, addresses: tuple[str, ...]) -> Made:
    """Return the key and the certificate that a machine makes as its so-and-so-manieth."""
    key = new_key()
    return key, make_certificate(key, name, addresses)


class SimulatedCredentials(Credentials):
    """The certificates of one life of a machine; they are on its disk, and survive a crash."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self._lock = threading.RLock()
        self._trusted: Mapping[str, str] = {}
        self._key, self._identity = self._make(name, (machine.address,))
        self._next: Made | None = None
        self._succession = Succession()
        self.folder = Path(f"/{machine}/{machine.made}")

    def _make(self, name: str, addresses: tuple[str, ...]) -> Made:
        self.machine.made += 1
        return make(name, self.machine.number, self.machine.made, addresses)

    @property
    def client_context(self) -> Any:
        """What calls to others are made with: this, as it is then."""
        return self

    @property
    def succession(self) -> Succession:
        """What proves to others that this certificate took the place of former ones."""
        return self._succession

    @property
    def next(self) -> Certificate | None:
        """The certificate that is to take the place of this one."""
        return None if self._next is None else self._next[1]

    def prepare_next(self, addresses: Sequence[str]) -> Certificate:
        """Make the next one, unless the one that is prepared will do."""
        found = self.next
        if found is None or set(addresses) != set(found.addresses):
            self._next = self._make(self._identity.name, tuple(addresses))
        assert self._next is not None
        return self._next[1]

    def use_next(self) -> None:
        """Show the next one."""
        if self._next is None:
            return
        self.machine.world.promises.shown(self.machine, self._next[1])
        self._succession = self._succession.followed_by(self._identity, self._key, self._next[1])
        (self._key, self._identity), self._next = self._next, None

    def forget_trust(self) -> None:
        """Trust nobody: the power went."""
        self._trusted = {}
