"""The stored configuration in Confluent's memory: what its other code reads, and never waits for.

It is run in the one thread that Confluent's code runs in. What is derived is computed by
Confluent's own functions; its files below the ``cfg`` folder are written by Confluent, as ever.

Invariants:
  * After a batch of events the configuration is that of one revision of the store.
  * Those who watch attributes and nodes are told what has changed, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_collective.documents import (
    AREAS,
    GLOBALS,
    NODEGROUPS,
    NODES,
    USERS,
    Document,
)
from confluent_collective.source_form import source_of

log = logging.getLogger(__name__)

EVERYTHING = "everything"


@dataclass
class Batch:
    """What has changed at once.

    Attributes:
        there: documents that are there now.
        gone: those that are there no more, as they were.
        renamed: new names of nodes by the old ones.
    """

    there: list[Document] = field(default_factory=list)
    gone: list[Document] = field(default_factory=list)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def of(self, area: str) -> dict[str, Any]:
        """Return the entries of an area that are there now."""
        return {each.name: each.entry for each in self.there if each.area == area}

    def gone_of(self, area: str) -> list[str]:
        """Return the names in an area that are gone; one that was spelled anew is there."""
        return [each.name for each in self.gone if each.area == area]

    @property
    def added_nodes(self) -> set[str]:
        """The nodes that may be new, but for those that were renamed."""
        return set(self.of(NODES)) - set(self.renamed.values())

    @property
    def deleted_nodes(self) -> list[str]:
        """The nodes that are gone, but for those that were renamed."""
        return [name for name in self.gone_of(NODES) if name not in self.renamed]


class Projection:
    """Confluent's configuration, kept as the store has it."""

    def __init__(self, module: Any) -> None:
        """Take Confluent's module.

        Args:
            module: ``confluent.config.configmanager``.
        """
        self._module = module

    def differing(self, documents: Iterable[Document]) -> Batch:
        """Return what must change in memory for it to be what is stored."""
        batch, names = Batch(), {area: set[str]() for area in AREAS}
        for document in documents:
            area, name, entry = document
            names[area].add(name)
            known = self._entries(area)
            if name not in known or source_of(area, known[name]) != entry:
                batch.there.append(document)
        for area in AREAS[:-1]:
            left = [name for name in self._entries(area) if name not in names[area]]
            batch.gone += [Document(area, name, None) for name in left]
        return batch

    def apply(self, batch: Batch) -> None:
        """Take up a batch."""
        module = self._module
        manager = module.ConfigManager(None)
        changes: dict[str, dict[str, int]] = {}
        for name, value in batch.of(GLOBALS).items():
            module.set_global(name, value, False)
        self._take_plain(batch)
        affected = self._take_groups(batch)
        taken = self._take_nodes(batch, changes)
        for node in affected - taken.keys():
            self._derive(manager, node, self._entries(NODES).get(node), changes)
        for node, former in taken.items():
            self._derive(manager, node, former, changes)
        self._drop_groups(batch)
        manager._notif_attribwatchers(changes)
        new = {node for node, former in taken.items() if not former}
        self._tell_watchers(manager, new & batch.added_nodes, batch.renamed)
        module.ConfigManager._bg_sync_to_file()

    def watchers_of_deletion(self, batch: Batch) -> list[Any]:
        """Tell those who watch nodes which ones are about to go; return what is to be awaited."""
        deleted = [name for name in batch.deleted_nodes if name in self._entries(NODES)]
        if not deleted:
            return []
        manager = self._module.ConfigManager(None)
        watchers = manager._nodecollwatchers.get(None, {})
        told = []
        for watcher in list(watchers.values()):
            try:
                told.append(watcher(added=(), deleting=deleted, renamed=(), configmanager=manager))
            except Exception:  # its own affair: the nodes go all the same
                log.exception("what watches nodes has failed")
        return [each for each in told if each is not None]

    def _tell_watchers(self, manager: Any, added: set[str], renamed: Mapping[str, str]) -> None:
        if not added and not renamed:
            return
        module = self._module
        for watcher in list(manager._nodecollwatchers.get(None, {}).values()):
            names = sorted(added)
            if hasattr(module, "eventlet"):
                module.eventlet.spawn_n(module._do_add_watcher, watcher, names, manager, renamed)
            else:
                module.tasks.spawn(module._do_add_watcher(watcher, names, manager, renamed))

    # Areas -----------------------------------------------------------------------------------

    def _entries(self, area: str) -> dict[str, Any]:
        store = self._module._cfgstore
        if area != GLOBALS:
            store = store.setdefault("main", {})
        found: dict[str, Any] = store.setdefault(area, {})
        return found

    def _mark(self, area: str, name: str) -> None:
        self._module._mark_dirtykey(area, name, None)

    def _take_plain(self, batch: Batch) -> None:
        """Take users and groups of users, from which nothing but the index of ids is derived."""
        for area in AREAS:
            if area in (NODES, NODEGROUPS, GLOBALS):
                continue
            entries = self._entries(area)
            for name in batch.gone_of(area):
                if entries.pop(name, None) is not None:
                    self._mark(area, name)
            for name, entry in batch.of(area).items():
                entries[name] = entry
                self._mark(area, name)
        if batch.of(USERS) or batch.gone_of(USERS):
            self._entries("idmap").clear()
            for name, user in self._entries(USERS).items():
                about = {"tenant": None, "username": name, "role": user.get("role")}
                self._entries("idmap")[user.get("id")] = about

    def _take_groups(self, batch: Batch) -> set[str]:
        """Take groups of nodes; return the nodes that may inherit something else now."""
        groups, affected = self._entries(NODEGROUPS), set[str]()
        for name, entry in batch.of(NODEGROUPS).items():
            nodes = groups.get(name, {}).get("nodes", set())
            groups[name] = {**entry, "nodes": nodes}
            affected |= nodes
            self._mark(NODEGROUPS, name)
        return affected

    def _drop_groups(self, batch: Batch) -> None:
        for name in batch.gone_of(NODEGROUPS):
            if name not in batch.of(NODEGROUPS) and name != EVERYTHING:
                self._entries(NODEGROUPS).pop(name, None)
                self._mark(NODEGROUPS, name)

    def _take_nodes(
        self, batch: Batch, changes: dict[str, dict[str, int]]
    ) -> dict[str, Mapping[str, Any]]:
        """Take nodes without what they inherit, and put them into their groups.

        Returns:
            Those that are there, as they were before.
        """
        nodes, taken = self._entries(NODES), dict[str, Mapping[str, Any]]()
        for name in batch.gone_of(NODES):
            former = nodes.pop(name, None)
            if former is None:
                continue
            self._regroup(name, former.get("groups", ()), ())
            self._mark(NODES, name)
            if name not in batch.renamed:
                changes[name] = {"_nodedeleted": 1}
        for name, entry in batch.of(NODES).items():
            taken[name] = former = nodes.get(name, {})
            self._regroup(name, former.get("groups", ()), entry.get("groups", ()))
            nodes[name] = dict(entry)
        return taken

    def _regroup(self, node: str, former: Iterable[str], now: Iterable[str]) -> None:
        groups = self._entries(NODEGROUPS)
        for name in former:
            if name in groups and name not in now:
                groups[name]["nodes"].discard(node)
                self._mark(NODEGROUPS, name)
        for name in now:
            nodes = groups.setdefault(name, {"nodes": set()})["nodes"]
            if node not in nodes:
                nodes.add(node)
                self._mark(NODEGROUPS, name)

    def _derive(
        self,
        manager: Any,
        node: str,
        former: Mapping[str, Any] | None,
        changes: dict[str, dict[str, int]],
    ) -> None:
        """Compute what a node inherits, and its expressions, with Confluent's functions.

        Args:
            manager: Confluent's, for its configuration.
            node: by name; it may be gone.
            former: the node before the batch.
            changes: gets the attributes that differ from those.
        """
        entry = self._entries(NODES).get(node)
        if entry is None or former is None:
            return
        made = dict(source_of(NODES, entry))
        self._entries(NODES)[node] = made
        for group in list(made.get("groups", ())):
            manager._node_added_to_group(node, group, {})
        module = self._module
        expressions = module._ExpressionFormat(made, node)
        for name in list(made):
            if isinstance(made[name], dict) and "expression" in made[name]:
                made[name] = module._decode_attribute(name, made, formatter=expressions)
        for name in (former.keys() | made.keys()) - {"_expressionkeys"}:
            if former.get(name) != made.get(name):
                changes.setdefault(node, {})[name] = 1
        self._mark(NODES, node)
