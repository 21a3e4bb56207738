"""What is closed when its block ends, and what is said of it then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from collective.errors import ClosedError

T = TypeVar("T", bound="Closing")


def closed_handle(forked: bool) -> ClosedError:
    """Return the error of a handle that is used after its end.

    Args:
        forked: whether it is its parent's, in a child process.
    """
    if forked:
        return ClosedError(
            "this handle is another process's: this one was forked from it",
            "connect in the child, for a handle of its own",
        )
    return ClosedError("this handle was closed")


class Closing(ABC):
    """A context manager that closes itself, once or more often."""

    @abstractmethod
    def close(self) -> None:
        """End it; to close what is closed does nothing."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
