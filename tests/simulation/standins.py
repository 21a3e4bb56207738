"""What stands in for locks, waits and pools of threads of the product, where actors take turns.

Invariants:
  * Whatever would block a thread holds its actor instead, so that others go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import World

_POLL_SECONDS = 1.0


class SerialPool(Executor):
    """A pool that runs what it is given at once, one after the other, in the thread that asks."""

    def __init__(self, *_arguments: Any) -> None:
        """Begin."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Run it."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Ending:
    """An event that is set when a life has ended; to wait for it lets time pass."""

    def __init__(self, world: World, has_ended: Callable[[], bool]) -> None:
        self._world, self._has_ended = world, has_ended

    def is_set(self) -> bool:
        """Tell whether it has ended."""
        return self._has_ended()

    def set(self) -> None:
        """Do nothing: the machine knows."""

    def wait(self, seconds: float) -> bool:
        """Wait."""
        if self._world.actors.holds and not self._has_ended():
            self._world.time.pause(seconds)
        return self._has_ended()


class Lock:
    """A lock that an actor holds, and may take more than once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: object = None
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        """Take it; wait for it, or tell that another one has it."""
        current = self._world.actors.current()
        while self._depth and self._owner is not current:
            if not blocking:
                return False
            self._world.time.pause(_POLL_SECONDS)
        self._owner = current
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it back."""
        self._depth -= 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_details: object) -> None:
        self.release()
