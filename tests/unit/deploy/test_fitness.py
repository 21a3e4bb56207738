"""What is wrong with the hosts of a collective: found before anything is changed, all of it."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.plugins.module_utils import fitness

Host = dict[str, Any]


def host(number: int, **changes: Any) -> Host:
    """Return what is known of a good host that belongs to nothing."""
    return {
        "host": f"h{number}",
        "name": f"mgt{number}",
        "address": f"10.0.0.{number}",
        "port": 13002,
        "peer_port": 13003,
        "voting": True,
        "clock_low": -1.0,
        "clock_high": 0.0,
        "python": "3.11.2",
        "listening": {"22": "sshd"},
        "collective": {},
        "etcd_service": False,
        "etcd_source": "distribution",
        "packaged": False,
        "not_links": [],
    } | changes


def shown(*ids: str) -> dict[str, Any]:
    """Return what 'show' told in a collective with members of these ids."""
    return {"members": [{"name": f"mgt{n}", "id": i} for n, i in enumerate(ids, 1)]}


def member(number: int, *ids: str) -> dict[str, Any]:
    """Return what 'show' told on a member of such a collective that has a quorum."""
    document = shown(*ids)
    for each in document["members"]:
        each |= {"role": "voter", "state": "active"}
    return document | {"mode": "member", "name": f"mgt{number}", "quorum": True}


def test_who_is_to_lose_a_vote_takes_nobody_in_and_is_warned_of() -> None:
    """The others are still to come when it has lost it."""
    hosts = [
        host(1, voting=False, collective=member(1, "a", "b", "c")),
        host(2, collective=member(2, "a", "b", "c")),
        host(3, collective=member(3, "a", "b", "c")),
        host(4),
    ]
    assert fitness.problems(hosts) == []
    assert fitness.sponsor(hosts) == "h2"
    assert fitness.warnings(hosts, 30) == [
        "h1 will not vote any more: of 3 voters that are left 1 may be lost"
    ]


def test_who_is_lost_or_joins_takes_nobody_in() -> None:
    """But one that is fresh does."""
    hosts = [
        host(1, collective={"mode": "lost"}),
        host(2, collective={"mode": "joining"}),
        host(3),
    ]
    assert fitness.problems(hosts) == []
    assert fitness.sponsor(hosts) == "h3"


GOOD = [host(1), host(2), host(3)]


def test_nothing_is_wrong_with_good_hosts() -> None:
    """Fresh ones, and those of one collective, of which one has not heard of the last member."""
    assert fitness.problems(GOOD) == []
    formed = [
        host(1, collective=shown("a", "b", "c")),
        host(2, collective=shown("a", "b")),
        host(3, collective=shown("c", "b")),
        host(4, collective=shown("x")),
    ]
    assert fitness.problems(formed) == []


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([host(1), host(2, name="mgt1")], "h1 and h2 have the name mgt1 in common"),
        (
            [host(1), host(2, address="10.0.0.1")],
            "h1 and h2 have the address 10.0.0.1 in common, with port 13002 and 13003",
        ),
        ([host(1, peer_port=13002)], "collective_port and collective_peer_port are both 13002"),
        ([host(1, python="3.9.2")], "h1: collective_python is 3.9.2, and 3.10 or newer is needed"),
        ([host(1, python="")], "h1: collective_python is not there, and 3.10 or newer is needed"),
        ([host(1, etcd_service=True)], "h1: the service etcd runs there, which installing etcd"),
        ([host(1, listening={"13003": "etcd"})], "h1: port 13003 is in use by etcd"),
        ([host(1, listening={"13002": ""})], "h1: port 13002 is in use by another program"),
        (
            [host(1, listening={"13002": "collectived", "13003": "etcd"})],
            "h1: collectived runs there and does not answer",
        ),
        ([host(1, packaged=True)], "h1: the package confluent-collective is installed there"),
        (
            [host(1, not_links=["/usr/local/bin/collective"])],
            "h1: /usr/local/bin/collective is there and is no link",
        ),
        ([host(1, port=99999)], "h1: 99999 is no port; give collective_port a number"),
        ([host(1, voting=False), host(2, voting=False)], "no host is to vote"),
        (
            [host(n, voting=False, collective=member(n, "a", "b", "c")) for n in (1, 2, 3)],
            "no host is to vote",
        ),
        (
            [host(1, collective={"mode": "lost"}), host(2, collective={"mode": "joining"})],
            "no host can take the others in: h1 (lost), h2 (joining); add one",
        ),
        (
            [host(1, name="mgt9", collective=member(1, "a"))],
            "collective_name is mgt9; it is alone there, and the playbook reset",
        ),
        (
            [
                host(1, collective=shown("a", "b")),
                host(2, collective=shown("c", "d")),
                host(3, collective=shown("b", "e")),
            ],
            "different collectives: h2 (of mgt1, mgt2); and h1, h3 (of mgt1, mgt2)",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(hosts: list[Host], said: str) -> None:
    """One sentence, and no other."""
    (found,) = fitness.problems(hosts)
    assert said in found
    assert "; " in found or "needed" in found or "are both" in found


def test_all_that_is_wrong_is_told_together() -> None:
    """A second run that finds the next thing would be a third of a night."""
    hosts = [host(1, python="3.9.2"), host(2, name="mgt1", port=99999)]
    assert len(fitness.problems(hosts)) == 3


@pytest.mark.parametrize(
    ("ahead", "apart"), [(-42.0, "40 s"), (-1.5e9, "1499999998 s"), (-30.0, "")]
)
def test_clocks_apart_are_warned_of_and_no_hindrance(ahead: float, apart: str) -> None:
    """Nobody is trusted, or not, for what a clock says."""
    hosts = [host(1), host(2, clock_low=ahead, clock_high=ahead + 1.0), host(3)]
    assert fitness.problems(hosts) == []
    found = fitness.warnings(hosts, 30)
    assert len(found) == (1 if apart else 0)
    assert not apart or f"the clocks of h2 and h1 are {apart} apart, at most 30 s" in found[0]


def test_port_of_a_running_daemon_is_its_own() -> None:
    """A second run finds the collective's own ports in use."""
    running = host(1, listening={"13002": "collectived"}, collective=shown("a"))
    assert fitness.problems([running]) == []


