"""Servers that get other addresses, on real networks: one alone, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations

import pytest

from collective.etcd.binary import identify
from collective.failpoints import Step
from tests.harness import Cluster, Server, wait_until
from tests.harness.failpoints import FailPoints
from tests.harness.network import Network
from tests.harness.spread import name_hosts, spread
from tools.etcd_versions import Etcd

pytestmark = [pytest.mark.faults, pytest.mark.root]

MakeNetwork = Callable[..., Network]
SETTLE_SECONDS = 60.0
#: Five servers; or a power cut, after which a turn is free when its lease has ended.
LONG_SECONDS = 180.0


def addresses(server: Server) -> dict[str, str]:
    """Return the address of each member as one server shows it."""
    document = server.ask_show()
    return {m["name"]: m["address"] for m in document["members"]} if document else {}


def three(make_network: MakeNetwork) -> Network:
    """Make a network of three."""
    return make_network(**{f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3)})


def move(network: Network, name: str, old: str, new: str) -> None:
    """Take an address from a host and give it another one."""
    network.drop(name, old)
    network.add(name, new)


@pytest.mark.peers(12)
def test_server_with_another_address_comes_back_by_itself(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """No setting names an address: the daemon finds the one that took its place."""
    network = three(make_network)
    spread(cluster, network)
    mgt1, mgt2, mgt3 = cluster.join_all()
    mgt3.stop()
    move(network, "mgt3", "10.77.0.3/24", "10.77.0.33/24")
    mgt3.start()
    wait_until(
        lambda: addresses(mgt1).get("mgt3") == "10.77.0.33", SETTLE_SECONDS, "mgt1 knows it"
    )
    for server in (mgt1, mgt2, mgt3):
        cluster.wait_until_all_active(server, [mgt1, mgt2, mgt3], SETTLE_SECONDS)
    assert "10.77.0.3/24" not in mgt1.etcdctl("member", "list").out


def test_address_that_goes_away_at_run_time_is_said_and_changed_on_command(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """A link may be down for a moment only, so a server that runs asks a person first."""
    network = three(make_network)
    spread(cluster, network)
    mgt1, _, mgt3 = cluster.join_all()
    move(network, "mgt3", "10.77.0.3/24", "10.77.0.33/24")
    wait_until(
        lambda: "is gone" in str((mgt3.ask_show() or {}).get("errors")),
        SETTLE_SECONDS,
        "mgt3 says that its address is gone",
    )
    mgt3.run("readdress", check=True)
    assert addresses(mgt1)["mgt3"] == "10.77.0.33"
    cluster.wait_until_all_active(mgt1, list(cluster.servers.values()), SETTLE_SECONDS)


@pytest.mark.peers(12)
@pytest.mark.parametrize("known_by", ["name", "hint"])
def test_collective_comes_back_after_all_moved_while_off(
    cluster: Cluster, make_network: MakeNetwork, known_by: str
) -> None:
    """Nobody is where etcd dials, so there is no quorum to change that with, and yet."""
    network = three(make_network)
    spread(cluster, network)
    servers = cluster.join_all()
    assert servers[0].etcdctl("put", "kept", "safe").code == 0
    for server in servers:
        server.stop()
    for n in (1, 2, 3):
        network.drop(f"mgt{n}", f"10.77.0.{n}/24")
        network.add(f"mgt{n}", f"10.88.0.{n}/24")
    now = {f"mgt{n}": f"10.88.0.{n}" for n in (1, 2, 3)}
    name_hosts(cluster, now if known_by == "name" else {})
    cluster.start_all(servers)
    if known_by == "hint":
        hints = [f"--member={name}={now[name]}" for name in ("mgt2", "mgt3")]
        servers[0].run("readdress", *hints, check=True)
    for server in servers:
        cluster.wait_until_all_active(server, servers, SETTLE_SECONDS)
    wait_until(
        lambda: all(addresses(server) == now for server in servers),
        SETTLE_SECONDS,
        "everybody has the new addresses",
    )
    wait_until(
        lambda: all(not s.show_json()["errors"] for s in servers), SETTLE_SECONDS, "no detour"
    )
    assert servers[1].etcdctl("get", "kept").lines == ["kept", "safe"]
    assert "10.77.0." not in servers[1].etcdctl("member", "list").out
    servers[0].restart()
    cluster.wait_until_all_active(servers[0], servers, SETTLE_SECONDS)


@pytest.mark.peers(12)
def test_server_that_comes_later_than_all_others_that_moved_finds_them(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """They are at other addresses by then, and show other certificates; so does it."""
    network = three(make_network)
    spread(cluster, network)
    mgt1, *others = cluster.join_all()
    for server in (mgt1, *others):
        server.stop()
    for n in (1, 2, 3):
        move(network, f"mgt{n}", f"10.77.0.{n}/24", f"10.88.0.{n}/24")
    now = {f"mgt{n}": f"10.88.0.{n}" for n in (1, 2, 3)}
    name_hosts(cluster, now)
    cluster.start_all(others)
    cluster.wait_for_leader(others, seconds=SETTLE_SECONDS)
    for server in others:
        wait_until(partial(moved, server, "mgt2", "mgt3"), SETTLE_SECONDS, "the others moved")
    mgt1.start()
    for server in (mgt1, *others):
        cluster.wait_until_all_active(server, [mgt1, *others], SETTLE_SECONDS)
        assert addresses(server) == now


def moved(server: Server, *names: str) -> bool:
    """Tell whether a server shows some members at their new addresses."""
    found = addresses(server)
    return all(found.get(name, "").startswith("10.88.") for name in names)


#: Where three of them are at first.
AT_FIRST = {f"mgt{n}": f"10.77.0.{n}" for n in (1, 2, 3)}
#: For each server in turn, whose address it gets: mgt1 to mgt3, and five.
OF_THREE = [order for order in permutations((1, 2, 3)) if order != (1, 2, 3)]
OF_FIVE = {"ring": (2, 3, 4, 5, 1), "two swaps": (2, 1, 4, 3, 5), "ring and swap": (2, 3, 1, 5, 4)}


def permute(
    cluster: Cluster, network: Network, before: dict[str, str], order: Sequence[int]
) -> dict[str, str]:
    """Give servers each other's addresses while they are off; return who has which then."""
    places = list(before.values())
    now = {name: places[n - 1] for name, n in zip(before, order, strict=True)}
    give(cluster, network, before, {n: a for n, a in now.items() if before[n] != a})
    return now


