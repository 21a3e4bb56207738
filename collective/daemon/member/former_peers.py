"""What former peers of this server's etcd may still have open to it, until that is cut.

It cuts nothing: ``certificates.connection_cutter`` does.

Invariants:
  * Locked out means that a revocation holds at both doors, and that nothing from before is open.
"""

from __future__ import annotations

import threading

from collective.daemon.clock import elapsed
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.records_view import RecordsView


class FormerPeers:
    """Those of one life; may be used by several threads."""

    def __init__(self, etcd_trust: EtcdTrust, records_view: RecordsView, votes: bool) -> None:
        """Begin with nothing to cut.

        Args:
            etcd_trust: whom the running etcd refuses.
            records_view: what is known here.
            votes: whether this server has an etcd of its own.
        """
        self._etcd_trust = etcd_trust
        self._records_view = records_view
        self._votes = votes
        self._cutting = threading.Condition()
        self._cut = frozenset[str]()

    def lock_out(self, revision: int, seconds: float) -> str | None:
        """Wait until all that is revoked at a revision of the store opens nothing here.

        Returns:
            None when that is so: it is refused at both doors, and nothing of it is open. Else
            what that still wants, for people.
        """
        deadline = elapsed() + seconds
        if not self._records_view.wait_for(revision, seconds):
            return "its etcd has not heard of it"
        if not self._votes:
            return None  # the rest is about etcd's peer port
        with self._cutting:
            if self._cutting.wait_for(self._nothing_to_cut, max(0.0, deadline - elapsed())):
                return None
        return "a connection to its etcd is open still"

    def _nothing_to_cut(self) -> bool:
        return not self.to_cut()

    def to_cut(self) -> frozenset[str]:
        """Return the certificates of former peers that may have something open to our etcd.

        What is not in the trust file of the running etcd has nothing.
        """
        refused = self._etcd_trust.refused
        with self._cutting:
            # One that is let in again, and put out once more, is cut once more.
            self._cut &= refused
            return refused - self._cut

    def has_cut(self, fingerprints: frozenset[str]) -> None:
        """Note that certificates of former peers hold nothing open any more."""
        with self._cutting:
            self._cut |= fingerprints
            self._cutting.notify_all()
