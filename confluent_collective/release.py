"""Which releases of Confluent were tried, and whether the one that is here is one of them.

Pure but for reading the files of Confluent, which are not imported for it.

Invariants:
  * A release is known by the text of each function whose inside this adapter relies on, not by
    its number: a site may have patched it.
  * One that is not known is refused with what differs, unless it is allowed by the caller.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collective.errors import RefusedError

TABLE = Path(__file__).with_name("releases.json")
CONFIGMANAGER = "config/configmanager.py"
MANAGER = "collective/manager.py"
_SHOWN = 3

#: What changes the configuration: each is a method, and a function that a leader would run.
_CHANGES = (
    "clear_group_attributes",
    "clear_node_attributes",
    "create_user",
    "create_usergroup",
    "del_groups",
    "del_nodes",
    "del_user",
    "del_usergroup",
    "rename_nodegroups",
    "rename_nodes",
    "set_group_attributes",
    "set_node_attributes",
    "set_user",
    "set_usergroup",
)

#: What is relied on, by file: functions, and methods as ``Class.method``.
RELIED_ON: Mapping[str, tuple[str, ...]] = {
    CONFIGMANAGER: (
        *(f"_rpc_master_{name}" for name in _CHANGES),
        *(
            f"ConfigManager.{name}"
            for name in (
                "_bg_sync_to_file",
                "_cfgstore",
                "_do_inheritance",
                "_node_added_to_group",
                "_notif_attribwatchers",
                "_read_from_path",
                "_refresh_nodecfg",
                "_sync_groups_to_node",
                "_sync_nodes_to_group",
                "_sync_to_file",
                "_true_clear_group_attributes",
                "_true_clear_node_attributes",
                "_true_create_user",
                "_true_create_usergroup",
                "_true_del_groups",
                "_true_del_nodes",
                "_true_del_user",
                "_true_del_usergroup",
                "_true_rename_groups",
                "_true_rename_nodes",
                "_true_set_group_attributes",
                "_true_set_node_attributes",
                "_true_set_user",
                "_true_set_usergroup",
                *_CHANGES,
            )
        ),
        "_ExpressionFormat._expand_attribute",
        "_decode_attribute",
        "_do_add_watcher",
        "_dump_keys",
        "_mark_dirtykey",
        "_restore_keys",
        "check_quorum",
        "exec_on_leader",
        "get_collective_member",
        "get_global",
        "init",
        "init_masterkey",
        "list_collective",
        "set_global",
    ),
    MANAGER: (
        "check_managers",
        "get_myname",
        "handle_connection",
        "populate_collinfo",
        "schedule_rebalance",
        "startup",
    ),
}


@dataclass(frozen=True)
class Release:
    """One that was tried.

    Attributes:
        name: as Confluent calls it.
        functions: the hash of each function that is relied on, as ``file:name``.
    """

    name: str
    functions: Mapping[str, str]


def known_releases() -> list[Release]:
    """Return those that were tried, the newest first."""
    raw = json.loads(TABLE.read_text("utf-8"))
    return [Release(name, functions) for name, functions in raw["releases"].items()]


def hashes_of(package: Path) -> dict[str, str]:
    """Return the hash of each function that is relied on and is there.

    Args:
        package: the folder ``confluent`` of an installation.

    Raises:
        RefusedError: there is no Confluent.
    """
    found: dict[str, str] = {}
    for file, names in RELIED_ON.items():
        try:
            text = (package / file).read_text("utf-8")
        except OSError as error:
            raise RefusedError(
                f"cannot read Confluent's {package / file}: {error.strerror}",
                "name the folder that holds its package confluent",
            ) from None
        pieces = _pieces(text)
        found.update({f"{file}:{name}": pieces[name] for name in names if name in pieces})
    return found


def judge(
    found: Mapping[str, str], releases: list[Release], allow_untried: bool = False
) -> str | None:
    """Return the name of the release that is here, None for one that was not tried.

    Args:
        found: the hashes of what is here.
        releases: those that were tried.
        allow_untried: whether another one may be used all the same.

    Raises:
        RefusedError: it was not tried, and that is not allowed; or a function is not there.
    """
    for release in releases:
        if release.functions == found:
            return release.name
    lacking = sorted({f"{f}:{n}" for f, names in RELIED_ON.items() for n in names} - found.keys())
    if allow_untried and not lacking:
        return None
    nearest = min(releases, key=lambda release: len(_differing(release, found)))
    differing = _differing(nearest, found)
    shown = ", ".join(name.partition(":")[2] for name in differing[:_SHOWN])
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    tried = ", ".join(release.name for release in releases)
    raise RefusedError(
        f"this release of Confluent was not tried: {shown}{more} differ from {nearest.name} "
        f"(tried: {tried})",
        "update confluent-collective, or allow it: see UNTRIED in docs/confluent.md",
    )


def _differing(release: Release, found: Mapping[str, str]) -> list[str]:
    names = release.functions.keys() | found.keys()
    return sorted(n for n in names if release.functions.get(n) != found.get(n))


def _pieces(text: str) -> dict[str, str]:
    """Return the hash of the text of each function and method of a module."""
    lines = text.splitlines()
    found: dict[str, str] = {}

    def take(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                take(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                piece = "\n".join(
                    line.rstrip() for line in lines[node.lineno - 1 : node.end_lineno]
                )
                found[prefix + node.name] = hashlib.sha256(piece.encode()).hexdigest()[:16]

    take(ast.parse(text).body, "")
    return found
