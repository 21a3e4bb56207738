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

from tests.harness import Cluster, Server
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
