"""What is known of one group of assignments: seats, and which managers are there.

Invariants:
  * It is what the store held at some revision, and each change is taken once, in order.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from collective.coordination.stored import FORMAT, key_of, read_record
from collective.errors import ProtocolError
from collective.model.names import natural_key
from collective.policy.assigning import Seat
from collective.store.store import Store
from collective.store.values import NEVER, Entry, Event

log = logging.getLogger(__name__)

# Our own reader is quick; a group of many nodes may change in one go.
_MOST_EVENTS = 1 << 22
# For "nodes/" and the longest name of a node.
_LEAST_REST = 206


@dataclass(frozen=True)
class Seen:
    """A seat, and the revision at which it was written."""

    seat: Seat
    revision: int


class AssignmentTable:
    """The seats and managers of a group, kept up to date by a watch."""

    def __init__(self, store: Store, group: str) -> None:
        """Begin to follow.

        Args:
            store: where the keys of coordination lie.
            group: any text.
        """
        root = key_of("assignments", group, _LEAST_REST)
        self._nodes, self._managers = root + "nodes/", root + "managers/"
        self.level_key = root + "level"
        self._lock = threading.Lock()
        self._seats: dict[str, Seen] = {}
        self._unread: dict[str, ProtocolError] = {}
        self._held: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._leaving: set[str] = set()
        self._present: dict[str, int] = {}
        self._level = 0
        self._listeners: list[Callable[[], object]] = []
        self._changed = threading.Condition(self._lock)
        self._revision = 0
        # All that this thread has seen is to be here when this returns.
        store.get(self.level_key)
        self._watch = store.held.open_watch(root, True, _MOST_EVENTS, NEVER)
        self._hear(self._watch.take_batch())
        store.held.call_batches(self._watch, self._hear)

    def close(self) -> None:
        """Follow no longer."""
        self._watch.close()

    def when_changed(self, call: Callable[[], object]) -> None:
        """Have something called, quickly, after each change."""
        with self._lock:
            self._listeners.append(call)

    def forget(self, call: Callable[[], object]) -> None:
        """Call it no more."""
        with self._lock:
            if call in self._listeners:
                self._listeners.remove(call)

    def seats(self) -> dict[str, Seen]:
        """Return all seats by node."""
        with self._lock:
            return dict(self._seats)

    def nodes_of(self, manager: str, session: int) -> frozenset[str]:
        """Return the nodes whose seats name a manager in one of its lives."""
        with self._lock:
            return frozenset(self._held.get((manager, session), ()))

    def leaving(self, manager: str, session: int) -> dict[str, Seen]:
        """Return those of these seats that it is to give up, by node."""
        with self._lock:
            nodes = self._leaving & self._held.get((manager, session), set())
            return {node: self._seats[node] for node in nodes}

    def seats_among(self, nodes: Iterable[str]) -> dict[str, Seen]:
        """Return the seats of some nodes, by node."""
        with self._lock:
            return {node: self._seats[node] for node in nodes if node in self._seats}

    def seat(self, node: str) -> Seen | None:
        """Return the seat of one node."""
        with self._lock:
            return self._seats.get(node)

    def check(self, node: str) -> None:
        """Raise where the seat of a node cannot be read.

        Raises:
            ProtocolError: a newer release wrote it, or none.
        """
        with self._lock:
            error = self._unread.get(node)
        if error is not None:
            raise ProtocolError(error.message, error.hint)

    def present(self) -> dict[str, int]:
        """Return the session of each manager that is there."""
        with self._lock:
            return dict(self._present)

    def reach(self, revision: int, seconds: float) -> bool:
        """Wait until a change of this group is here, by revision; False if it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._revision >= revision, max(seconds, 0.0))

    @property
    def revision(self) -> int:
        """The revision of the last change of this group that is here, 0 before the first."""
        return self._revision

    def await_change(self, known: int, seconds: float) -> None:
        """Wait until there is another revision here than one that is known, for some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._revision != known, max(seconds, 0.0))

    @property
    def level(self) -> int:
        """The revision at which levelling was asked for, 0 where it was not."""
        return self._level

    def node_key(self, node: str) -> str:
        """Return the key of a node's seat."""
        return self._nodes + quote(node, safe="")

    def manager_key(self, name: str) -> str:
        """Return the key that says that a manager is there."""
        return self._managers + quote(name, safe="")

    def _hear(self, batch: Sequence[Event]) -> None:
        with self._lock:
            for event in batch:
                self._take(event.key, event.entry)
                # In order within a cluster; lower ones are of another, where it begins anew.
                self._revision = event.revision
            self._changed.notify_all()
            listeners = list(self._listeners)
        for call in listeners:
            call()

    def _take(self, key: str, entry: Entry | None) -> None:
        if key.startswith(self._nodes):
            node = unquote(key.removeprefix(self._nodes))
            self._unread.pop(node, None)
            old = self._seats.pop(node, None)
            if old is not None:
                self._drop(_life(old.seat), node)
                self._leaving.discard(node)
            if entry is not None:
                try:
                    seat = read_seat(node, entry.value)
                except ProtocolError as error:
                    # Whoever can read it decides about this node; nobody of this release does.
                    log.error("%s", error)
                    self._unread[node] = error
                    return
                self._seats[node] = Seen(seat, entry.revision)
                self._held[_life(seat)].add(node)
                if seat.leaving:
                    self._leaving.add(node)
        elif key.startswith(self._managers):
            name = unquote(key.removeprefix(self._managers))
            if entry is None:
                self._present.pop(name, None)
            else:
                self._present[name] = entry.lease
        elif key == self.level_key:
            self._level = 0 if entry is None else entry.revision

    def _drop(self, life: tuple[str, int], node: str) -> None:
        """Note that a manager, in one of its lives, has a node no more."""
        held = self._held[life]
        held.discard(node)
        if not held:
            del self._held[life]


def _life(seat: Seat) -> tuple[str, int]:
    return seat.manager, seat.session


def write_seat(seat: Seat) -> bytes:
    """Return a seat as it is stored."""
    fields = {
        "format": FORMAT,
        "manager": seat.manager,
        # As text: a JSON number of 64 bits is not exact everywhere.
        "session": str(seat.session),
        "candidates": seat.candidates,
        "leaving": seat.leaving,
        "removed": seat.removed,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def read_seat(node: str, value: bytes) -> Seat:
    """Return a seat that was stored.

    Raises:
        ProtocolError: a newer release wrote it, or none.
    """
    return read_record(
        f"the assignment of {node}",
        value,
        lambda raw: Seat(
            node,
            str(raw["manager"]),
            int(raw["session"]),
            tuple(map(str, raw["candidates"])),
            bool(raw["leaving"]),
            bool(raw["removed"]),
        ),
    )


def names_of(seats: Iterable[Seat]) -> list[str]:
    """Return the nodes of some seats, in order."""
    return sorted((seat.node for seat in seats), key=natural_key)
