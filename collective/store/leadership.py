"""Whether anybody leads, asked before something is sent: without a leader etcd keeps it back.

A write that etcd keeps so is in doubt in the end, and a question is answered by nobody, though it
was known all the time that there is no quorum. So etcd is asked for its leader first, which it
answers from memory, where nothing was answered just now.

Invariants:
  * It proves no quorum: who is told to go on may find none.
"""

from __future__ import annotations

from time import monotonic

from collective.errors import EtcdError, EtcdUnavailableError, NotReachedError
from collective.etcd.api import EtcdApi
from collective.etcd.deadline import within

# An answer of a quorum as old as this is as good as another question: followers take longer to
# find out that their leader has gone.
_FRESH_SECONDS = 0.5
# In an election nobody leads for a moment: it takes a vote, or two.
_ELECTION_SECONDS = 0.5
# From memory it comes at once; on a server without an etcd another one is asked.
_STATUS_SECONDS = 2.0


class NoLeaderError(EtcdUnavailableError):
    """Nobody leads; nothing was sent.

    Attributes:
        lasts: whether it does so for longer than an election takes.
    """

    def __init__(self, lasts: bool) -> None:
        super().__init__("etcd on this server knows no leader")
        self.lasts = lasts


class Leadership:
    """What is known about the leader; may be asked by several threads."""

    def __init__(self, calls: EtcdApi) -> None:
        """Know nothing yet.

        Args:
            calls: the way to etcd.
        """
        self._calls = calls
        self._answered = float("-inf")
        #: When the last request began that a quorum has answered, of the monotonic clock.
        self.proven = float("-inf")
        self._leaderless = 0.0

    def note_answer(self, begun: float) -> None:
        """Note that a quorum has answered just now a request that began then."""
        self._answered, self._leaderless = monotonic(), 0.0
        self.proven = max(self.proven, begun)

    def missing(self, seconds: float = _STATUS_SECONDS) -> EtcdUnavailableError | None:
        """Return why nothing should be sent now, None where it may be.

        Args:
            seconds: how long to wait for etcd to say so.
        """
        begun = monotonic()
        if begun - self._answered < _FRESH_SECONDS:
            return None
        try:
            with within(min(seconds, _STATUS_SECONDS)):
                leads = self._calls.status().leader != 0
        except NotReachedError:
            return None  # it is sent nowhere
        except EtcdUnavailableError as error:
            return error
        except EtcdError:
            return None
        if leads:
            self._leaderless = 0.0
            return None
        self._leaderless = self._leaderless or begun
        return NoLeaderError(monotonic() - self._leaderless >= _ELECTION_SECONDS)