def give(cluster: Cluster, network: Network, before: dict[str, str], now: dict[str, str]) -> None:
    """Give servers other addresses while they are off."""
    for name in now:
        cluster.servers[name].stop()
    for name in now:
        network.drop(name, f"{before[name]}/24")
    for name, address in now.items():
        network.add(name, f"{address}/24")
    name_hosts(cluster, {**before, **now})
    cluster.start_all([cluster.servers[name] for name in now])


def confuses(etcd: Etcd) -> bool:
    """Tell whether an etcd takes for its own what was sent to another member."""
    return not identify(etcd.etcd).ignores_strays


def test_etcd_18309_members_that_swapped_addresses_while_off_come_back(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork
) -> None:
    """Each finds another one where it was: every permutation of three, one after the other.

    With an etcd that would confuse them it is told what to do.
    """
    network = three(make_network)
    spread(cluster, network)
    servers = cluster.join_all()
    assert servers[0].etcdctl("put", "kept", "safe").code == 0
    now = AT_FIRST
    for order in OF_THREE:
        now = permute(cluster, network, now, order)
        if confuses(etcd):
            for server in servers:
                wait_until(partial(says, server, "changed places"), SETTLE_SECONDS, "it is said")
            return
        settled(cluster, now)
        assert servers[1].etcdctl("get", "kept").lines == ["kept", "safe"]


@pytest.mark.parametrize("order", [(1, 3, 2), (2, 3, 1)], ids=["two", "ring"])
def test_etcd_18309_hint_of_an_older_etcd_brings_members_that_changed_places_back(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork, order: Sequence[int]
) -> None:
    """Each is given an address that none had, and after that the one that it is to have."""
    if not confuses(etcd):
        pytest.skip("this etcd needs no hint")
    network = three(make_network)
    spread(cluster, network)
    servers = cluster.join_all()
    wanted = permute(cluster, network, AT_FIRST, order)
    for server in servers:
        wait_until(partial(says, server, "changed places"), SETTLE_SECONDS, "it is said")
    hint = "give each an address that none had, and then the one that it is to have"
    assert hint in str(servers[2].show_json()["errors"])
    moved_to = [name for name in wanted if wanted[name] != AT_FIRST[name]]
    between = {name: f"10.77.0.1{name[-1]}" for name in moved_to}
    give(cluster, network, wanted, between)
    settled(cluster, {**AT_FIRST, **between})
    give(cluster, network, {**AT_FIRST, **between}, {name: wanted[name] for name in moved_to})
    settled(cluster, wanted)


