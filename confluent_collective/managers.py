"""Confluent's failover of nodes: who is there, and which one server runs it.

Which node goes to whom is decided by Confluent's own code. A server is there while the key that
its Confluent keeps is there; the one that is elected has Confluent look whenever somebody comes or
goes, and again a while after that has failed.

Invariants:
  * At most one server at a time believes that it is elected, but for the moments in which its
    session ends; what it writes is checked like every change.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import collective
from confluent_collective.flavours import Flavour
from confluent_collective.patience import again_and_again
from confluent_collective.seam import Seam

log = logging.getLogger(__name__)

ELECTION = "confluent-managers"
_CAMPAIGN_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 10.0


class Managers:
    """The election, and who was there when it was looked at last."""

    def __init__(self, handle: collective.Collective, seam: Seam, flavour: Flavour) -> None:
        """Begin to stand for election.

        Args:
            handle: on the collective.
            seam: has Confluent's failover.
            flavour: runs things in Confluent's thread.
        """
        self._handle = handle
        self._seam = seam
        self._flavour = flavour
        self._there: frozenset[str] | None = None
        self._hold: Any = None
        #: When it is to be done again, of the monotonic clock; None for not at all.
        self._owed: float | None = None
        seam.hook_managers(self.leads, self._failed)
        threading.Thread(target=self._stand, name="confluent-managers", daemon=True).start()

    def leads(self) -> bool:
        """Tell whether this server is elected."""
        hold = self._hold
        return hold is not None and bool(hold.is_held)

    def see(self, there: frozenset[str]) -> None:
        """Take note of who is there, in Confluent's thread."""
        if there != self._there:
            self._there = there
            self._schedule()

    def _schedule(self) -> None:
        if self.leads():
            self._owed = None
            self._seam.begin_failover()

    def _failed(self) -> None:
        self._owed = time.monotonic() + _AGAIN_SECONDS

    def _stand(self) -> None:
        again_and_again(self._serve_a_term, "no election yet", _LOOK_SECONDS)

    def _serve_a_term(self) -> None:
        """Wait to be elected, and then until that ends."""
        election = self._handle.election(ELECTION)
        self._hold = hold = election.campaign(self._handle.name, seconds=_CAMPAIGN_SECONDS)
        log.info("this server looks after the managers of nodes")
        self._flavour.queue(self._begun)
        while hold.is_held:
            time.sleep(_LOOK_SECONDS)
            owed = self._owed
            if owed is not None and time.monotonic() > owed:
                self._owed = None
                self._flavour.queue(self._begun)
        self._hold = None

    def _begun(self) -> Any:
        self._schedule()
        yield from ()
