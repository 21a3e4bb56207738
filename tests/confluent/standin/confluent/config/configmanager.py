"""In the place of Confluent's configuration: the seam that the adapter holds, little more.

It was written for these tests, from what the names do. It has nodes in groups, attributes that
are inherited, expressions, secrets, users, watchers and files, each in the simplest way.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import re
import secrets
import threading
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, ClassVar

from confluent import exceptions as exc
from confluent import tasks

_AREAS = ("nodegroups", "nodes", "usergroups", "users")
_BESIDE = ("globals", "collective")
_dirtylock = threading.RLock()
_cfgstore: Any = None
_masterkey: bytes | None = None
_masterintegritykey: bytes | None = None
_hasquorum = True
_ready = False
statelessmode = False
cfgleader: Any = None
cfgstreams: dict[str, Any] = {}
ERRORS: list[str] = []


def logException() -> None:
    """Note an error."""
    ERRORS.append("error")


def init(stateless: bool = False) -> None:
    """Read the files."""
    global _cfgstore
    _cfgstore = {"main": {}}
    folder = Path(ConfigManager._cfgdir)
    for area in (*_AREAS, *_BESIDE, "idmap"):
        file = folder / area
        if not stateless and file.exists():
            entries = pickle.loads(file.read_bytes())
            (_cfgstore if area in _BESIDE else _cfgstore["main"])[area] = entries


def init_masterkey(password: str | None = None, autogen: bool = True) -> None:
    """Get the master key, or make one."""
    global _masterkey
    known = get_global("master_privacy_key")
    if known:
        _masterkey = known
    elif autogen:
        _masterkey = secrets.token_bytes(32)
        set_global("master_privacy_key", _masterkey)


def _parse_key(text: str, password: str | None = None) -> bytes:
    if text.startswith("*unencrypted:"):
        return b64decode(text.partition(":")[2])
    if not password:
        raise exc.LockedCredentials
    check, key = map(b64decode, text.split("!"))
    key = _protected(password, key)
    if hashlib.sha256(key).digest() != check:
        raise ValueError("bad HMAC value on crypted value")
    return key


def _protected(password: str, key: bytes) -> bytes:
    stream = hashlib.sha256(password.encode()).digest()
    return bytes(one ^ other for one, other in zip(key, stream))


def _dump_keys(password: str | None, dojson: bool = True) -> Any:
    key = _masterkey or b""
    keys = {"cryptkey": f"*unencrypted:{b64encode(key).decode()}"}
    if password:
        pieces = (hashlib.sha256(key).digest(), _protected(password, key))
        keys = {"cryptkey": "!".join(b64encode(piece).decode() for piece in pieces)}
    return json.dumps(keys) if dojson else keys


async def dump_db_to_directory(location: str, password: str | None) -> None:
    """Write what can be restored."""
    Path(location, "keys.json").write_text(_dump_keys(password))
    dumped = b64encode(pickle.dumps(_cfgstore)).decode()
    Path(location, "main.json").write_text(json.dumps(dumped))


async def restore_db_from_directory(
    location: str, password: str | None, merge: Any = False, skipped: Any = None, fmt: str = "json"
) -> None:
    """Read what was dumped."""
    global _cfgstore
    keys = json.loads(Path(location, "keys.json").read_text())
    _parse_key(keys["cryptkey"], password)
    _cfgstore = pickle.loads(b64decode(json.loads(Path(location, "main.json").read_text())))
    _restore_keys(keys, password)


def _restore_keys(
    keys: Any, password: str | None, newpassword: str | None = None, sync: bool = True
) -> None:
    global _masterkey
    _masterkey = _parse_key(keys["cryptkey"], password)
    set_global("master_privacy_key", _masterkey, sync)


def get_global(name: str) -> Any:
    """Return a global."""
    return _cfgstore.get("globals", {}).get(name)


def set_global(name: str, value: Any, sync: bool = True) -> None:
    """Set a global."""
    _cfgstore.setdefault("globals", {})[name] = value
    _cfgstore.setdefault("dirtyglobals", set()).add(name)
    if sync:
        ConfigManager._bg_sync_to_file()


def _mark_dirtykey(area: str, name: str, tenant: str | None = None) -> None:
    _cfgstore.setdefault("dirtykeys", {}).setdefault(tenant, {}).setdefault(area, set()).add(name)


def check_quorum() -> None:
    """Raise without a quorum."""
    if cfgleader and not _hasquorum:
        raise exc.DegradedCollective


async def exec_on_leader(function: str, *arguments: Any) -> Any:
    """Have the leader do something."""
    raise AssertionError("there is no leader")


def list_collective() -> list[str]:
    """Return the members."""
    return list(_cfgstore.get("collective", ()))


async def _do_add_watcher(watcher: Any, added: Any, manager: Any, renamed: Any = ()) -> None:
    watcher(added=added, deleting=(), renamed=renamed, configmanager=manager)


class _ExpressionFormat:
    def __init__(self, node: dict[str, Any], name: str) -> None:
        self._node, self._name = node, name

    def format(self, expression: str) -> str:
        """Return the value of an expression."""
        return re.sub(r"{([a-z.]+)}", self._value, expression)

    def _value(self, found: re.Match[str]) -> str:
        if found[1] == "nodename":
            return self._name
        self._node.setdefault("_expressionkeys", set()).add(found[1])
        return str(self._node.get(found[1], {}).get("value", ""))


def _decode_attribute(name: str, node: Any, formatter: Any = None, decrypt: bool = False) -> Any:
    value = copy.deepcopy(node[name])
    if "expression" in value and formatter is not None:
        value["value"] = formatter.format(value["expression"])
    if "cryptvalue" in value and decrypt:
        value["value"] = _crypted(value["cryptvalue"][0], value["cryptvalue"][1])
    return value


def _crypted(salt: bytes, value: bytes) -> bytes:
    stream = hashlib.sha512((_masterkey or b"") + salt).digest()
    return bytes(a ^ b for a, b in zip(value, stream))


class ConfigManager:
    """The configuration, as the rest of Confluent sees it."""

    _cfgdir = "/nowhere"
    _attribwatchers: ClassVar[dict[Any, list[Any]]] = {}
    _nodecollwatchers: ClassVar[dict[Any, dict[int, Any]]] = {}

    def __init__(self, tenant: str | None, decrypt: bool = False) -> None:
        self.tenant, self.decrypt = tenant, decrypt
        groups = self._cfgstore.setdefault("nodegroups", {})
        groups.setdefault("everything", {"nodes": set()})
        self._cfgstore.setdefault("nodes", {})

    @property
    def _cfgstore(self) -> Any:
        return _cfgstore["main"]

    @classmethod
    def _bg_sync_to_file(cls, fullsync: bool = False) -> None:
        if not statelessmode:
            cls._sync_to_file(fullsync)

    @classmethod
    def _sync_to_file(cls, fullsync: bool = False) -> None:
        for area in (*_AREAS, "globals", "idmap"):
            source = _cfgstore if area == "globals" else _cfgstore["main"]
            if area in source:
                part = Path(cls._cfgdir) / f"{area}.part"
                part.write_bytes(pickle.dumps(source[area]))
                os.replace(part, Path(cls._cfgdir) / area)
        with _dirtylock:
            if _cfgstore.pop("collectivedirty", None):
                part = Path(cls._cfgdir) / "collective.part"
                part.write_bytes(pickle.dumps(_cfgstore.get("collective", {})))
                os.replace(part, Path(cls._cfgdir) / "collective")
        _cfgstore.pop("dirtykeys", None)
        _cfgstore.pop("dirtyglobals", None)

    wait_for_sync = _bg_sync_to_file

    def list_nodes(self) -> list[str]:
        """Return the nodes."""
        return list(self._cfgstore["nodes"])

    def get_node_attributes(self, nodes: Any, attributes: Any = ()) -> Any:
        """Return attributes of nodes."""
        return {
            node: {
                name: _decode_attribute(name, self._cfgstore["nodes"][node], None, self.decrypt)
                for name in attributes
                if name in self._cfgstore["nodes"][node]
            }
            for node in nodes
            if node in self._cfgstore["nodes"]
        }

    def watch_attributes(self, nodes: Any, names: Any, callback: Any) -> None:
        """Have something called with changes of attributes."""
        self._attribwatchers.setdefault(None, []).append((set(nodes), set(names), callback))

    def watch_nodecollection(self, callback: Any) -> None:
        """Have something called with changes of nodes."""
        watchers = self._nodecollwatchers.setdefault(None, {})
        watchers[len(watchers)] = callback

    def _notif_attribwatchers(self, changes: Any) -> None:
        for nodes, names, callback in self._attribwatchers.get(None, ()):
            found = {n: [a for a in changes[n] if a in names] for n in changes if n in nodes}
            found = {node: attributes for node, attributes in found.items() if attributes}
            if found:
                callback(nodeattribs=found, configmanager=self)

    def _real_dump_to_json(self) -> str:
        dumped: dict[str, Any] = {}
        for area in _AREAS:
            dumped[area] = {
                name: {
                    key: _plain(value)
                    for key, value in entry.items()
                    if not (isinstance(value, dict) and "inheritedfrom" in value)
                }
                for name, entry in self._cfgstore.get(area, {}).items()
            }
        return json.dumps(dumped, sort_keys=True, indent=1)

    def _node_added_to_group(self, node: str, group: str, changes: Any) -> None:
        entry = self._cfgstore["nodes"][node]
        for name in self._cfgstore["nodegroups"].get(group, {}):
            if name == "nodes" or (name in entry and "inheritedfrom" not in entry[name]):
                continue
            for each in entry.get("groups", ()):
                if name in self._cfgstore["nodegroups"][each]:
                    value = copy.deepcopy(self._cfgstore["nodegroups"][each][name])
                    entry[name] = {**value, "inheritedfrom": each}
                    break
        _mark_dirtykey("nodes", node)

    def _derive(self, node: str) -> None:
        entry = self._cfgstore["nodes"][node]
        for name in [n for n, v in entry.items() if isinstance(v, dict) and "inheritedfrom" in v]:
            del entry[name]
        for group in entry.get("groups", ()):
            self._node_added_to_group(node, group, {})
        for name in list(entry):
            if isinstance(entry[name], dict) and "expression" in entry[name]:
                formatter = _ExpressionFormat(entry, node)
                entry[name] = _decode_attribute(name, entry, formatter)
        _mark_dirtykey("nodes", node)

    def _regroup(self, node: str, groups: list[str]) -> None:
        known = self._cfgstore["nodegroups"]
        for name in groups:
            if name not in known:
                raise ValueError(f"group {name} does not exist")
        for name, group in known.items():
            if (node in group["nodes"]) != (name in groups):
                (group["nodes"].add if name in groups else group["nodes"].discard)(node)
                _mark_dirtykey("nodegroups", name)

    # What changes it -----------------------------------------------------------------------------

    async def add_node_attributes(self, attributes: Any) -> None:
        """Make nodes, and set their attributes."""
        await self.set_node_attributes(attributes, True)

    async def set_node_attributes(self, attributes: Any, autocreate: bool = False) -> None:
        """Set attributes of nodes."""
        if cfgleader:
            await exec_on_leader("_rpc_master_set_node_attributes", None, attributes, autocreate)
            return
        nodes, added = self._cfgstore["nodes"], []
        for node in attributes:
            if node not in nodes and not autocreate:
                raise ValueError(f"node {node} does not exist")
        for node, wanted in attributes.items():
            if node not in nodes:
                index = get_global("max_node_index") or 1
                set_global("max_node_index", index + 1)
                nodes[node] = {"id.index": {"value": index}, "groups": []}
                added.append(node)
            for name, value in wanted.items():
                nodes[node][name] = value if name == "groups" else _entry(name, value)
            if "everything" not in nodes[node]["groups"]:
                nodes[node]["groups"].append("everything")
            self._regroup(node, nodes[node]["groups"])
            self._derive(node)
        self._notif_attribwatchers(
            {n: dict.fromkeys(wanted, 1) for n, wanted in attributes.items()}
        )
        for watcher in self._nodecollwatchers.get(None, {}).values():
            tasks.spawn(_do_add_watcher(watcher, added, self))
        self._bg_sync_to_file()

    async def clear_node_attributes(self, nodes: Any, names: Any, warnings: Any = None) -> None:
        """Clear attributes of nodes."""
        if cfgleader:
            more = await exec_on_leader("_rpc_master_clear_node_attributes", None, nodes, names)
            if warnings is not None:
                warnings.extend(more)
            return
        for node in nodes:
            for name in names:
                if self._cfgstore["nodes"][node].pop(name, None) is None and warnings is not None:
                    warnings.append(f"{name} is not set")
            self._derive(node)
        self._bg_sync_to_file()

    async def del_nodes(self, nodes: Any) -> None:
        """Remove nodes."""
        if cfgleader:
            await exec_on_leader("_rpc_master_del_nodes", None, nodes)
            return
        for node in nodes:
            if node in self._cfgstore["nodes"]:
                self._regroup(node, [])
                del self._cfgstore["nodes"][node]
                _mark_dirtykey("nodes", node)
        self._bg_sync_to_file()

    async def rename_nodes(self, names: Any) -> None:
        """Give nodes other names."""
        if cfgleader:
            await exec_on_leader("_rpc_master_rename_nodes", None, names)
            return
        nodes = self._cfgstore["nodes"]
        for old, new in names.items():
            if old not in nodes:
                raise ValueError(f"{old} does not exist")
            nodes[new] = nodes.pop(old)
            self._regroup(old, [])
            self._regroup(new, nodes[new]["groups"])
            self._derive(new)
            _mark_dirtykey("nodes", old)
        self._bg_sync_to_file()

    async def add_group_attributes(self, attributes: Any) -> None:
        """Make groups, and set their attributes."""
        await self.set_group_attributes(attributes, True)

    async def set_group_attributes(self, attributes: Any, autocreate: bool = False) -> None:
        """Set attributes of groups."""
        if cfgleader:
            await exec_on_leader("_rpc_master_set_group_attributes", None, attributes, autocreate)
            return
        groups = self._cfgstore["nodegroups"]
        for group, wanted in attributes.items():
            if group not in groups and not autocreate:
                raise ValueError(f"{group} group does not exist")
            entry = groups.setdefault(group, {"nodes": set()})
            entry.update({name: _entry(name, value) for name, value in wanted.items()})
            _mark_dirtykey("nodegroups", group)
            for node in entry["nodes"]:
                self._derive(node)
        self._bg_sync_to_file()

    async def del_groups(self, names: Any) -> None:
        """Remove groups."""
        if cfgleader:
            await exec_on_leader("_rpc_master_del_groups", None, names)
            return
        for group in names:
            entry = self._cfgstore["nodegroups"].pop(group)
            _mark_dirtykey("nodegroups", group)
            for node in entry["nodes"]:
                self._cfgstore["nodes"][node]["groups"].remove(group)
                self._derive(node)
        self._bg_sync_to_file()

    async def create_user(self, name: str, role: str = "Administrator") -> None:
        """Make a user."""
        if cfgleader:
            await exec_on_leader("_rpc_master_create_user", None, name, role)
            return
        users = self._cfgstore.setdefault("users", {})
        if name in users:
            raise Exception("Duplicate username requested")
        users[name] = {"id": str(secrets.randbelow(1 << 31)), "role": role}
        _mark_dirtykey("users", name)
        self._bg_sync_to_file()

    async def set_user(self, name: str, attributes: Any) -> None:
        """Set attributes of a user."""
        if cfgleader:
            await exec_on_leader("_rpc_master_set_user", None, name, attributes)
            return
        user = self._cfgstore["users"][name]
        for key, value in attributes.items():
            if key == "password":
                salt = secrets.token_bytes(8)
                user["cryptpass"] = (salt, hashlib.sha256(salt + value.encode()).digest())
            else:
                user[key] = value
        _mark_dirtykey("users", name)
        self._bg_sync_to_file()

    async def del_user(self, name: str) -> None:
        """Remove a user."""
        if cfgleader:
            await exec_on_leader("_rpc_master_del_user", None, name)
            return
        self._cfgstore.get("users", {}).pop(name, None)
        _mark_dirtykey("users", name)
        self._bg_sync_to_file()

    async def create_usergroup(self, name: str, role: str = "Administrator") -> None:
        """Make a group of users."""
        if cfgleader:
            await exec_on_leader("_rpc_master_create_usergroup", None, name, role)
            return
        self._cfgstore.setdefault("usergroups", {})[name] = {"role": role}
        _mark_dirtykey("usergroups", name)
        self._bg_sync_to_file()


def _entry(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    if name.startswith("secret."):
        salt = secrets.token_bytes(8)
        return {"cryptvalue": (salt, _crypted(salt, value.encode()))}
    return {"value": value}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, (set, tuple)):
        return [_plain(each) for each in (sorted(value) if isinstance(value, set) else value)]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _master(name: str) -> Any:
    async def run(tenant: str | None, *arguments: Any) -> Any:
        manager: Any = ConfigManager(tenant)
        if name == "clear_node_attributes":
            warnings: list[str] = []
            await manager.clear_node_attributes(*arguments, warnings)
            return warnings
        return await getattr(manager, name)(*arguments)

    return run


_MUTATORS = (
    "set_node_attributes",
    "clear_node_attributes",
    "del_nodes",
    "rename_nodes",
    "set_group_attributes",
    "del_groups",
    "create_user",
    "set_user",
    "del_user",
    "create_usergroup",
)
for _name in _MUTATORS:
    globals()[f"_rpc_master_{_name}"] = _master(_name)
