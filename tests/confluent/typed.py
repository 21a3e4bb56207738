"""A random script of Confluent's own commands, as administrators type them, and its dumps."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from time import monotonic
from typing import Any

from tests.harness.server import CommandError
from tests.harness.whole_confluents import WholeConfluent

Words = tuple[str, ...]

#: What Confluent says where a change was refused, and so was not made.
REFUSED = "Collective does not have quorum"
#: And where nobody knows.
IN_DOUBT = "may have been made or not"
#: What the members have in common; the other files of a dump are each server's own.
SHARED = ("main.json", "keys.json")
DUMP = "/var/lib/confluent/dump"
_ROOMS = ("north", "south", "attic")
_SECRET = "secret.hardwaremanagementpassword"
_AGAIN_SECONDS = 60.0


def typed(seed: int, steps: int) -> Iterator[Words]:
    """Yield commands; each is valid after those before it, and ``BEGUN``."""
    names = _Names(seed)
    made = 0
    while made < steps:
        words = _STEPS[names.chance.choice(list(_STEPS))](names)
        if words is not None:
            made += 1
            yield words


#: What there must be before the script.
BEGUN: tuple[Words, ...] = (
    ("nodegroupdefine", "rack", "location.room=old"),
    ("nodedefine", "n1", "groups=rack"),
)


class _Names:
    """What there is after the commands so far."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.nodes, self.groups = ["n1"], ["rack"]
        self.users: list[str] = []
        self._made = 1

    def new(self, letter: str) -> str:
        self._made += 1
        # In either case: names keep the one that they were given.
        return f"{self.chance.choice((letter, letter.upper()))}{self._made}"

    @property
    def node(self) -> str:
        return self.chance.choice(self.nodes)

    @property
    def group(self) -> str:
        return self.chance.choice(self.groups)

    @property
    def room(self) -> str:
        return self.chance.choice(_ROOMS)


def _define(names: _Names) -> Words:
    """Define one node in groups, or several in none.

    Confluent gives nodes that it defines at once one and the same list of groups: what takes one
    of them out of a group then leaves the others half in it. That is no fault of ours.
    """
    groups = names.chance.sample(names.groups, names.chance.randint(0, len(names.groups)))
    count = 1 if groups else names.chance.randint(1, 4)
    new = [names.new("m") for _ in range(count)]
    names.nodes += new
    given = [f"groups={','.join(groups)}"] if groups else []
    return "nodedefine", ",".join(new), *given


def _rename(names: _Names) -> Words:
    old, new = names.node, names.new("r")
    names.nodes[names.nodes.index(old)] = new
    return "noderename", old, new


def _remove(names: _Names) -> Words | None:
    if len(names.nodes) == 1:
        return None
    node = names.node
    names.nodes.remove(node)
    return "noderemove", node


def _define_group(names: _Names) -> Words:
    names.groups.append(names.new("g"))
    return "nodegroupdefine", names.groups[-1], f"location.rack={names.room}"


def _rename_group(names: _Names) -> Words:
    old, new = names.group, names.new("g")
    names.groups[names.groups.index(old)] = new
    return "nodegrouprename", old, new


def _remove_group(names: _Names) -> Words | None:
    if len(names.groups) == 1:
        return None
    group = names.group
    names.groups.remove(group)
    return "nodegroupremove", group


def _fill_group(names: _Names) -> Words:
    some = names.chance.sample(names.nodes, names.chance.randint(1, len(names.nodes)))
    return "nodegroupattrib", names.group, f"nodes={','.join(some)}"


def _create_user(names: _Names) -> Words:
    names.users.append(names.new("u"))
    role = names.chance.choice(("Operator", "Monitor"))
    return "confetty", "create", f"/users/{names.users[-1]}", f"role={role}"


def _set_user(names: _Names) -> Words | None:
    if not names.users:
        return None
    return "confetty", "set", f"/users/{names.chance.choice(names.users)}", "password=hush!Hush4"


def _delete_user(names: _Names) -> Words | None:
    if not names.users:
        return None
    user = names.chance.choice(names.users)
    names.users.remove(user)
    return "confetty", "remove", f"/users/{user}"


_STEPS = {
    "define": _define,
    "define more": _define,
    "set": lambda names: ("nodeattrib", names.node, f"location.room={names.room}"),
    "set all": lambda names: ("nodeattrib", ",".join(names.nodes), f"location.u={names.room}"),
    "express": lambda names: ("nodeattrib", names.node, "hardwaremanagement.manager={nodename}-b"),
    "hide": lambda names: ("nodeattrib", names.node, f"{_SECRET}=hush"),
    "clear": lambda names: ("nodeattrib", "-c", names.node, "location.room"),
    "group": _define_group,
    "set group": lambda names: ("nodegroupattrib", names.group, f"location.room={names.room}"),
    "express group": lambda names: (
        *("nodegroupattrib", names.group),
        "enclosure.manager=e-{location.room}-{n1}",
    ),
    "fill group": _fill_group,
    "rename group": _rename_group,
    "remove group": _remove_group,
    "rename": _rename,
    "remove": _remove,
    "create user": _create_user,
    "set user": _set_user,
    "delete user": _delete_user,
}


def type_until_made(confluent: WholeConfluent, words: Words) -> int:
    """Type a command, again where it was refused; return how often it was.

    Raises:
        CommandError: it failed otherwise, or was refused for a minute.
    """
    deadline, refused = monotonic() + _AGAIN_SECONDS, 0
    while True:
        result = confluent.run(*words)
        is_refused = REFUSED in result.err + result.out
        if result.code == 0 and not is_refused:
            return refused
        if not is_refused or monotonic() > deadline:
            raise CommandError(confluent.name, result)
        refused += 1


def dump(confluent: WholeConfluent) -> dict[str, str]:
    """Return what ``confluentdbutil dump`` writes of its files; it is left in ``DUMP``."""
    confluent.run("confluentdbutil", "dump", "-u", DUMP, check=True)
    folder = confluent.folder / DUMP.lstrip("/")
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def comparable(text: str) -> dict[str, Any]:
    """Return a dump without what is random: ids of users, ciphertexts, hashes.

    And without the index of expressions, in which Confluent leaves what is gone.
    """
    found: dict[str, Any] = json.loads(text, object_hook=_without_secrets)
    for node in found["nodes"].values():
        node.pop("_expressionkeys", None)
    for user in found.get("users", {}).values():
        user.pop("id", None)
    return found


def _without_secrets(found: dict[str, Any]) -> dict[str, Any]:
    for key in ("cryptvalue", "hashvalue", "cryptpass"):
        if key in found:
            found[key] = "random"
    return found
