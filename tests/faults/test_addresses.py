"""Servers on real networks of their own: IPv6, several networks, addresses in between.

peers.md, lines 13 to 15: multi-homed servers, certificates against the source of a connection,
IPv6 in brackets.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from collective.errors import UnreachableError
from tests.harness import Cluster, Server, wait_until
from tests.harness.network import Network
from tests.harness.spread import name_hosts, spread
from tests.harness.trouble import facts, settle

pytestmark = [pytest.mark.faults, pytest.mark.root]

MakeNetwork = Callable[..., Network]


def misnamed(server: Server) -> list[str]:
    """Return what a server's etcd said of certificates that do not name their source."""
    words = ("does not match any of", "certificate is valid for", "certificate is not valid for")
    return [line for line in server.log_text.splitlines() if any(word in line for word in words)]


def addresses(server: Server) -> dict[str, str]:
    """Return the address of each member as one server shows it."""
    return {m["name"]: m["address"] for m in server.show_json()["members"]}


@pytest.mark.peers(15)
def test_collective_of_three_works_with_ipv6_alone(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """No IPv4 but for loopback, and no setting: addresses are found, brackets are in place."""
    network = make_network(**{f"mgt{n}": (f"fd00:77::{n}/64",) for n in (1, 2, 3)})
    spread(cluster, network, log_level="debug")
    mgt1, mgt2, mgt3 = cluster.join_all()
    assert addresses(mgt3) == {f"mgt{n}": f"fd00:77::{n}" for n in (1, 2, 3)}
    mgt1.kill()
    cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    assert mgt2.run("delete", "mgt1").code == 0
    assert misnamed(mgt2) == misnamed(mgt3) == []


@pytest.mark.peers(13, 14)
def test_member_may_send_from_each_network_that_it_is_in(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """mgt2 joined over one network and reaches mgt3 over another: its certificate has both."""
    network = make_network(
        mgt1=("10.77.1.1/24",),
        mgt2=("10.77.1.2/24", "10.77.2.2/24"),
        mgt3=("10.77.2.3/24",),
    )
    network.forward("mgt2")
    network.route("mgt1", "10.77.2.0/24", "10.77.1.2")
    network.route("mgt3", "10.77.1.0/24", "10.77.2.2")
    spread(cluster, network, log_level="debug")
    mgt1, mgt2, mgt3 = cluster.join_all()
    assert addresses(mgt1) == {"mgt1": "10.77.1.1", "mgt2": "10.77.1.2", "mgt3": "10.77.2.3"}
    mgt1.kill()
    cluster.wait_for_leader(of=[mgt2, mgt3], other_than=mgt1)
    assert misnamed(mgt2) == misnamed(mgt3) == []


RELAY = """
import socket, sys, threading
def pump(source, sink):
    while part := source.recv(65536):
        sink.sendall(part)
    sink.shutdown(socket.SHUT_WR)
here, there, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
listener = socket.create_server((here, port))
print("ready", flush=True)
while True:
    one, _ = listener.accept()
    other = socket.create_connection((there, port))
    for pair in ((one, other), (other, one)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


@contextmanager
def relay(network: Network, name: str, here: str, there: str, port: int) -> Iterator[None]:
    """Pass a TCP port on from a host, with its own address as the source: what a NAT does."""
    command = [*network[name].prefix, sys.executable, "-c", RELAY, here, there, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_nat_is_found_before_any_change(cluster: Cluster, make_network: MakeNetwork) -> None:
    """The member sees another address than this server has: both are named, nothing changed."""
    network = make_network(
        mgt1=("10.77.1.1/24",),
        mgt2=("10.77.2.2/24",),
        router=("10.77.1.254/24", "10.77.2.254/24"),
    )
    spread(cluster, network, hosts=("mgt1", "mgt2"))
    mgt1, mgt2 = cluster.servers.values()
    settle(mgt1)
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1), facts(mgt2)
    name_hosts(cluster, {"mgt1": "10.77.2.254", "mgt2": "10.77.2.2"})
    with relay(network, "router", "10.77.2.254", "10.77.1.1", mgt1.port):
        refused = mgt2.run("join", f"mgt1:{mgt1.port}", "-i", "-", input=token)
        by_address = mgt2.run("join", f"10.77.2.254:{mgt1.port}", "-i", "-", input=token)
    assert refused.code != 0
    assert "10.77.1.254" in refused.err
    # The router's address is none that mgt1's certificate names.
    assert "is for mgt1, which is not 10.77.2.254" in by_address.err
    assert (facts(mgt1), facts(mgt2)) == before


def bridge(network: Network, name: str, device: str, address: str) -> None:
    """Give a host a bridge of its own, as software for containers does."""
    inside = (*network[name].prefix, "ip")
    for words in (
        ("link", "add", device, "type", "bridge"),
        ("link", "set", device, "up"),
        ("address", "add", address, "dev", device),
    ):
        subprocess.run([*inside, *words], check=True)


def test_moby_24237_member_at_an_address_that_the_joiner_has_too_is_found(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """The joiner knocked at its own etcd, and all was well until its claim was made."""
    network = make_network(mgt1=("10.77.0.1/24",), mgt2=("10.77.0.2/24",))
    for name in ("mgt1", "mgt2"):
        bridge(network, name, "docker0", "172.17.0.1/16")
    spread(cluster, network, hosts=["mgt1"], address="172.17.0.1", listen="0.0.0.0")
    mgt1 = cluster.servers["mgt1"]
    (mgt2,) = spread(cluster, network, hosts=["mgt2"])
    name_hosts(cluster, {"mgt1": "10.77.0.1", "mgt2": "10.77.0.2"})
    settle(mgt1)
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1), facts(mgt2)
    checked = mgt2.run("join", "--check", mgt1.door_name, "-i", "-", input=token)
    assert checked.code == UnreachableError.exit_code
    assert "172.17.0.1, which this server has, too" in checked.out
    assert (facts(mgt1), facts(mgt2)) == before


@pytest.mark.parametrize(
    ("device", "address", "said"),
    [
        ("docker0", "172.17.0.1/16", "172.17.0.1 is on docker0"),
        ("own0", "10.9.9.9/32", "10.9.9.9 is on own0, over which no route leads"),
        ("own0", "fd09::9/128", "fd09::9 is on own0, over which no route leads"),
    ],
)
def test_moby_24237_founder_says_that_its_address_may_be_of_no_use(
    cluster: Cluster, make_network: MakeNetwork, device: str, address: str, said: str
) -> None:
    """It has no other one: it takes it, and says so in show and when it invites."""
    network = make_network(mgt1=("10.77.0.1/24",))
    network.drop("mgt1", "10.77.0.1/24")
    bridge(network, "mgt1", device, address)
    (mgt1,) = spread(cluster, network)
    wait_until(lambda: said in str(mgt1.show_json()["errors"]), 20.0, "show says it")
    assert said in mgt1.run("invite", "mgt2", check=True).err
    network.add("mgt1", "10.77.0.1/24")
    mgt1.run("readdress", "--address", "10.77.0.1", check=True)
    wait_until(lambda: not mgt1.show_json()["errors"], 20.0, "it says no more of it")


def test_kubeadm_1272_link_local_address_that_is_set_works(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """It was said not to be here, and not to be an address of one server."""
    network = make_network(mgt1=("169.254.7.1/16",), mgt2=("169.254.7.2/16",))
    servers = []
    for host in network.hosts.values():
        servers += spread(cluster, network, hosts=[host.name], address=host.address)
    name_hosts(cluster, {host.name: host.address for host in network.hosts.values()})
    mgt1, mgt2 = servers
    cluster.join(mgt2, mgt1)
    cluster.wait_until_all_active(mgt1, servers)
    assert addresses(mgt1) == {"mgt1": "169.254.7.1", "mgt2": "169.254.7.2"}
