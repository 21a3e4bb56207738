"""A random script of changes, as administrators type them, for any number of Confluents alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

Step = tuple[str, tuple[Any, ...]]

_ROOMS = ("north", "south", "attic")
_ATTRIBUTE, _OTHER, _EXPRESSION = "location.room", "location.rack", "console.method"


def script(seed: int, steps: int) -> Iterator[Step]:
    """Yield calls of mutators; each is valid after those before it."""
    chance = random.Random(seed)
    nodes, groups, users, made = ["n1"], ["rack"], list[str](), 1
    for _ in range(steps):
        kind = chance.choice(_KINDS)
        node, group = chance.choice(nodes), chance.choice(groups)
        if kind == "define":
            new = [f"m{made + offset}" for offset in range(chance.randint(1, 4))]
            made += len(new)
            nodes += new
            wanted = chance.sample(groups, chance.randint(0, len(groups)))
            yield "add_node_attributes", ({name: {"groups": list(wanted)} for name in new},)
        elif kind == "set":
            yield "set_node_attributes", ({node: {_ATTRIBUTE: chance.choice(_ROOMS)}},)
        elif kind == "express":
            yield "set_node_attributes", ({node: {_EXPRESSION: {"expression": "x{nodename}"}}},)
        elif kind == "clear":
            yield "clear_node_attributes", ([node], [_ATTRIBUTE])
        elif kind == "group":
            groups.append(f"g{made}")
            made += 1
            yield "add_group_attributes", ({groups[-1]: {_OTHER: chance.choice(_ROOMS)}},)
        elif kind == "set group":
            yield "set_group_attributes", ({group: {_ATTRIBUTE: chance.choice(_ROOMS)}},)
        elif kind == "drop group" and len(groups) > 1:
            groups.remove(group)
            yield "del_groups", ([group],)
        elif kind == "rename":
            nodes.remove(node)
            nodes.append(f"r{made}")
            made += 1
            yield "rename_nodes", ({node: nodes[-1]},)
        elif kind == "remove" and len(nodes) > 1:
            nodes.remove(node)
            yield "del_nodes", ([node],)
        elif kind == "user":
            users.append(f"u{made}")
            made += 1
            yield "create_user", (users[-1], chance.choice(("Operator", "Monitor")))
        elif kind == "drop user" and users:
            yield "del_user", (users.pop(),)


_KINDS = (
    "define",
    "define",
    "set",
    "express",
    "clear",
    "group",
    "set group",
    "drop group",
    "rename",
    "remove",
    "user",
    "drop user",
)


def comparable(dump: dict[str, Any]) -> dict[str, Any]:
    """Return a dump without what is random, and without a group of users that has nobody."""
    users = {
        n: {k: v for k, v in u.items() if k != "id"} for n, u in dump.get("users", {}).items()
    }
    areas = {name: area for name, area in dump.items() if area or name in ("nodes", "nodegroups")}
    return {**areas, "users": users}
