"""Three Confluents on one collective: what is changed on one is so on all."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from time import monotonic

import pytest

import collective
from tests.confluent.conftest import Kind
from tests.confluent.script import comparable, script
from tests.harness import Cluster, Server, wait_until
from tests.harness.confluents import Confluent, ConfluentError

pytestmark = pytest.mark.integration

SECONDS = 30.0
# Of the random script.
STEPS = 60
ConfluentOf = Callable[[str, "Server | None"], Confluent]


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


def test_script_on_random_members_makes_what_it_makes_on_a_plain_confluent(
    three: list[Confluent], confluent_of: ConfluentOf
) -> None:
    """Though a Confluent is killed now and then: what was acknowledged is there, and no more."""
    plain = confluent_of("plain", None)
    plain.start()
    plain.mutate("add_group_attributes", {"rack": {"location.room": "old"}})
    plain.mutate("add_node_attributes", {"n1": {"groups": ["rack"]}})
    chance = random.Random(16)
    for number, (name, arguments) in enumerate(script(16, STEPS)):
        plain.mutate(name, *arguments)
        member = chance.choice(three)
        member.mutate(name, *arguments)
        if number % 20 == 10:
            member.kill()
            member.start()
            wait_until(partial(member.ask, "quorum"), SECONDS, "it knows of the quorum")
    assert comparable(same_everywhere(three)) == comparable(plain.dump())


def test_writers_on_all_members_lose_nothing(three: list[Confluent]) -> None:
    """Each change is made on all those before it: no index of a node is given twice."""
    asked = [
        (each, f"w{number}x{place}")
        for number in range(5)
        for place, each in enumerate(three, start=1)
    ]
    numbers = [
        (each, each.send("mutate", "add_node_attributes", {name: {"groups": ["rack"]}}), name)
        for each, name in asked
    ]
    made, refused = set(), list[str]()
    for each, number, name in numbers:
        try:
            each.answer(number)
            made.add(name)
        except ConfluentError as error:
            refused.append(error.kind)
    nodes = same_everywhere(three)["nodes"]
    assert isinstance(nodes, dict)
    assert made <= nodes.keys()
    assert set(refused) <= {"DegradedCollective"}
    indexes = [node["id.index"]["value"] for node in nodes.values()]
    assert len(set(indexes)) == len(indexes)
    assert len(made) > len(three)


def test_watchers_on_other_members_are_told(three: list[Confluent]) -> None:
    """What Confluent's consoles and discovery live on: attributes, and nodes that come and go."""
    mgt1, _, mgt3 = three
    mgt3.ask("watch", ["n1"], ["location.rack"])
    mgt1.mutate("set_node_attributes", {"n1": {"location.rack": "7"}})
    mgt1.mutate("add_node_attributes", {"n7": {"groups": []}})
    mgt1.mutate("rename_nodes", {"n7": "n8"})
    mgt1.mutate("del_nodes", ["n8"])
    wanted = ["n1 location.rack", "added n7", "renamed n7", "deleting n8"]
    wait_until(lambda: mgt3.ask("heard") == wanted, SECONDS, f"all is told: {mgt3.ask('heard')}")


def test_members_are_in_the_files_that_programs_read(
    three: list[Confluent], confluent_of: ConfluentOf
) -> None:
    """Such as osdeploy, which has nodes trust all managers."""
    mgt1 = three[0]
    wait_until(lambda: len(mgt1.ask("members")) == len(three), SECONDS, "mgt1 knows all")
    known = mgt1.ask("members")
    mgt1.ask("sync")
    mgt1.stop()
    reader = confluent_of("mgt1", None)
    reader.start()
    assert reader.ask("members") == known
    assert known.keys() == {each.name for each in three}


