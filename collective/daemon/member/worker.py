"""A thread of one life that looks, does what is to be done, and waits for the next reason to look.

It knows nothing of what is done; whoever derives from it says so in ``_round``.

Invariants:
  * Nothing that a round raises ends the thread.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError

log = logging.getLogger(__name__)

#: What stood in the way, such as a member that restarts, is often gone a moment later.
_AGAIN_SECONDS = 0.5


class Worker(ABC):
    """The thread, and how it is begun, woken and ended."""

    #: Of the thread, and in the log.
    name: str
    #: Seconds between two rounds, with nothing under way and with something.
    idle_seconds: float
    eager_seconds: float
    #: How weighty it is that a round could not be done yet.
    level = logging.INFO

    def __init__(self, runtime: MemberRuntime) -> None:
        self._runtime = runtime
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: a record changed."""
        self._wake.set()

    def stop(self) -> None:
        """End; what is under way is finished first."""
        self._stopped.set()
        self._wake.set()

    def _run(self) -> None:
        told = ""
        while not self._stopped.is_set():
            pause = self.idle_seconds
            try:
                pause = self.eager_seconds if self._round() else self.idle_seconds
                told = ""
            except CollectiveError as error:
                pause = min(self.idle_seconds, _AGAIN_SECONDS)
                if str(error) != told:
                    log.log(self.level, "the %s waits: %s", self.name, error)
                told = str(error)
            except Exception:
                log.exception("a round of the %s failed", self.name)
            self._wake.wait(pause)
            self._wake.clear()

    @abstractmethod
    def _round(self) -> bool:
        """Do what is to be done now; return whether something is still under way."""
