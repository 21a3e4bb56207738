"""The way in: the configuration of one server, or a dump of one, becomes that of the collective.

Invariants:
  * Nobody takes up a part of it: the key that says it is there is written last, and once.
  * Of two servers that import at once one does: each write requires that nobody else began, and
    that there is no configuration yet.
  * What cannot be is found before anything is written, all of it together.
  * Of the server's own files nothing is changed.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import collective
from collective.errors import DeadlineError, InDoubtError, ProtocolError, RefusedError
from confluent_collective import master_key
from confluent_collective.change import driven
from confluent_collective.documents import (
    AREAS,
    CHANGE_KEY,
    GLOBALS,
    MASTER_KEY,
    NODES,
    ROOT,
    SHARED_GLOBALS,
    Document,
    check_document,
    key_of,
    object_bytes,
    to_bytes,
)
from confluent_collective.source_form import source_of

_CANDIDATES = "collective.managercandidates"
_WRITE_SECONDS = 30.0
_LOCK = "confluent-import"
# Longer than the session of an import that was killed.
_LOCK_SECONDS = 15.0
_PIECE, _PIECE_BYTES = 1000, 1 << 19
_SHOWN = 5


def read_configuration(cfm: Any, folder: Path, password: str | None = None) -> None:
    """Have Confluent's module read a configuration, without a file of its own to write.

    Args:
        cfm: ``confluent.config.configmanager``.
        folder: a ``cfg`` folder, or what ``confluentdbutil dump`` has written.
        password: of the dump's keys, None where they have none.

    Raises:
        RefusedError: there is no configuration, or no key to its secrets.
    """
    cfm.statelessmode = True
    if (folder / "main.json").exists():
        cfm.init(True)
        with tempfile.TemporaryDirectory() as nowhere:
            # Confluent deletes what it finds there before it restores.
            cfm.ConfigManager._cfgdir = nowhere
            driven(cfm.restore_db_from_directory(str(folder), password))
    elif any(folder.glob("globals*")):
        cfm.ConfigManager._cfgdir = str(folder)
        cfm.init()
    else:
        raise RefusedError(
            f"{folder} holds neither Confluent's configuration nor a dump of it",
            "name /etc/confluent/cfg, or the folder of 'confluentdbutil dump'",
        )
    cfm._cfgstore.setdefault("main", {})
    if cfm._masterkey is None:
        cfm.init_masterkey(autogen=False)
    if cfm._masterkey is None:
        raise RefusedError(f"{folder} holds no master key, so its secrets could not be read")


def findings(cfm: Any) -> tuple[list[str], list[str]]:
    """Return what hinders an import, and what is only worth a warning."""
    errors, warnings = [], []
    main = cfm._cfgstore["main"]
    tenants = sorted(cfm._cfgstore.get("tenant", {}))
    if tenants:
        errors.append(f"it has tenants ({', '.join(tenants)}), which are not shared")
    for area in AREAS[:-1]:
        by_key: dict[str, str] = {}
        for name, entry in main.get(area, {}).items():
            key = key_of(area, name)
            twin = by_key.setdefault(key, name)
            if twin != name:
                errors.append(f"{area}: {twin} and {name} differ in upper and lower case only")
            try:
                check_document(key, Document(area, name, source_of(area, entry)))
            except ProtocolError:
                errors.append(f"{area}: {name} has a form that cannot be shared")
    nodes = main.get(NODES, {})
    for name, node in nodes.items():
        value = (node.get(_CANDIDATES) or {}).get("value") or ""
        unknown = [each for each in value.split(",") if each.isalnum() and each not in nodes]
        if unknown:
            warnings.append(
                f"{name}: its {_CANDIDATES} {', '.join(unknown)} are no nodes, and Confluent's "
                "failover wants them to be"
            )
    return errors, warnings


def documents_of(cfm: Any) -> Iterator[tuple[str, bytes]]:
    """Yield keys and values of all that is shared."""
    store = cfm._cfgstore
    for area in AREAS[:-1]:
        for name, entry in store["main"].get(area, {}).items():
            yield key_of(area, name), to_bytes(name, source_of(area, entry))
    for name, value in store.get(GLOBALS, {}).items():
        if name in SHARED_GLOBALS:
            yield key_of(GLOBALS, name), to_bytes(name, value)


def import_configuration(handle: collective.Collective, cfm: Any) -> int:
    """Write a configuration that was read, and return how many entries it has.

    Raises:
        RefusedError: it cannot be, or the collective has one already.
        DegradedCollective: there is no quorum.
    """
    errors, _ = findings(cfm)
    if errors:
        shown = "; ".join(errors[:_SHOWN])
        raise RefusedError(f"this configuration cannot be shared: {shown}", "mend it there first")
    try:
        hold = handle.lock(_LOCK).acquire(_LOCK_SECONDS)
    except DeadlineError as error:
        raise RefusedError(f"another server imports its configuration: {error}") from error
    try:
        return _import(handle, cfm, hold)
    finally:
        hold.release()


def _import(handle: collective.Collective, cfm: Any, hold: Any) -> int:
    if handle.store.get(CHANGE_KEY, linearizable=True) is not None:
        raise RefusedError(
            "the collective has a configuration of Confluent already",
            "to replace it, delete it first: see REPLACE in docs/confluent.md",
        )
    # What an import that was broken off has left.
    _write(handle.store, hold, [collective.DeletePrefix(ROOT)])
    count, piece, size = 0, list[Any](), 0
    for key, value in documents_of(cfm):
        if len(piece) == _PIECE or size > _PIECE_BYTES:
            _write(handle.store, hold, piece)
            piece, size = [], 0
        piece.append(collective.Put(key, value))
        count, size = count + 1, size + len(value)
    _write(handle.store, hold, piece)
    about = object_bytes(mark=master_key.mark_of(cfm), identity=secrets.token_hex(16))
    record = object_bytes(by=handle.name, function="import", renamed={})
    last = [collective.Put(MASTER_KEY, about), collective.Put(CHANGE_KEY, record)]
    _write(handle.store, hold, last)
    return count


def _write(store: collective.Store, hold: Any, operations: Sequence[Any]) -> None:
    """Write while no other server imports, and none has.

    Raises:
        RefusedError: one does, or has.
    """
    when = [collective.absent(CHANGE_KEY), hold.fence]
    try:
        made = store.txn(when, operations, seconds=_WRITE_SECONDS).succeeded
    except InDoubtError as error:
        made = error.settle(seconds=_WRITE_SECONDS)
    if not made:
        raise RefusedError("another server has imported its configuration meanwhile")
