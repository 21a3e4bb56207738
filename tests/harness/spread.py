"""Servers of a cluster in network namespaces, one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness.cluster import Cluster
from tests.harness.network import Network
from tests.harness.server import Server


def spread(
    cluster: Cluster, network: Network, hosts: Sequence[str] = (), **settings: str
) -> list[Server]:
    """Add a server for each host of a network, and start them: each is a collective of one.

    Their settings give no address: they find their own. Names are looked up in a hosts file,
    see ``name_hosts``.

    Args:
        cluster: without servers so far.
        network: made already.
        hosts: those that get a server; none for all.
        settings: for all of them.
    """
    chosen = [network[name] for name in hosts or network.hosts]
    names = name_hosts(cluster, {host.name: host.address for host in chosen})
    servers = []
    for host in chosen:
        given = {"address": host.address, "hosts": str(names), **settings}
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
