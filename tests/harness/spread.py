"""Servers of a cluster in network namespaces, one each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.harness.cluster import Cluster
from tests.harness.network import Network
from tests.harness.server import Server


def spread(cluster: Cluster, network: Network, **settings: str) -> list[Server]:
    """Add a server for each host of a network, and start them: each is a collective of one.

    Their settings give no address: they find their own. Names are looked up in a hosts file,
    see ``name_hosts``.

    Args:
        cluster: without servers so far.
        network: made already.
        settings: for all of them.
    """
    hosts = name_hosts(cluster, {host.name: host.address for host in network.hosts.values()})
    servers = []
    for host in network.hosts.values():
        given = {"address": host.address, "hosts": str(hosts), **settings}
        server = cluster.add(host.name, **given)
        server.prefix = host.prefix
        if "address" not in settings:
            server.forget("address")
        servers.append(server)
    cluster.start_all(servers)
    for server in servers:
        server.wait_for_quorum()
    return servers


def name_hosts(cluster: Cluster, addresses: Mapping[str, str]) -> Path:
    """Write the hosts file that the servers of a spread cluster look names up in."""
    path = cluster.root / "hosts-of-network"
    path.write_text("".join(f"{address} {name}\n" for name, address in addresses.items()))
    return path
