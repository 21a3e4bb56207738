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
        "clock": 0.0,
        "python": "3.11.2",
        "listening": {"22": "sshd"},
        "collective": {},
    } | changes


def shown(*ids: str) -> dict[str, Any]:
    """Return what 'show' told in a collective with members of these ids."""
    return {"members": [{"name": f"mgt{n}", "id": i} for n, i in enumerate(ids, 1)]}


GOOD = [host(1), host(2), host(3)]


def test_nothing_is_wrong_with_good_hosts() -> None:
    """Fresh ones, and those of one collective, of which one has not heard of the last member."""
    assert fitness.problems(GOOD, 30) == []
    formed = [
        host(1, collective=shown("a", "b", "c")),
        host(2, collective=shown("a", "b")),
        host(3, collective=shown("c", "b")),
        host(4, collective=shown("x")),
    ]
    assert fitness.problems(formed, 30) == []


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
        ([host(1), host(2, clock=-40.0)], "the clocks of h2 and h1 are 40 s apart, at most 30 s"),
        ([host(1, listening={"13003": "etcd"})], "h1: port 13003 is in use by etcd"),
        ([host(1, listening={"13002": ""})], "h1: port 13002 is in use by another program"),
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
    (found,) = fitness.problems(hosts, 30)
    assert said in found
    assert "; " in found or "needed" in found or "are both" in found


def test_all_that_is_wrong_is_told_together() -> None:
    """A second run that finds the next thing would be a third of a night."""
    hosts = [host(1, python="3.9.2"), host(2, name="mgt1", clock=99.0)]
    assert len(fitness.problems(hosts, 30)) == 3


def test_port_of_a_running_daemon_is_its_own() -> None:
    """A second run finds the collective's own ports in use."""
    running = host(1, listening={"13002": "collectived"}, collective=shown("a"))
    assert fitness.problems([running], 30) == []


@pytest.mark.parametrize(
    ("voters", "said"), [(1, ""), (2, "2 voters survive the loss of 0"), (3, ""), (4, "loss of 1")]
)
def test_even_number_of_voters_is_warned_of(voters: int, said: str) -> None:
    """It is not refused: a collective grows one by one."""
    hosts = [host(n, voting=n <= voters) for n in range(1, 6)]
    found = fitness.warnings(hosts)
    assert len(found) == (1 if said else 0)
    assert said in "".join(found)
