"""Is the proof of a stranger good? Found out at little cost, before etcd is asked.

The records that are here already tell a good proof from a bad one, but for an invitation that was
made a moment ago elsewhere. So a linearizable read, which costs a message to every voter, is made
for who has proven himself, and for a few others.

It does not admit anybody: ``sponsor`` decides again, on what was read.

Invariants:
  * However often an invitation is shown, one dial-back at a time is under way for its name,
    and one more waits.
  * However many bad proofs come in, from however many addresses, they cause no more than
    ``READS_A_SECOND`` linearizable reads in the long run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.clock import elapsed
from collective.errors import InvitationError, RefusedError
from collective.model.view import View
from collective.policy.admission import Proof, judge
from collective.protocol.limits import RateLimit

READS_A_SECOND = 2.0
_BURST = 8
_PATIENCE_SECONDS = 1.0


class Doubts:
    """The budget of reads for proofs that look bad; may be used by several threads."""

    def __init__(self, per_second: float = READS_A_SECOND, burst: int = _BURST) -> None:
        """Begin with a full budget.

        Args:
            per_second: reads in the long run.
            burst: how many of these may come at once.
        """
        self._lock = threading.Lock()
        self._rate = RateLimit(per_second, burst)

    def check(self, known: View, proof: Proof) -> None:
        """Refuse a proof that is bad as far as is known here, unless the budget allows to ask.

        Args:
            known: the records as they are here, maybe a moment old.
            proof: what the joiner showed.

        Raises:
            InvitationError: it is bad.
        """
        try:
            judge(known.invitations.get(proof.name), proof)
        except InvitationError:
            with self._lock:
                allowed = self._rate.allow("", elapsed())
            if not allowed:
                raise


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
