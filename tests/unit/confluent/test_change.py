"""A change and what becomes of it elsewhere: computed on a copy, projected from what is stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confluent_collective.change import Scratch
from confluent_collective.documents import CHANGE_KEY, key_of, object_bytes
from confluent_collective.service import ConfluentStore
from tests.confluent.script import script

NewConfiguration = Callable[[], Any]


class Entry(NamedTuple):
    """What an event has of a key."""

    value: bytes


class Event(NamedTuple):
    """What a watch tells."""

    key: str
    value: bytes | None
    previous: Entry | None
    revision: int


class Store:
    """What is stored, and members that take it up."""

    def __init__(self, writer: Any, readers: list[Any]) -> None:
        self.keys: dict[str, bytes] = {}
        self.revision = 0
        self._scratch = Scratch(writer)
        self.members = [ConfluentStore(module, None, b"key") for module in (writer, *readers)]  # type: ignore[arg-type]

    def make(self, name: str, *arguments: Any) -> int:
        """Make a change as ``service`` does; return how many keys it has written."""
        function = f"_rpc_master_{_AS.get(name, name)}"
        given = (None, *arguments, *((True,) if name.startswith("add_") else ()))
        given += (False,) if name.startswith("set_") and name.endswith("_attributes") else ()
        change = self._scratch.run(function, given, self.keys.get)
        self.revision += 1
        record = object_bytes(by="mgt1", renamed=dict(change.renamed))
        values: dict[str, bytes | None] = {**change.puts, **dict.fromkeys(change.deletes)}
        values[CHANGE_KEY] = record
        events = []
        for key, value in values.items():
            before = self.keys.pop(key, None)
            events.append(
                Event(key, value, None if before is None else Entry(before), self.revision)
            )
            if value is not None:
                self.keys[key] = value
        for member in self.members:
            assert list(member.take(events)) == []
        return len(values) - 1

    def take_all(self, module: Any) -> None:
        """Have a member take up all that is stored, as it does at its start."""
        events = [Event(key, value, None, self.revision) for key, value in self.keys.items()]
        list(ConfluentStore(module, None, b"key").take(events, True))  # type: ignore[arg-type]


_AS = {
    "add_node_attributes": "set_node_attributes",
    "add_group_attributes": "set_group_attributes",
}


def dump(module: Any) -> Any:
    return json.loads(module.ConfigManager(None)._real_dump_to_json())


@pytest.fixture
def store(new_configuration: NewConfiguration) -> Store:
    writer, reader = new_configuration(), new_configuration()
    reader._masterkey = writer._masterkey
    made = Store(writer, [reader])
    made.make("add_group_attributes", {"rack": {"location.room": "old"}})
    made.make("add_node_attributes", {"n1": {"groups": ["rack"]}})
    return made


@pytest.fixture
def writer(store: Store) -> Any:
    return store.members[0]._module


def test_change_is_computed_on_a_copy(store: Store, writer: Any) -> None:
    """Nobody sees it before it is committed, and nobody ever does if it is not."""
    before = copy.deepcopy(writer._cfgstore)
    given: dict[str, Any] = {"n2": {"groups": ["rack"]}}
    change = Scratch(writer).run(
        "_rpc_master_set_node_attributes", (None, given, True), store.keys.get
    )
    assert set(change.puts) == {key_of("nodes", "n2"), key_of("globals", "max_node_index")}
    assert writer._cfgstore == before
    assert given == {"n2": {"groups": ["rack"]}}


def test_refused_change_is_confluents_own_error(store: Store, writer: Any) -> None:
    """And leaves nothing behind."""
    before = copy.deepcopy(writer._cfgstore)
    with pytest.raises(ValueError, match="node n9 does not exist"):
        store.make("set_node_attributes", {"n9": {"location.room": "x"}})
    with pytest.raises(ValueError, match="N1 cannot be among the nodes: n1 is, and"):
        store.make("add_node_attributes", {"N1": {}})
    assert writer._cfgstore == before


def test_attribute_of_a_group_is_one_key_however_many_inherit_it(store: Store) -> None:
    """What follows from it is computed everywhere."""
    store.make("add_node_attributes", {f"m{n}": {"groups": ["rack"]} for n in range(50)})
    assert store.make("set_group_attributes", {"rack": {"location.room": "new"}}) == 1
    for member in store.members:
        node = member._module._cfgstore["main"]["nodes"]["m7"]
        assert node["location.room"] == {"value": "new", "inheritedfrom": "rack"}


def test_what_is_stored_already_is_not_written_again(store: Store) -> None:
    """Nothing is to be written then."""
    assert store.make("set_group_attributes", {"rack": {"location.room": "old"}}) == 0


def test_node_may_be_spelled_anew(store: Store) -> None:
    """It has the same key; it is the old one no more."""
    store.make("rename_nodes", {"n1": "N1"})
    assert [list(m._module._cfgstore["main"]["nodes"]) for m in store.members] == [["N1"]] * 2


def test_what_is_random_is_the_same_everywhere(store: Store) -> None:
    """Salts, ids and ciphertexts are those of who has committed them."""
    store.make("create_user", "ann", "Operator")
    store.make("set_user", "ann", {"password": "hush"})
    store.make("set_node_attributes", {"n1": {"secret.key": "hush"}})
    first, second = (dump(member._module) for member in store.members)
    assert first == second
    assert "hush" not in json.dumps(first)
    for member in store.members:
        index = member._module._cfgstore["main"]["idmap"]
        assert [about["username"] for about in index.values()] == ["ann"]


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10_000))
def test_every_member_has_what_a_plain_confluent_would(
    new_configuration: NewConfiguration, seed: int
) -> None:
    """After each step of any script: the writer, a reader, and one that starts at the end."""
    writer, reader, late, plain = (new_configuration() for _ in range(4))
    for each in (reader, late, plain):
        each._masterkey = writer._masterkey
    store = Store(writer, [reader])
    begin = [
        ("add_group_attributes", ({"rack": {"location.room": "old"}},)),
        ("add_node_attributes", ({"n1": {"groups": ["rack"]}},)),
    ]
    for name, arguments in [*begin, *script(seed, 25)]:
        coroutine = getattr(plain.ConfigManager(None), name)(*copy.deepcopy(arguments))
        with pytest.raises(StopIteration):
            coroutine.send(None)
        store.make(name, *copy.deepcopy(arguments))
        assert _known(dump(writer)) == _known(dump(plain))
        assert dump(reader) == dump(writer)
    store.take_all(late)
    assert dump(late) == dump(writer)


def _known(dumped: Any) -> Any:
    for user in dumped["users"].values():
        del user["id"]
    return dumped
