"""Two servers that import their configurations at the same time: one is taken, and all of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import collective
from collective.errors import CollectiveError
from confluent_collective import importing, master_key
from confluent_collective.documents import MASTER_KEY, ROOT, read_object
from tests.harness import Cluster

pytestmark = pytest.mark.integration


class Interrupted(dict[str, Any]):
    """Nodes; something happens when they are read for the so many-th time."""

    def __init__(self, nodes: dict[str, Any], when: int, happens: Any) -> None:
        super().__init__(nodes)
        self._left, self._happens = when, happens

    def items(self) -> Any:
        """Return what is here."""
        self._left -= 1
        if self._left == 0:
            self._happens()
        return super().items()


def configuration(name: str, nodes: dict[str, Any]) -> Any:
    store = {"main": {"nodes": nodes}, "globals": {"confluent_uuid": name}}
    return SimpleNamespace(
        _cfgstore=store, _masterkey=name.encode() * 32, _masterintegritykey=None
    )


def node(name: str) -> dict[str, Any]:
    return {f"{name}{number}": {"groups": ["everything"]} for number in range(3)}


@pytest.mark.parametrize("when", [1, 2, 3, 4])
def test_one_import_of_two_is_taken_whole(
    cluster: Cluster, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the other has done by then."""
    monkeypatch.setattr(importing, "_LOCK_SECONDS", 1.0)
    (server,) = cluster.add_running(1)
    made: dict[str, bool] = {}
    with collective.connect(server.root) as first, collective.connect(server.root) as second:

        def run(handle: collective.Collective, cfm: Any, name: str) -> None:
            try:
                importing.import_configuration(handle, cfm)
                made[name] = True
            except CollectiveError:
                made[name] = False

        other = configuration("b", node("b"))
        nodes = Interrupted(node("a"), when, lambda: run(second, other, "b"))
        one = configuration("a", nodes)
        run(first, one, "a")
        assert sum(made.values()) == 1, made
        winner = "a" if made["a"] else "b"
        keys = [entry.key for entry in first.store.export(ROOT + "nodes/", linearizable=True)]
        assert keys == [f"{ROOT}nodes/{winner}{number}" for number in range(3)]
        record = read_object(MASTER_KEY, first.store.get(MASTER_KEY) or b"")
        assert record["mark"] == master_key.mark_of(one if winner == "a" else other)