def test_without_a_quorum_changes_are_refused_and_reads_go_on(
    three: list[Confluent], cluster: Cluster
) -> None:
    """At once; and a Confluent that starts then has what it had, and changes nothing."""
    mgt1 = three[0]
    cluster["mgt2"].kill()
    cluster["mgt3"].kill()
    wait_until(lambda: not mgt1.ask("quorum"), SECONDS, "the quorum is lost")
    begun = monotonic()
    with pytest.raises(ConfluentError) as caught:
        mgt1.ask("mutate", "set_node_attributes", {"n1": {"location.room": "new"}})
    assert caught.value.kind == "DegradedCollective"
    assert monotonic() - begun < 2.0
    assert mgt1.ask("nodes") == 1
    mgt1.kill()
    cluster["mgt1"].kill()
    mgt1.start()
    assert mgt1.ask("nodes") == 1
    assert not mgt1.ask("quorum")
    for server in ("mgt1", "mgt2", "mgt3"):
        cluster[server].start()
    wait_until(partial(mgt1.ask, "quorum"), 2 * SECONDS, "the quorum is back")
    mgt1.mutate("set_node_attributes", {"n1": {"location.room": "new"}})
    assert same_everywhere(three)["nodes"]["n1"]["location.room"] == {"value": "new"}  # type: ignore[index]


def test_change_behind_one_in_doubt_is_refused_when_the_quorum_is_lost(
    three: list[Confluent], cluster: Cluster
) -> None:
    """One that was sent when the others fell silent is waited for; those behind it are not."""
    mgt1 = three[0]
    cluster["mgt2"].pause()
    cluster["mgt3"].pause()
    begun = monotonic()
    rooms = [{"n1": {"location.room": str(number)}} for number in range(4)]
    first, *others = [mgt1.send("mutate", "set_node_attributes", room) for room in rooms]
    for number in others:
        with pytest.raises(ConfluentError) as caught:
            mgt1.answer(number)
        assert caught.value.kind == "DegradedCollective"
    assert monotonic() - begun < 15.0
    cluster["mgt2"].resume()
    cluster["mgt3"].resume()
    mgt1.answer(first)
    assert same_everywhere(three)["nodes"]["n1"]["location.room"] == {"value": "0"}  # type: ignore[index]


def test_managers_of_a_killed_server_are_replaced(kind: Kind, three: list[Confluent]) -> None:
    """By Confluent's own failover, on one server; and who is there is shown."""
    if not kind.real:
        pytest.skip("the stand-in has no failover")
    mgt1, mgt2, mgt3 = three
    mgt1.mutate("add_node_attributes", {name: {"groups": []} for name in ("mgt1", "mgt2", "mgt3")})
    managed = {
        "collective.manager": "mgt3",
        "collective.managercandidates": "mgt1,mgt2,mgt3",
    }
    mgt1.mutate("set_node_attributes", {"n1": managed})
    wait_until(lambda: len(mgt1.ask("collinfo")["active"]) == 2, SECONDS, "all are there")
    mgt3.kill()

    def moved() -> bool:
        found = mgt2.ask("attributes", ["n1"], ["collective.manager"])
        return found["n1"]["collective.manager"]["value"] in ("mgt1", "mgt2")

    wait_until(moved, 3 * SECONDS, "another server manages the node")
    assert mgt1.ask("collinfo")["offline"] == ["mgt3"]


def test_configuration_that_is_replaced_is_not_taken_up_by_the_way(
    three: list[Confluent], cluster: Cluster
) -> None:
    """What runs stops to change, and what was here is kept; a start takes the new one."""
    mgt1, mgt2, mgt3 = three
    mgt1.kill()
    with collective.connect(cluster["mgt1"].root) as handle:
        handle.store.delete_prefix("confluent/v1/")
    wait_until(lambda: not mgt2.ask("quorum"), SECONDS, "it has stopped")
    mgt1.import_folder()
    mgt1.start()
    assert mgt2.ask("nodes") == 1
    with pytest.raises(ConfluentError):
        mgt2.ask("mutate", "del_nodes", ["n1"])
    for each in (mgt2, mgt3):
        each.kill()
        each.start()
    same_everywhere(three)
