"""Three Confluents on one collective: what is changed on one is so on all."""

from __future__ import annotations

import pytest

from tests.harness import wait_until
from tests.harness.confluents import Confluent

pytestmark = pytest.mark.integration

SECONDS = 30.0


def same_everywhere(confluents: list[Confluent]) -> dict[str, object]:
    """Wait until all dumps are the same, and return it."""

    def same() -> bool:
        dumps = [each.ask("dump") for each in confluents]
        return len(set(dumps)) == 1

    wait_until(same, SECONDS, "the dumps are the same byte for byte")
    return confluents[0].dump()


def test_change_on_one_is_so_on_all(three: list[Confluent]) -> None:
    """Nodes, groups, what is inherited and computed, secrets, users, other names, removals."""
    mgt1, mgt2, mgt3 = three
    assert len({each.ask("key") for each in three}) == 1
    mgt2.mutate("add_node_attributes", {f"n{n}": {"groups": ["rack"]} for n in range(2, 6)})
    mgt3.mutate("set_group_attributes", {"rack": {"location.room": "new"}})
    mgt1.mutate("set_node_attributes", {"n2": {"secret.hardwaremanagementpassword": "hush"}})
    mgt2.mutate("set_node_attributes", {"n3": {"console.method": {"expression": "x{nodename}"}}})
    mgt3.mutate("create_user", "ann", "Operator")
    mgt3.mutate("set_user", "ann", {"password": "hush"})
    mgt1.mutate("create_usergroup", "ops", "Monitor")
    mgt1.mutate("rename_nodes", {"n5": "N9"})
    mgt2.mutate("del_nodes", ["n4"])
    dump = same_everywhere(three)
    nodes = dump["nodes"]
    assert isinstance(nodes, dict)
    assert sorted(nodes) == ["N9", "n1", "n2", "n3"]
    assert nodes["n3"]["console.method"]["value"] == "xn3"
    for each in three:
        assert each.ask("attributes", ["N9"], ["location.room"]) == {
            "N9": {"location.room": {"value": "new", "inheritedfrom": "rack"}}
        }
        secret = each.ask("attributes", ["n2"], ["secret.hardwaremanagementpassword"])
        assert secret["n2"]["secret.hardwaremanagementpassword"]["value"] == "hush"
