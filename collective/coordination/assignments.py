"""Assignments: every node has one manager at a time, and gets another one when that is lost.

What a user calls. ``managing`` is a process as a manager, ``deciding`` the one of them who writes
down which has which node, ``seats`` what both share; ``collective.policy.assigning`` decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from urllib.parse import quote
from weakref import WeakSet, finalize

from collective.coordination.assignment_table import names_of
from collective.coordination.managing import Callback, Manager
from collective.coordination.seats import AGAIN_SECONDS, Seats, parts
from collective.coordination.session import Session
from collective.coordination.stored import FORMAT
from collective.errors import InputError
from collective.model.names import parse_server_name
from collective.model.pairs import paired
from collective.policy.assigning import Seat
from collective.store.deadline import deadline_in
from collective.store.leases import check_seconds
from collective.store.store import SECONDS, Store

__all__ = ["Assignments", "Callback", "Manager"]

#: For how long the nodes of a manager that is gone are left alone, if not said otherwise.
GRACE_SECONDS = 10.0
#: How long a manager's session outlives its process, if not said otherwise.
SESSION_SECONDS = 10
_CLOSE_SECONDS = 2.0
_MOST_PAUSE_SECONDS = 0.5
_MOST_GRACE = 86400.0
_MOST_CANDIDATES = 64
_MOST_NAME = 200

OpenSession = Callable[[int], Session]


class Assignments:
    """One group of nodes; ``Collective.assignments`` makes it."""

    def __init__(
        self, store: Store, name: str, group: str, grace: float, open_session: OpenSession
    ) -> None:
        """Begin to follow the group.

        Args:
            store: where the keys of coordination lie.
            name: of this server.
            group: any text.
            grace: in seconds.
            open_session: opens one that outlives this process for so many seconds.
        """
        if not 0 <= grace <= _MOST_GRACE:
            raise InputError(f"the grace time cannot be {grace} s, expected 0 to {_MOST_GRACE:g}")
        self._seats = Seats(store, name, group, grace)
        self._table = self._seats.table
        self._open_session = open_session
        self._managers: WeakSet[Manager] = WeakSet()
        # Nobody may ever close it: then it follows for as long as it is held.
        finalize(self, self._table.close)

    def define(
        self,
        nodes: Mapping[str, Iterable[str]] | Iterable[str],
        *,
        seconds: float = SECONDS,
    ) -> None:
        """Add nodes, or change who may manage them; who manages them stays, if it may.

        Args:
            nodes: names, or names with their candidates; none of these means anybody.
            seconds: deadline.

        Raises:
            InputError: candidates are no names.
            DeadlineError: others changed the same nodes all the time.
            As for ``Store.txn``.
        """
        wanted = nodes if isinstance(nodes, Mapping) else dict.fromkeys(_names(nodes), ())
        candidates = {node: _candidates(node, names) for node, names in wanted.items()}
        self._change(
            candidates,
            lambda seat: replace(seat, candidates=candidates[seat.node], removed=False),
            seconds,
            new=True,
        )

    def remove(self, nodes: Iterable[str], *, seconds: float = SECONDS) -> None:
        """Take nodes out of the group: their managers lose them, and then they are gone.

        Args:
            nodes: names; those that are not in the group are passed over.
            seconds: deadline.

        Raises:
            As for ``define``.
        """
        self._change(
            _names(nodes), lambda seat: replace(seat, leaving=True, removed=True), seconds
        )

    def manager_of(self, node: str) -> str | None:
        """Return who manages a node, as this server sees it; None for nobody.

        Raises:
            InputError: there is no such node in the group.
        """
        seen = self._table.seat(node)
        if seen is None:
            self._table.check(node)
            raise InputError(f"{node} is no node of {self._seats.group}")
        seat = seen.seat
        there = self._table.present().get(seat.manager) == seat.session
        return seat.manager if seat.manager and there else None

    def nodes_of(self, manager: str) -> list[str]:
        """Return the nodes that a server manages, as this server sees it."""
        session = self._table.present().get(manager)
        seats = (seen.seat for seen in self._table.seats().values())
        return names_of(s for s in seats if s.manager == manager and s.session == session)

    def managers(self) -> list[str]:
        """Return the managers that are there."""
        return sorted(self._table.present())

    def rebalance(self, *, seconds: float = SECONDS) -> None:
        """Ask for level loads: as few nodes as possible change hands, one manager at a time."""
        text = json.dumps({"format": FORMAT, "name": self._seats.name}).encode()
        self._seats.store.put(self._table.level_key, text, seconds=seconds)

    def manage(
        self,
        gained: Callback,
        lost: Callback,
        *,
        session_seconds: int = SESSION_SECONDS,
    ) -> Manager:
        """Take part as a manager, under the name of this server.

        Args:
            gained: called with nodes that we manage now, many at a time.
            lost: called with nodes that we manage no longer. Until it returns nobody else gets
                them, unless our session ends first.
            session_seconds: how long our session outlives this process.

        A callback that never returns keeps the nodes that it was called with: our session lives
        on, and nobody else may have them.

        Raises:
            InputError: that is no time for a session.
        """
        check_seconds(session_seconds)
        opens = partial(self._open_session, int(session_seconds))
        manager = Manager(self._seats, gained, lost, opens, self)
        self._managers.add(manager)
        return manager

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Close the managers of this group, and follow no longer.

        Args:
            seconds: how long to wait for all of them together, see ``Manager.close``.
        """
        deadline = deadline_in(seconds)
        managers = list(self._managers)
        for manager in managers:
            manager.stop()
        for manager in managers:
            manager.close(max(0.0, deadline - monotonic()))
        self._table.close()

    def _change(
        self,
        nodes: Iterable[str],
        change: Callable[[Seat], Seat],
        seconds: float,
        new: bool = False,
    ) -> None:
        """Change seats as they are now, until nobody came in between.

        Args:
            nodes: of the seats.
            change: returns a seat as it should be.
            seconds: deadline.
            new: whether to make seats that there are none of.
        """
        deadline = deadline_in(seconds)
        left = sorted(set(nodes))
        pause = AGAIN_SECONDS
        while left:
            known, before = self._table.revision, len(left)
            seen = self._table.seats()
            for node in left:
                self._table.check(node)
            rows = parts([node for node in left if new or node in seen])
            seats = [
                [change(seen[node].seat if node in seen else Seat(node)) for node in part]
                for part in rows
            ]
            writes = [self._seats.write(part, seen, ()) for part in seats]
            done = self._seats.make(writes, deadline)
            left = [n for part, made in paired(rows, done) if not made for n in part]
            if len(left) == before:
                # Somebody came first, and it is not heard of here yet.
                self._table.await_change(known, max(0.0, min(pause, deadline - monotonic())))
                pause = min(2 * pause, _MOST_PAUSE_SECONDS)


def _names(nodes: Iterable[str]) -> list[str]:
    """Return names of nodes.

    Raises:
        InputError: it is one text, whose letters would be the names.
    """
    if isinstance(nodes, str):
        raise InputError(f"the nodes are a text, {nodes[:40]!r}, expected a list of names")
    return list(nodes)


def _candidates(node: str, names: Iterable[str]) -> tuple[str, ...]:
    if not node or len(quote(node, safe="")) > _MOST_NAME:
        raise InputError(
            f"{node[:40]!r} is no name of a node, expected 1 to {_MOST_NAME} characters, of which "
            "those that do not go into a URL count for three a byte"
        )
    if isinstance(names, str):
        raise InputError(f"the candidates of {node} are a text, expected a list of names")
    found = tuple(dict.fromkeys(parse_server_name(name) for name in names))
    if len(found) > _MOST_CANDIDATES:
        raise InputError(f"{node} has {len(found)} candidates, at most are {_MOST_CANDIDATES}")
    return found
