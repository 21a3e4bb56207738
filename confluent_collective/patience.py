"""What a thread does as long as there is a handle, however often it fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from collective.errors import ClosedError, CollectiveError

log = logging.getLogger(__name__)


def again_and_again(does: Callable[[], None], failed: str, seconds: float) -> None:
    """Do something until the handle is closed, at once where it has ended, later where it failed.

    Args:
        does: waits by itself for what it is done for.
        failed: what the log says of a failure.
        seconds: how long after one it is done again.
    """
    while True:
        try:
            does()
        except ClosedError:
            return
        except CollectiveError as error:
            log.info("%s: %s", failed, error)
            time.sleep(seconds)