def test_service_of_somebody_else_is_left_alone() -> None:
    """Where no package is installed, nothing would stop it."""
    for source in ("archive", "present"):
        assert fitness.problems([host(1, etcd_service=True, etcd_source=source)]) == []


@pytest.mark.parametrize(
    ("wanted", "running", "said"),
    [
        ("3.5.16", ["3.4.23", "3.4.23"], ""),
        ("3.4.23", ["3.4.23", "3.5.16"], ""),
        ("3.5.9", ["3.5.16"], ""),
        ("", ["3.5.16"], ""),
        ("3.5.16", [], ""),
        ("3.4.23", ["3.5.16", "3.5.17"], "older than the members' etcd 3.5.16"),
        ("3.6.1", ["3.10.0"], "older"),
        ("3.6.1", ["3.5.16", "3.4.23"], "members' 3.4.23; go to 3.5 first"),
        ("4.0.0", ["3.5.16"], "more than one minor version newer"),
    ],
)
def test_step_of_etcd(wanted: str, running: list[str], said: str) -> None:
    """One minor version up, and none down."""
    members = [{"etcd_version": version} for version in running] + [{"etcd_version": None}]
    found = fitness.etcd_step(wanted, {"members": members})
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("voters", "said"), [(1, ""), (2, "2 voters survive the loss of 0"), (3, ""), (4, "loss of 1")]
)
def test_even_number_of_voters_is_warned_of(voters: int, said: str) -> None:
    """It is not refused: a collective grows one by one."""
    hosts = [host(n, voting=n <= voters) for n in range(1, 6)]
    found = fitness.warnings(hosts, 30)
    assert len(found) == (1 if said else 0)
    assert said in "".join(found)


def alone(number: int, revision: int, **changes: Any) -> Host:
    """Return a host that is a collective of one."""
    own = {"mode": "member", "quorum": True, "revision": revision, "name": f"mgt{number}"}
    return host(number, collective={**own, "members": [{"name": f"mgt{number}"}]}, **changes)


def formed(number: int, *names: str, **told: Any) -> Host:
    """Return a host that is in a collective with others."""
    members = [{"name": name, "id": name, "state": "active"} for name in names]
    own = {"mode": "member", "quorum": True, "name": f"mgt{number}", "members": members}
    return host(number, collective={**own, **told})


@pytest.mark.parametrize(
    ("hosts", "chosen"),
    [
        ([host(1), host(2)], "h1"),
        ([host(1, voting=False), host(2)], "h2"),
        ([host(1), alone(2, 4000)], "h2"),
        ([alone(1, 5), alone(2, 4000), alone(3, 5)], "h2"),
        ([alone(1, 5), alone(2, 5)], "h1"),
        ([alone(1, 5), formed(2, "mgt2", "mgt3")], "h2"),
        ([formed(1, "mgt1", "mgt2", mode="nonvoting"), formed(2, "mgt1", "mgt2")], "h2"),
        ([formed(1, "mgt1", "mgt2", quorum=False), formed(2, "mgt1", "mgt2")], "h2"),
    ],
)
def test_who_takes_the_others_in(hosts: list[Host], chosen: str) -> None:
    """Never somebody new, where there is one with data already."""
    assert fitness.sponsor(hosts) == chosen


def test_survivor_without_a_quorum_stops_it() -> None:
    """A second collective beside it would be without its data."""
    left = formed(2, "mgt1", "mgt2", quorum=False)
    left["collective"]["members"][0]["state"] = "offline"
    (found,) = fitness.problems([host(1), left, host(3)])
    assert "h2 is in a collective that has no quorum: bring back mgt1" in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "other"}, "it is mgt1 in its collective, and collective_name is other"),
        ({"port": 14002}, "it has the ports 13002 and 13003 in its collective"),
        ({"name": "MGT1"}, ""),
    ],
)
def test_member_keeps_its_name_and_ports(changes: Host, said: str) -> None:
    """The daemon would not start, or not be found."""
    one = alone(1, 5) | changes
    one["collective"]["members"][0].update(door_port=13002, peer_port=13003)
    assert said in "".join(fitness.problems([one]))
    assert bool(said) == bool(fitness.problems([one]))


@pytest.mark.parametrize("name", ["mgt_1", "mgt1.example.org", "-a", "", "192", "localhost"])
def test_bad_name_is_found_before_anything_is_installed(name: str) -> None:
    """As the daemon would find it afterwards."""
    (found,) = fitness.problems([host(1, name=name)])
    assert "is no name of a server" in found


def test_order_of_an_upgrade() -> None:
    """Without a vote first, the leader last, the rest as in the inventory."""
    told = {"leader": "mgt1"}
    hosts = [host(n, collective=told, voting=n != 3) for n in (1, 2, 3, 4)]
    assert fitness.order(hosts) == ["h3", "h2", "h4", "h1"]
