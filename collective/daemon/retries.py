"""The retry policies of the daemon, by name.

Calls that change the membership of etcd are not among them: such a call may have happened, so
its caller looks before it asks again (``reconciler.finish``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_random,
)

from collective.daemon.clock import pause
from collective.errors import RefusedError
from collective.etcd.refusals import is_leaderless

T = TypeVar("T")


class Pace:
    """When to ask again what nobody could say: less and less often, until there is a reason.

    Each question costs both sides a handshake; where all ask all, for as long as there is no
    quorum, that is what a machine is busy with that has no time for its elections.
    """

    def __init__(self, first: float, most: float) -> None:
        """Have the first question asked at once.

        Args:
            first, most: seconds between the first two questions, and between two at most.
        """
        self._first, self._most = first, most
        self._pause = first
        self._asked = float("-inf")
        self._seen: object = None

    def is_due(self, now: float, seen: object = None) -> bool:
        """Tell whether to ask now, which is then taken to be done.

        Args:
            now: monotonic seconds.
            seen: what makes it worth to ask soon, where it is not what it was before.
        """
        if seen != self._seen:
            self._seen, self._pause = seen, self._first
        if now - self._asked < self._pause:
            return False
        later = now - self._asked < 2 * self._most
        self._pause = min(self._most, 2 * self._pause) if later else self._first
        self._asked = now
        return True


def growing(since: float, now: float, least: float, most: float) -> float:
    """Return how long to wait before another look: a tenth of the time that it took so far."""
    return min(most, max(least, (now - since) / 10))


#: For read, decide, write-if-unchanged: others were faster, and had the same short work to do.
OPTIMISTIC = Retrying(
    stop=stop_after_attempt(12),
    wait=wait_random(0.0, 0.03),
    retry=retry_if_result(lambda result: result is None),
    sleep=pause,
)


#: For what may as well be done twice: somebody else will lead in a moment.
ELECTION = Retrying(
    stop=stop_after_delay(3.0),
    wait=wait_fixed(0.1),
    retry=retry_if_exception(is_leaderless),
    sleep=pause,
    reraise=True,
)


def until_written(doing: str, attempt: Callable[[], T | None]) -> T:
    """Read, decide and write, again as long as others change what was read.

    Args:
        doing: for the refusal, after "cannot".
        attempt: does it once; None means that a record changed between the read and the write.

    Raises:
        RefusedError: that happened every time; nothing was written.
    """
    try:
        result = OPTIMISTIC.copy()(attempt)
    except RetryError:
        raise RefusedError(
            f"cannot {doing}: others change the same record all the time", "try again"
        ) from None
    assert result is not None
    return result


def until_written_whoever_leads(doing: str, attempt: Callable[[], T | None]) -> T:
    """Do as ``until_written``, and again after an election that comes in between.

    Args:
        doing: as there.
        attempt: as there; what it wrote may be open when it is made again.

    Raises:
        RefusedError: as there.
        EtcdUnavailableError: nobody led for seconds.
    """
    result: T = ELECTION.copy()(until_written, doing, attempt)
    return result
