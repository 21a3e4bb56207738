"""Taking servers in and joining exclude each other on one server.

Two fresh servers that join each other would otherwise both become learners of a voter that is
no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from collective.errors import RefusedError


class Gate:
    """Who is in: any number of sponsors, or one joiner."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._sponsoring = 0
        self._joining = False

    @property
    def is_joining(self) -> bool:
        """Whether this server is joining another collective now."""
        return self._joining

    @contextmanager
    def sponsoring(self, name: str) -> Iterator[None]:
        """Take a server in.

        Raises:
            RefusedError: this server is itself joining.
        """
        with self._lock:
            if self._joining:
                raise RefusedError(
                    f"{name} is itself joining a collective now",
                    "ask another member, or try again when it has joined",
                )
            self._sponsoring += 1
        try:
            yield
        finally:
            with self._lock:
                self._sponsoring -= 1
                self._lock.notify_all()

    @contextmanager
    def joining(self, name: str, patience: float = 0.0) -> Iterator[None]:
        """Join another collective.

        Args:
            name: of this server.
            patience: how long to wait for what is under way, in seconds: after a start that may
                be a change of this server's own address.

        Raises:
            RefusedError: this server is joining already, or is taking a server in.
        """
        with self._lock:
            if self._joining:
                raise RefusedError("cannot join: another join is under way here")
            if not self._lock.wait_for(lambda: not self._sponsoring, patience):
                raise RefusedError(f"cannot join: {name} is taking another server in")
            self._joining = True
        try:
            yield
        finally:
            with self._lock:
                self._joining = False
