"""Is the proof of a stranger good? Found out at little cost, before etcd is asked.

The records that are here already tell a good proof from a bad one, but for an invitation that was
made a moment ago elsewhere. So a linearizable read, which costs a message to every voter, is made
for who has proven himself, and for a few others.

It does not admit anybody: ``sponsor`` decides again, on what was read.

Invariants:
  * However often an invitation is shown, one dial-back at a time is under way for its name,
    and one more waits.
  * However many bad proofs come in, from however many addresses, they cause no more than
    ``READS_A_SECOND`` linearizable reads in the long run, and of those that hang, where there is
    no quorum, ``READS_AT_ONCE`` at a time, for a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.clock import elapsed
from collective.errors import InvitationError, RefusedError
from collective.etcd.record_store import READ_SECONDS
from collective.model.view import View
from collective.policy.admission import Proof, judge
from collective.protocol.limits import RateLimit

READS_A_SECOND = 2.0
READS_AT_ONCE = 2
#: A deadline, for the read on a proof that looks bad.
DOUBTFUL_SECONDS = 1.0
_BURST = 8
_PATIENCE_SECONDS = 1.0


class ProofLimiter:
    """The budget of reads for proofs that look bad; may be used by several threads."""

    def __init__(
        self,
        per_second: float = READS_A_SECOND,
        burst: int = _BURST,
        at_once: int = READS_AT_ONCE,
    ) -> None:
        """Begin with a full budget.

        Args:
            per_second: reads in the long run.
            burst: how many of these may come at once.
            at_once: how many may be under way.
        """
        self._lock = threading.Lock()
        self._rate = RateLimit(per_second, burst)
        self._places = at_once

    @contextmanager
    def reading(self, known: View, proof: Proof) -> Iterator[float]:
        """Have the records read to judge a proof, in a block of code; yield the read's deadline.

        Args:
            known: the records as they are here, maybe a moment old.
            proof: what the joiner showed.

        Raises:
            InvitationError: it is bad as far as is known here, and the budget is used up.
        """
        try:
            judge(known.invitations.get(proof.name), proof)
        except InvitationError:
            if not self._enter():
                raise
        else:
            yield READ_SECONDS
            return
        try:
            yield DOUBTFUL_SECONDS
        finally:
            with self._lock:
                self._places += 1

    def _enter(self) -> bool:
        with self._lock:
            if not self._places or not self._rate.allow("", elapsed()):
                return False
            self._places -= 1
            return True


class OneEach:
    """What is done once at a time for each invited name; may be used by several threads.

    A dial-back that hangs holds one of the few threads that strangers have: whoever holds a token
    could else have all of them wait. One more may wait for it: two servers that race for an
    invitation are told who has it, and not to try again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._names: set[str] = set()
        self._waiting: set[str] = set()

    @contextmanager
    def alone(self, name: str, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
        """Be the one for a name, for a block of code.

        Args:
            name: the invited one.
            patience: how long to wait for it, in seconds.

        Raises:
            RefusedError: it is being done already.
        """
        with self._changed:
            if not self._is_free_in(name, patience):
                raise RefusedError(
                    f"the invitation for {name} is being tried already",
                    "try again in a few seconds",
                )
            self._names.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._names.discard(name)
                self._changed.notify_all()

    def _is_free_in(self, name: str, patience: float) -> bool:
        if name not in self._names:
            return True
        if name in self._waiting:
            return False
        self._waiting.add(name)
        try:
            return self._changed.wait_for(lambda: name not in self._names, patience)
        finally:
            self._waiting.discard(name)
