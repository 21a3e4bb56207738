"""A copy of a member's data that is started at another address while the member runs.

Consul 3070: the copy took the member's place, and the member was the one that looked wrong.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from collective.errors import QuorumError, RefusedError
from tests.harness import Cluster, Server, wait_until
from tests.harness.network import Network
from tests.harness.spread import spread
from tests.harness.trouble import assert_explained, settle

pytestmark = [pytest.mark.faults, pytest.mark.root]

SECONDS = 30.0
IS_OLD = "this server is lost: the data of mgt3 is old"
HOSTS = {**{f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3)}, "spare": ("10.77.0.9/24",)}
MakeNetwork = Callable[..., Network]


def copied(cluster: Cluster, network: Network, member: Server) -> Server:
    """Return a server on another host with all that a member has; it is not started.

    Nothing is written meanwhile, so that its data is not older than the member's.
    """
    host = network["spare"]
    copy = cluster.add("copy", address=host.address, hosts=str(cluster.root / "hosts-of-network"))
    copy.configure(name=member.name)
    copy.prefix = host.prefix
    shutil.copytree(member.layout.data, copy.layout.data)
    return copy


def addresses(server: Server) -> dict[str, str]:
    document = server.ask_show() or {"members": []}
    return {m["name"]: m["address"] for m in document["members"]}


@pytest.mark.parametrize("sees", ["the member", "not the member"])
def test_consul_3070_copy_of_a_member_that_runs_takes_no_part(
    cluster: Cluster, make_network: MakeNetwork, sees: str
) -> None:
    """It says where the other one answers; where it cannot see it, a voter does.

    Or it is old by then: whoever leads, and a command that proves a quorum, adds an entry.
    """
    network = make_network(**HOSTS)
    spread(cluster, network, hosts=("mgt1", "mgt2", "mgt3"))
    mgt1, mgt2, mgt3 = servers = cluster.join_all()
    settle(mgt3)
    copy = copied(cluster, network, mgt3)
    if sees == "not the member":
        network.route_nowhere("spare", "10.77.0.3")
    before = addresses(mgt1)
    copy.start()
    told = (
        [("the address of this server: ", "10.77.0.3:")]
        if sees == "the member"
        else [("the address of this server: ", "mgt3 answers at 10.77.0.3"), (IS_OLD,)]
    )
    wait_until(lambda: any(_says(copy, *words) for words in told), SECONDS, "it says so")
    if sees == "the member":
        shown = copy.run("show")
        assert shown.code == QuorumError.exit_code
        assert "a copy" in shown.err
        assert copy.etcd_pid is None
        moved = copy.run("readdress")
        assert moved.code == RefusedError.exit_code
        assert_explained(moved.err, "10.77.0.3:")
    assert addresses(mgt1) == addresses(mgt2) == before
    for server in servers:
        cluster.wait_until_all_active(server, servers)
        assert "--replace" not in server.run("show").err
    mgt1.etcdctl("put", "test/after", "copy")
    assert mgt3.etcdctl("get", "test/after", "--print-value-only").lines == ["copy"]


def _says(server: Server, *words: str) -> bool:
    lines = server.log_text.splitlines()
    return any(all(word in line for word in words) for line in lines)


def test_member_that_moved_is_no_copy(cluster: Cluster, make_network: MakeNetwork) -> None:
    """Its former address is silent: it is a member at the new one, without a command."""
    network = make_network(**HOSTS)
    spread(cluster, network, hosts=("mgt1", "mgt2", "mgt3"))
    mgt1, mgt2, mgt3 = servers = cluster.join_all()
    settle(mgt3)
    mgt3.stop()
    moved = copied(cluster, network, mgt3)
    moved.start()
    wait_until(lambda: addresses(mgt1).get("mgt3") == "10.77.0.9", SECONDS, "mgt1 knows it")
    for server in (mgt1, mgt2, moved):
        cluster.wait_until_all_active(server, servers)
    # The one that it was stays out: its data is that of a member that is elsewhere now.
    mgt3.start()
    told = ("10.77.0.9:", "deleted")
    wait_until(lambda: any(w in mgt3.run("show").err for w in told), SECONDS, "mgt3 is told")
    assert addresses(mgt1)["mgt3"] == "10.77.0.9"
    cluster.wait_until_all_active(mgt1, servers)
