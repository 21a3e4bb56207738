"""What a change is to write, computed by Confluent's own code on a copy that nobody else sees.

A second instance of Confluent's module (``Scratch``) has a configuration of its own: an overlay
over the one that is in use. The function that a leader would run is run there, with its checks,
its texts and its random numbers; what it marked as changed becomes documents.

Invariants:
  * The configuration in use is not changed, whatever the function does or raises.
  * What is random is computed once, by the server that commits it.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_collective.documents import (
    AREAS,
    GLOBALS,
    SHARED_GLOBALS,
    Document,
    check_document,
    from_bytes,
    key_of,
    to_bytes,
)
from confluent_collective.overlay import Overlay
from confluent_collective.source_form import source_of

_RENAME = "_rpc_master_rename_nodes"


@dataclass(frozen=True)
class Change:
    """What is to be written, and what the function returned.

    Attributes:
        puts: documents by key, those alone that differ from what is stored.
        deletes: keys.
        renamed: new names of nodes by the old ones.
        returned: by the function.
    """

    puts: Mapping[str, bytes]
    deletes: frozenset[str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    returned: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written."""
        return not self.puts and not self.deletes


class Scratch:
    """Confluent's module once more, with a configuration that is thrown away."""

    def __init__(self, module: Any) -> None:
        """Load it; nothing of it is registered anywhere.

        Args:
            module: ``confluent.config.configmanager`` as it is in use.
        """
        self._live = module
        spec = importlib.util.spec_from_file_location(
            "confluent_collective_scratch", module.__file__
        )
        assert spec is not None
        assert spec.loader is not None
        module_again: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module_again)
        module_again.statelessmode = True
        self._module = module_again

    def run(
        self, function: str, arguments: Sequence[Any], stored: Callable[[str], bytes | None]
    ) -> Change:
        """Run what a leader would run, and return what is to be written.

        Args:
            function: its name, one of the ``_rpc_master_`` ones.
            arguments: the tenant first; they are not changed.
            stored: returns what a key holds.

        Raises:
            ValueError: the change is not valid, in Confluent's words or ours; and whatever else
                the function raises.
        """
        module = self._begin()
        renamed = dict(arguments[1]) if function == _RENAME else {}
        returned = driven(getattr(module, function)(*copy.deepcopy(list(arguments))))
        puts: dict[str, bytes] = {}
        gone: set[str] = set()
        for area, names in self._changed().items():
            for name in names:
                _collect(area, name, self._area(area), stored, puts, gone)
        self._refuse_twins(stored)
        return Change(puts, frozenset(gone - puts.keys()), renamed, returned)

    def _begin(self) -> Any:
        live, module = self._live, self._module
        main = {area: Overlay(entries) for area, entries in live._cfgstore["main"].items()}
        known = live._cfgstore.get(GLOBALS, {})
        module._cfgstore = {"main": main, GLOBALS: copy.deepcopy(_shared(known))}
        module._masterkey = live._masterkey
        module._masterintegritykey = live._masterintegritykey
        module.cfgleader, module.cfgstreams = None, {}
        return module

    def _changed(self) -> dict[str, set[str]]:
        store = self._module._cfgstore
        marked = store.get("dirtykeys", {}).get(None, {})
        found = {area: set(names) for area, names in marked.items() if area in AREAS}
        found[GLOBALS] = set(store.get("dirtyglobals", ())) & SHARED_GLOBALS
        return found

    def _area(self, area: str) -> Mapping[str, Any]:
        store = self._module._cfgstore
        found: Mapping[str, Any] = (store if area == GLOBALS else store["main"]).get(area, {})
        return found

    def _refuse_twins(self, stored: Callable[[str], bytes | None]) -> None:
        """Refuse a new name that differs from one that is there in case only."""
        for area, names in self._changed().items():
            if area == GLOBALS:
                continue
            entries, base = self._area(area), self._live._cfgstore["main"].get(area, {})
            by_key: dict[str, str] = {}
            for name in sorted(name for name in names if name in entries and name not in base):
                key = key_of(area, name)
                known = stored(key)
                there = None if known is None else from_bytes(area, key, known).name
                twin = by_key.setdefault(key, name)
                if there is not None and there in entries:
                    twin = there
                if twin != name:
                    raise ValueError(
                        f"{name} cannot be among the {area}: {twin} is, and on this collective "
                        "names that differ in upper and lower case only are one name"
                    )


def driven(result: Any) -> Any:
    """Return what a function of either kind returns; a coroutine that waits is none of these.

    Raises:
        RuntimeError: it waits for something.
    """
    if not inspect.iscoroutine(result):
        return result
    try:
        result.send(None)
    except StopIteration as end:
        return end.value
    result.close()
    raise RuntimeError("a change of Confluent's configuration waits for something")


def _collect(
    area: str,
    name: str,
    entries: Mapping[str, Any],
    stored: Callable[[str], bytes | None],
    puts: dict[str, bytes],
    gone: set[str],
) -> None:
    key = key_of(area, name)
    if name in entries:
        entry = source_of(area, entries[name])
        check_document(key, Document(area, name, entry))
        value = to_bytes(name, entry)
        if stored(key) != value:
            puts[key] = value
    elif stored(key) is not None:
        gone.add(key)


def _shared(known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name in SHARED_GLOBALS}
