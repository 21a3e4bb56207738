"""Is the proof of a stranger good? Found out at little cost, before etcd is asked.

The records that are here already tell a good proof from a bad one, but for an invitation that was
made a moment ago elsewhere. So a linearizable read, which costs a message to every voter, is made
for who has proven himself, and for a few others.

It does not admit anybody: ``sponsor`` decides again, on what was read.

Invariants:
  * However many bad proofs come in, from however many addresses, they cause no more than
    ``READS_A_SECOND`` linearizable reads in the long run.
"""

from __future__ import annotations

import threading

from collective.daemon.clock import elapsed
from collective.errors import InvitationError
from collective.model.view import View
from collective.policy.admission import Proof, judge
from collective.protocol.limits import RateLimit

READS_A_SECOND = 2.0
_BURST = 8


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
