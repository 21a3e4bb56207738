"""What a deleted server keeps open to etcd's peer port is cut: tried where it can be seen.

On loopback all servers have one address, so these are in networks of their own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Cluster, Server
from tests.harness.network import Network
from tests.harness.spread import spread
from tests.harness.trouble import settle

pytestmark = [pytest.mark.faults, pytest.mark.root]

MakeNetwork = Callable[..., Network]
SECONDS = 30.0

# Asks once, to be sure that etcd believes it, then holds the connection until that ends.
HOLD = """
import socket, ssl, sys
leaf, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(leaf)
with context.wrap_socket(socket.create_connection((host, port))) as tls:
    tls.sendall(b"GET /version HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    assert tls.recv(65536).startswith(b"HTTP/1.1 200")
    print("held", flush=True)
    try:
        print("cut" if not tls.recv(65536) else "answered", flush=True)
    except OSError:
        print("cut", flush=True)
"""


@contextmanager
def held_from(thief: Server, leaf: Path, victim: Server) -> Iterator[subprocess.Popen[str]]:
    """Hold a connection to a member's peer port open, from where another server is."""
    arguments = [sys.executable, "-c", HOLD, str(leaf), victim.address, str(victim.peer_port)]
    command = [*thief.prefix, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def is_answered(thief: Server, leaf: Path, victim: Server) -> bool:
    """Tell whether etcd answers at a member's peer port, to where another server is."""
    try:
        with held_from(thief, leaf, victim):
            return True
    except AssertionError:
        return False


def restarts(server: Server) -> int:
    """Return how often a server has restarted its etcd, for whatever reason."""
    return server.log_text.count("etcd is restarted")


@pytest.mark.peers(10)
def test_idle_connection_to_etcd_is_cut_when_delete_returns(
    cluster: Cluster, make_network: MakeNetwork, tmp_path: Path
) -> None:
    """etcd itself would leave it open: who has it can speak for any member."""
    network = make_network(**{f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3)})
    spread(cluster, network)
    mgt1, mgt2, mgt3 = cluster.join_all()
    settle(mgt3)
    kept = tmp_path / "kept.pem"
    kept.write_bytes(Path(mgt3.layout.pki, "server.pem").read_bytes())
    with held_from(mgt3, kept, mgt1) as first, held_from(mgt3, kept, mgt2) as second:
        mgt3.kill()
        deleted = mgt1.run("delete", "mgt3", "--force", check=True)
        assert "locked out of: mgt1, mgt2" in deleted.err
        for process in (first, second):
            assert process.communicate(timeout=SECONDS)[0] == "cut\n"
    for server in (mgt1, mgt2):
        assert "etcd is restarted to cut off" in server.log_text
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])


def test_certificate_of_a_server_without_a_vote_never_opens_etcd(
    cluster: Cluster, make_network: MakeNetwork, tmp_path: Path
) -> None:
    """So there is nothing of it to cut: no etcd is restarted when it is deleted."""
    network = make_network(**{f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3)})
    spread(cluster, network)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    cluster.join(mgt2, mgt1)
    token = mgt1.run("invite", "-n", "mgt3", check=True).out
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    leaf = tmp_path / "kept.pem"
    leaf.write_bytes(Path(mgt3.layout.pki, "server.pem").read_bytes())
    before = [restarts(server) for server in (mgt1, mgt2)]
    for server in (mgt1, mgt2):
        assert not is_answered(mgt3, leaf, server)
    mgt3.kill()
    deleted = mgt1.run("delete", "mgt3", check=True)
    assert "locked out of: mgt1, mgt2" in deleted.err
    assert [restarts(server) for server in (mgt1, mgt2)] == before


def test_nobody_is_restarted_where_nothing_is_left_open(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """Not even for a member that sends from a second network that it is in."""
    network = make_network(
        mgt1=("10.77.1.1/24",),
        mgt2=("10.77.1.2/24", "10.77.2.2/24"),
        mgt3=("10.77.2.3/24",),
        mgt4=("10.77.1.4/24",),
    )
    network.forward("mgt2")
    network.route("mgt1", "10.77.2.0/24", "10.77.1.2")
    network.route("mgt4", "10.77.2.0/24", "10.77.1.2")
    network.route("mgt3", "10.77.1.0/24", "10.77.2.2")
    spread(cluster, network)
    mgt1, mgt2, mgt3, _ = cluster.join_all()
    before = [restarts(server) for server in (mgt1, mgt2, mgt3)]
    mgt1.run("delete", "mgt4", "--force", check=True)
    assert [restarts(server) for server in (mgt1, mgt2, mgt3)] == before
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])
