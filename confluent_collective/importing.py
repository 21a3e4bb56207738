"""The way in: the configuration of one server, or a dump of one, becomes that of the collective.

Invariants:
  * Nobody takes up a part of it: the key that says it is there is written last, and once.
  * Of two servers that import at once one does: each write requires that nobody else began, and
    that there is no configuration yet.
  * What cannot be is found before anything is written, all of it together.
  * Of the server's own files nothing is changed, unless it is a dump that is imported: that
    becomes this server's configuration first, with its master key, which is stored nowhere else.
    What was there is copied aside.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
    HERE,
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
from confluent_collective.own_files import OwnFiles
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
    form = _form_of(folder)
    if form:
        _read_dump(cfm, folder, form, password)
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
        _unlock(cfm)
    if cfm._masterkey is None:
        raise RefusedError(f"{folder} holds no master key, so its secrets could not be read")


def _unlock(cfm: Any) -> None:
    """Have Confluent's module read its master key, which a file may protect (externalcfgkey)."""
    password = None
    if hasattr(cfm, "conf"):
        cfm.conf.init_config()
        told = cfm.conf.get_config()
        if told.has_option("security", "externalcfgkey"):
            file = Path(told.get("security", "externalcfgkey"))
            try:
                password = file.read_text()
            except OSError as error:
                raise RefusedError(f"cannot read {file}: {error.strerror}") from None
    try:
        cfm.init_masterkey(password, autogen=False)
    except Exception as error:
        raise RefusedError(f"cannot read Confluent's master key: {error}") from None


def is_dump(folder: Path) -> bool:
    """Tell whether a folder is what ``confluentdbutil dump`` has written."""
    return bool(_form_of(folder))


def is_protected(folder: Path) -> bool:
    """Tell whether the keys of a dump need a password.

    Raises:
        RefusedError: there are none.
    """
    try:
        text = (folder / f"keys.{_form_of(folder)}").read_text("utf-8", "replace")
    except OSError as error:
        raise RefusedError(
            f"{folder} holds no keys, so its secrets could not be read: {error.strerror}",
            "dump again without -r and -s, or put the keys file of an earlier dump there",
        ) from None
    return "*unencrypted:" not in text


def _form_of(folder: Path) -> str:
    return next((form for form in ("json", "yaml") if (folder / f"main.{form}").exists()), "")


def _read_dump(cfm: Any, folder: Path, form: str, password: str | None) -> None:
    if is_protected(folder) and not password:
        raise RefusedError(f"the keys in {folder} are protected with a password")
    cfm.init(True)
    with tempfile.TemporaryDirectory() as nowhere:
        # Confluent deletes what it finds there before it restores.
        cfm.ConfigManager._cfgdir = nowhere
        try:
            driven(cfm.restore_db_from_directory(str(folder), password, False, None, form))
        except Exception as error:
            raise RefusedError(
                f"cannot read the dump in {folder}: {str(error) or type(error).__name__}",
                "is the password right?" if password else None,
            ) from None


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


def write_here(cfm: Any, folder: Path, identity: str) -> None:
    """Make a configuration that was read this server's own; what was there is copied aside.

    Args:
        cfm: Confluent's module, with what was read.
        folder: Confluent's ``cfg``.
        identity: of the collective's configuration, and of its key.

    Raises:
        RefusedError: it could not be written.
    """
    files, before = OwnFiles(folder), dict(documents_of(cfm))
    key = master_key.mark_of(cfm)
    try:
        files.keep_aside(identity)
        files.clear()
        # Whom Confluent's own collective had where the dump was made.
        cfm._cfgstore.pop("collective", None)
        cfm.ConfigManager._cfgdir = str(folder)
        cfm.statelessmode = False
        cfm.ConfigManager.wait_for_sync(True)
        cfm.statelessmode = True
        files.note()
    except OSError as error:
        raise RefusedError(f"cannot write the dump to {folder}: {error}") from error
    # Confluent writes in a thread, and what that raises nobody hears.
    read_configuration(cfm, folder)
    if dict(documents_of(cfm)) != before or master_key.mark_of(cfm) != key:
        raise RefusedError(f"what is in {folder} now is not what was dumped: see above")


def import_configuration(
    handle: collective.Collective,
    cfm: Any,
    begun: Callable[[str], None] | None = None,
    replaces: bool = False,
) -> int:
    """Write a configuration that was read, and return how many entries it has.

    Args:
        handle: on the collective.
        cfm: Confluent's module, with what was read.
        begun: is called with the identity of the configuration and of its key, when nothing is in
            the way and before anything is stored.
        replaces: whether one that the collective has already is deleted.

    Raises:
        RefusedError: it cannot be, or the collective has one already, or a Confluent runs on that.
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
        if replaces:
            _delete(handle, hold)
        return _import(handle, cfm, hold, begun or (lambda _: None))
    finally:
        hold.release()


def _delete(handle: collective.Collective, hold: Any) -> None:
    """Delete the configuration that is stored, and on which no Confluent runs."""
    running = [entry.key[len(HERE) :] for entry in handle.store.export(HERE, linearizable=True)]
    if running:
        raise RefusedError(
            f"Confluent runs on the configuration that is to be replaced: on {', '.join(running)}",
            "stop it there, and wait 10 seconds where it was killed",
        )
    known = handle.store.get(CHANGE_KEY, linearizable=True)
    if known is not None and not _made(
        handle.store, [hold.fence], [collective.DeletePrefix(ROOT)]
    ):
        raise RefusedError("another server imports its configuration meanwhile")


def _import(
    handle: collective.Collective, cfm: Any, hold: Any, begun: Callable[[str], None]
) -> int:
    if handle.store.get(CHANGE_KEY, linearizable=True) is not None:
        raise RefusedError(
            "the collective has a configuration of Confluent already",
            "to replace it: import --replace, see REPLACE in docs/confluent.md",
        )
    mark, identity = master_key.mark_of(cfm), secrets.token_hex(16)
    begun(f"{identity} {mark}")
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
    about = object_bytes(mark=mark, identity=identity)
    record = object_bytes(by=handle.name, function="import", renamed={})
    last = [collective.Put(MASTER_KEY, about), collective.Put(CHANGE_KEY, record)]
    _write(handle.store, hold, last)
    return count


def _write(store: collective.Store, hold: Any, operations: Sequence[Any]) -> None:
    """Write while no other server imports, and none has.

    Raises:
        RefusedError: one does, or has.
    """
    if not _made(store, [collective.absent(CHANGE_KEY), hold.fence], operations):
        raise RefusedError("another server has imported its configuration meanwhile")


def _made(store: collective.Store, when: Sequence[Any], operations: Sequence[Any]) -> bool:
    """Write if what is required holds, and tell whether it did."""
    try:
        return store.txn(when, operations, seconds=_WRITE_SECONDS).succeeded
    except InDoubtError as error:
        settled = error.settle(seconds=_WRITE_SECONDS)
        return bool(settled)
