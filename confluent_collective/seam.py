"""Where Confluent is held: the names of its modules that are given another meaning.

Confluent's own collective never runs beside this one: what would begin it is replaced, too.

Invariants:
  * Nothing of Confluent's is replaced before its release was judged (``release``).
  * A server that has no quorum, no daemon or no configuration yet changes nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collective.errors import CollectiveError, DegradedCollective
from confluent_collective.flavours import AsyncioFlavour, EventletFlavour, Flavour
from confluent_collective.service import Steps

log = logging.getLogger(__name__)

_OURS = "the collective of this server is run by collectived"
#: What would begin, or go on with, Confluent's own collective.
_BUILT_IN = ("start_collective", "connect_to_leader", "become_leader", "_assimilate_missing")
_COMMANDS = {"invite": "invite NAME", "join": "join SERVER", "delete": "delete NAME"}
#: Where the command of collectived is: of the role, of a package. Confluent's comes first in PATH.
_PROGRAMS = (Path("/usr/local/bin/collective"), Path("/usr/bin/collective"))


class StandIn:
    """In the place of the connection to a leader: it is there, and nothing can be sent over it."""

    def __getitem__(self, _index: int) -> StandIn:
        return self

    def close(self) -> None:
        """Do nothing."""


class Seam:
    """Confluent's modules, with what takes the place of their collective."""

    def __init__(self, cfm: Any, manager: Any) -> None:
        """Take the modules; nothing is replaced yet.

        Args:
            cfm: ``confluent.config.configmanager``.
            manager: ``confluent.collective.manager``.
        """
        self.cfm = cfm
        self.manager = manager
        self.flavour: Flavour | None = None
        self._check_managers: Any = None
        self._failover: Any = None

    @property
    def is_asyncio(self) -> bool:
        """Whether this Confluent runs on asyncio."""
        return not hasattr(self.cfm, "eventlet")

    def hook_startup(self, startup: Callable[[], None]) -> None:
        """Have something called where Confluent would begin its own collective."""
        self.manager.startup = startup

    def hook_writes(self, written: Callable[[], None]) -> None:
        """Have something called, in the thread that writes, after Confluent wrote its files."""
        manager = self.cfm.ConfigManager
        write = manager._sync_to_file

        def write_and_tell(*arguments: Any, **named: Any) -> None:
            write(*arguments, **named)
            written()

        manager._sync_to_file = staticmethod(write_and_tell)

    def begin(self) -> Flavour:
        """Note the thread that Confluent runs in, which is this one: for ``startup``."""
        if self.is_asyncio:
            self.flavour = AsyncioFlavour()
        else:
            for name in ("hubs", "semaphore", "tpool"):
                importlib.import_module(f"eventlet.{name}")
            self.flavour = EventletFlavour(self.cfm.eventlet)
        return self.flavour

    def replace(
        self,
        begin: Callable[[str, tuple[Any, ...]], Steps],
        refuse: Callable[[], None],
        collinfo: Callable[[], dict[str, Any]],
    ) -> None:
        """Give Confluent's names their other meaning.

        Args:
            begin: begins a change.
            refuse: raises where no change can be made now.
            collinfo: what Confluent's ``collective show`` tells.
        """
        flavour = self.flavour
        assert flavour is not None
        cfm, manager = self.cfm, self.manager
        cfm._hasquorum = False
        cfm.cfgleader = StandIn()
        cfm.exec_on_leader = flavour.changer(begin, refuse, self._translated)
        manager.populate_collinfo = lambda told: told.update(collinfo())
        manager.handle_connection = self._connection_handler(collinfo)
        self._check_managers = manager.check_managers
        for name in _BUILT_IN:
            setattr(manager, name, flavour.function(_never))

    def _translated(self, error: Exception) -> Exception:
        """Return the exception that Confluent's code knows for one of ours."""
        if isinstance(error, DegradedCollective):
            degraded: Exception = self.cfm.exc.DegradedCollective()
            return degraded
        return Exception(str(error)) if isinstance(error, CollectiveError) else error

    def hook_managers(self, leads: Callable[[], bool], failed: Callable[[], None]) -> None:
        """Have Confluent's failover of nodes run here where this server is elected for it.

        Args:
            leads: whether it is.
            failed: is called where it raised, or there was no quorum: it is to be done again.
        """
        manager, cfm, original = self.manager, self.cfm, self._check_managers

        def ended(is_done: bool) -> None:
            manager.failovercheck = None
            if leads() and not (is_done and cfm._hasquorum):
                failed()

        def check() -> None:
            is_done = False
            try:
                if leads():
                    original()
                is_done = True
            except Exception:
                cfm.logException()
            finally:
                ended(is_done)

        async def check_in_loop() -> None:
            is_done = False
            try:
                if leads():
                    await original()
                is_done = True
            except Exception:
                cfm.logException()
            finally:
                ended(is_done)

        manager.check_managers = check_in_loop if self.is_asyncio else check

    def begin_failover(self) -> None:
        """Have Confluent look for nodes of servers that are gone, in its thread.

        Not after its own time of 10 s: as long has passed until a key under a lease is gone.
        """
        manager = self.manager
        if manager.failovercheck:
            return
        manager.failovercheck = True
        if self.is_asyncio:
            self._failover = asyncio.get_running_loop().create_task(manager.check_managers())
        else:
            self.cfm.eventlet.spawn_n(manager.check_managers)

    def _connection_handler(self, collinfo: Callable[[], dict[str, Any]]) -> Any:
        send = self.manager.tlvdata.send

        def answer(request: dict[str, Any], cert: Any, local: bool) -> dict[str, Any] | None:
            operation = request.get("operation", "")
            if cert or not local:
                return {"error": _OURS}
            if operation == "show":
                return {"collective": collinfo()}
            words = _COMMANDS.get(operation)
            return {"collective": {"error": f"{_OURS}: type {_typed(words)}" if words else _OURS}}

        def handle(connection: Any, cert: Any, request: Any, local: bool = False) -> Any:
            return send(connection, answer(request, cert, local))

        assert self.flavour is not None
        return self.flavour.function(handle)

    # What is told to Confluent, in its thread ---------------------------------------------------

    def tell_quorum(self, holds: bool) -> None:
        """Have Confluent know whether there is a quorum, and say so in its log and events."""
        if self.cfm._hasquorum is holds:
            return
        self.cfm._hasquorum = holds
        text = "Quorum of the collective is back" if holds else "Quorum of the collective is lost"
        kind = "info" if holds else "error"
        self.manager.log.log({kind: text, "subsystem": "collective"})

    def tell_members(self, members: dict[str, dict[str, Any]]) -> None:
        """Have Confluent know the members, their addresses and certificates.

        They are in its files, too: osdeploy reads there which managers nodes are to trust.
        """
        store = self.cfm._cfgstore
        former = store.get("collective", {})
        if len(members) > 1:
            store["collective"] = members
        else:
            store.pop("collective", None)
        changed = {n for n in former.keys() | members.keys() if former.get(n) != members.get(n)}
        if changed:
            with self.cfm._dirtylock:
                store.setdefault("collectivedirty", set()).update(changed)
            self.cfm.ConfigManager._bg_sync_to_file()

    def tell_ready(self) -> None:
        """Have Confluent know that its configuration is that of the collective."""
        self.cfm._ready = True


def _typed(words: str) -> str:
    program = next((path for path in _PROGRAMS if path.exists()), _PROGRAMS[-1])
    return f"{program} {words}"


def _never(*_arguments: Any, **_named: Any) -> bool:
    """Begin nothing; Confluent's own collective is off."""
    log.debug("Confluent's own collective was asked for, and stays off")
    return False
