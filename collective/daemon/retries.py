"""The retry policies of the daemon, by name.

Calls that change the membership of etcd are not among them: such a call may have happened, so
its caller looks before it asks again (``duties.finish``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_random

from collective.daemon.clock import pause
from collective.errors import EtcdUnavailableError, RefusedError
from collective.etcd.gateway import LEADER_CHANGED

T = TypeVar("T")


#: For read, decide, write-if-unchanged: others were faster, and had the same short work to do.
OPTIMISTIC = Retrying(
    stop=stop_after_attempt(12),
    wait=wait_random(0.0, 0.03),
    retry=retry_if_result(lambda result: result is None),
    sleep=pause,
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


def unless_leader_changed(attempt: Callable[[], T | None]) -> T | None:
    """Make an attempt of ``until_written`` that may as well be made twice.

    Returns:
        What it returns; None where a change of leader left open whether it was written.
    """
    try:
        return attempt()
    except EtcdUnavailableError as error:
        if LEADER_CHANGED not in error.message:
            raise
        return None