@pytest.mark.parametrize(
    "step", [step for step in Step if step.operation == "readdress"], ids=lambda step: step.value
)
def test_power_cut_while_members_that_changed_places_come_back_is_not_their_end(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork, step: Step
) -> None:
    """All lose power when the first of them is at a step: some records are new by then."""
    if confuses(etcd):
        pytest.skip("an older etcd is not led to members that changed places")
    network = three(make_network)
    with FailPoints(cluster) as points:
        spread(cluster, network)
        servers = cluster.join_all()
        with points.at(step) as held:
            now = permute(cluster, network, AT_FIRST, (2, 3, 1))
            held.wait(SETTLE_SECONDS)
            cluster.end_all()
        cluster.start_all(servers)
        settled(cluster, now, LONG_SECONDS)


@pytest.mark.parametrize("step", [Step.REPLACE_RECORD, Step.REPLACE_TRUST], ids=lambda s: s.value)
def test_members_that_change_places_come_back_though_one_was_changing_its_certificate(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork, step: Step
) -> None:
    """It goes on with that when the others let the next one in, and waits for its place first."""
    if confuses(etcd):
        pytest.skip("an older etcd is not led to members that changed places")
    network = three(make_network)
    with FailPoints(cluster) as points:
        spread(cluster, network)
        servers = cluster.join_all()
        with points.at(step, servers[2]) as held, servers[2].popen("gencert") as typed:
            held.wait(SETTLE_SECONDS)
            cluster.end_all()
            typed.wait(SETTLE_SECONDS)
        settled(cluster, permute(cluster, network, AT_FIRST, (2, 3, 1)))


@pytest.mark.parametrize("order", OF_FIVE.values(), ids=OF_FIVE)
def test_etcd_18309_five_members_that_changed_places_while_off_come_back(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork, order: Sequence[int]
) -> None:
    """A ring leaves nobody where it was; swaps leave one."""
    if confuses(etcd):
        pytest.skip("the refusal of an older etcd is tried with three")
    network = make_network(**{f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3, 4, 5)})
    spread(cluster, network)
    cluster.join_all()
    now = {f"mgt{n}": f"10.77.0.{n}" for n in (1, 2, 3, 4, 5)}
    settled(cluster, permute(cluster, network, now, order), LONG_SECONDS)


def says(server: Server, text: str) -> bool:
    """Tell whether a server shows a problem."""
    return text in str((server.ask_show() or {}).get("errors"))


def test_address_of_a_member_that_is_off_is_taken_over_and_that_member_comes_back(
    cluster: Cluster, etcd: Etcd, make_network: MakeNetwork
) -> None:
    """Its record has none then, until it comes with another one."""
    network = three(make_network)
    spread(cluster, network)
    mgt1, mgt2, mgt3 = cluster.join_all()
    for server in (mgt2, mgt3):
        server.stop()
    network.drop("mgt3", "10.77.0.3/24")
    move(network, "mgt2", "10.77.0.2/24", "10.77.0.3/24")
    mgt2.start()
    if confuses(etcd):
        wait_until(partial(says, mgt1, "changed places"), SETTLE_SECONDS, "it is said")
        return
    for server in (mgt1, mgt2):
        wait_until(
            lambda s=server: addresses(s).get("mgt2") == "10.77.0.3",  # type: ignore[misc]
            SETTLE_SECONDS,
            "mgt2 has the address of mgt3",
        )
    network.add("mgt3", "10.77.0.33/24")
    mgt3.start()
    settled(cluster, {"mgt1": "10.77.0.1", "mgt2": "10.77.0.3", "mgt3": "10.77.0.33"})


def settled(cluster: Cluster, now: dict[str, str], seconds: float = SETTLE_SECONDS) -> None:
    """Wait until all members are active at these addresses, and nothing is under way."""
    servers = [cluster.servers[name] for name in now]
    for server in servers:
        cluster.wait_until_all_active(server, servers, seconds)
    wait_until(lambda: all(addresses(s) == now for s in servers), seconds, "all know all")
    wait_until(lambda: all(not s.show_json()["errors"] for s in servers), seconds, "no detour")
    listed = servers[0].etcdctl("member", "list").lines
    for name, address in now.items():
        assert any(f"{name}, https://{address}:" in line for line in listed), listed
