"""What a hostile member, or a mistake, may have stored below confluent/v1: nobody is harmed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from collective import QuorumState
from collective.errors import DegradedCollective
from confluent_collective.documents import HERE, MEMBERS, ROOT, key_of, object_bytes, to_bytes
from confluent_collective.service import ConfluentStore
from tests.unit.confluent.test_change import Entry, Event

NewConfiguration = Callable[[], Any]
CHANGE = Event(f"{ROOT}change", object_bytes(by="mgt1", renamed={}), None, 7)


def stored(key: str, value: bytes) -> Event:
    return Event(ROOT + key, value, None, 7)


def document(name: Any, entry: Any) -> bytes:
    return json.dumps({"format": 1, "name": name, "is": entry}).encode()


_FOLDS = 100_000
DEEP = b'{"format":1,"name":"n2","is":' + b"[" * _FOLDS + b"]" * _FOLDS + b"}"
BAD: dict[str, tuple[str, bytes]] = {
    "bytes that are none": ("nodes/n2", document("n2", {"$bytes": 1})),
    "no base64": ("nodes/n2", document("n2", {"$bytes": "x"})),
    "set of lists": ("nodes/n2", document("n2", {"$set": [[1]]})),
    "dict of one": ("nodes/n2", document("n2", {"$dict": [1]})),
    "deep": ("nodes/n2", DEEP),
    "node is a list": ("nodes/n2", document("n2", [])),
    "node is null": ("nodes/n2", document("n2", None)),
    "groups are a number": ("nodes/n2", document("n2", {"groups": 5})),
    "groups are dicts": ("nodes/n2", document("n2", {"groups": [{}]})),
    "attribute is a text": ("nodes/n2", document("n2", {"groups": [], "location.room": "x"})),
    "expression is a number": (
        "nodes/n2",
        document("n2", {"groups": [], "console.method": {"expression": 5}}),
    ),
    "group is a text": ("nodegroups/g", document("g", "x")),
    "group's attribute is a text": ("nodegroups/rack", document("rack", {"location.room": "x"})),
    "user is a number": ("users/ann", document("ann", 5)),
    "user's id is a list": ("users/ann", document("ann", {"id": []})),
    "name is another's": ("nodes/x", document("n1", {"groups": []})),
    "name is no text": ("nodes/n2", document("\ud800", {"groups": []})),
    "a server's own global": (
        "globals/master_privacy_key",
        to_bytes("master_privacy_key", {"unencryptedvalue": b"of the attacker"}),
    ),
    "own global by another key": (
        "globals/max_node_index",
        to_bytes("master_privacy_key", {"unencryptedvalue": b"of the attacker"}),
    ),
    "member is no object": ("members/mgt4", b"x"),
    "here has no value": ("here/mgt4", b""),
    "renamed is a number": ("change", object_bytes(by="mgt4", renamed=5)),
    "renamed to a list": ("change", object_bytes(by="mgt4", renamed={"n1": ["n3"]})),
    "change is no record": ("change", b"x"),
    "key without a name": ("nodes/", document("", {"groups": []})),
}


@pytest.mark.parametrize("is_all", [True, False], ids=["at the start", "while it runs"])
@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_configuration_is_left_out(
    new_configuration: NewConfiguration, bad: str, is_all: bool
) -> None:
    """And all else that came with it is taken up, and the next change."""
    module = new_configuration()
    store = ConfluentStore(module, None, b"key")  # type: ignore[arg-type]
    good = stored("nodes/good", to_bytes("good", {"groups": ["everything"]}))
    node = stored("nodes/n1", to_bytes("n1", {"groups": ["everything"], "id.index": {"value": 1}}))
    events = [node, good, stored(*BAD[bad])]
    events += [] if BAD[bad][0] == "change" else [CHANGE]
    key = module._masterkey
    assert list(store.take(events, is_all)) == []
    main = module._cfgstore["main"]
    assert {"good", "n1"} <= set(main["nodes"]) <= {"good", "n1", "n2"}
    assert main["nodes"]["n1"]["id.index"] == {"value": 1}
    assert module.get_global("master_privacy_key") == key
    assert store.revision == 7
    later = Event(key_of("users", "bob"), to_bytes("bob", {"id": "1"}), None, 8)
    assert list(store.take([later, CHANGE._replace(revision=8)])) == []
    assert set(main["users"]) >= {"bob"}
    assert json.loads(module.ConfigManager(None)._real_dump_to_json())


def test_who_is_gone_when_all_is_read_again_is_gone(new_configuration: NewConfiguration) -> None:
    """A watch that lagged does not tell that a key went."""
    store = ConfluentStore(new_configuration(), None, b"key")  # type: ignore[arg-type]
    about = {"name": "mgt3", "address": "127.0.0.3", "fingerprint": "x"}
    said = object_bytes(confluent=about)
    there = [Event(MEMBERS + "mgt3", said, None, 7), Event(HERE + "mgt3", b"1", None, 7), CHANGE]
    list(store.take(there, True))
    assert store.here == {"mgt3"}
    list(store.take([CHANGE], True))
    assert store.here == set()
    assert store.members == {}


def test_watcher_that_raises_keeps_no_change_out(new_configuration: NewConfiguration) -> None:
    """One of Confluent's own that fails is its own affair."""
    module = new_configuration()
    store = ConfluentStore(module, None, b"key")  # type: ignore[arg-type]
    value = to_bytes("n1", {"groups": ["everything"]})
    list(store.take([stored("nodes/n1", value), CHANGE]))

    def fail(**_: Any) -> None:
        raise RuntimeError

    module.ConfigManager(None).watch_nodecollection(fail)
    gone = Event(key_of("nodes", "n1"), None, Entry(value), 8)
    list(store.take([gone, CHANGE._replace(revision=8)]))
    assert "n1" not in module._cfgstore["main"]["nodes"]
    assert store.revision == 8


def test_change_is_not_refused_while_watchers_are_awaited(
    new_configuration: NewConfiguration,
) -> None:
    """They may take seconds, and it is computed on all of the revision before."""
    module = new_configuration()
    store = ConfluentStore(module, Holding(), b"key")  # type: ignore[arg-type]
    value = to_bytes("n1", {"groups": ["everything"]})
    list(store.take([stored("nodes/n1", value), CHANGE]))
    module.ConfigManager(None).watch_nodecollection(lambda **_: "awaited")
    gone = Event(key_of("nodes", "n1"), None, Entry(value), 8)
    taking = store.take([gone, CHANGE._replace(revision=8)])
    assert next(taking) == "awaited"
    store.refuse()
    assert (store.revision, "n1" in module._cfgstore["main"]["nodes"]) == (7, True)
    taking.close()
    with pytest.raises(DegradedCollective):
        store.refuse()


class Holding:
    """A handle with a quorum."""

    last_quorum = QuorumState(True, 0.0)
