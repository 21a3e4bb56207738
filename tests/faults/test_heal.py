"""A network that drops packets without a word heals: nobody waits as long again as it was gone.

How long it takes, beside bare etcds, is row 27 of ``bench``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from collective.errors import EtcdError
from collective.etcd.connections import reset_stuck
from collective.etcd.deadline import within
from collective.etcd.gateway import Gateway
from collective.etcd.requests import PutRequest
from tests.harness import Cluster, Server, wait_until
from tests.harness.network import Host, Network
from tests.harness.spread import spread

pytestmark = [pytest.mark.faults, pytest.mark.root]

MakeNetwork = Callable[..., Network]
HOSTS = {f"mgt{n}": (f"10.77.0.{n}/24",) for n in (1, 2, 3)}
# After six tries in 12.6 s the next one is made 12.8 s later: much more than what is allowed.
TRIES, TRIES_SECONDS, BACK_SECONDS = 6, 60.0, 8.0

ACCEPT = """
import socket
with socket.create_server(("10.77.0.2", 7777)) as listener:
    print("ready", flush=True)
    with listener.accept()[0] as far:
        print(far.recv(4).decode(), flush=True)
        try:
            print("end" if not far.recv(4) else "more", flush=True)
        except ConnectionResetError:
            print("reset", flush=True)
"""
SEND = """
import socket, sys
with socket.create_connection(("10.77.0.2", 7777)) as near:
    near.sendall(b"well")
    sys.stdin.readline()
    near.sendall(b"late")
    print("sent", flush=True)
    try:
        near.recv(1)
    except OSError:
        pass
    print("woken", flush=True)
"""


def tries(host: Host) -> int:
    """Return how often the kernel has doubled the wait of the connection that waits longest."""
    told = subprocess.run(
        [*host.prefix, "ss", "-tinH"], capture_output=True, text=True, check=True
    ).stdout
    return max([int(w.removeprefix("backoff:")) for w in told.split() if "backoff:" in w] or [0])


def run(host: Host, program: str) -> subprocess.Popen[str]:
    """Run Python on a host."""
    command = [*host.prefix, sys.executable, "-c", program]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def test_connection_that_waits_is_reset_at_both_ends(make_network: MakeNetwork) -> None:
    """The other end hears of it at once, though what was sent before is not acknowledged."""
    network = make_network(**HOSTS)
    network.pin()
    with ExitStack() as stack:
        far = stack.enter_context(run(network["mgt2"], ACCEPT))
        assert said(far) == "ready"
        near = stack.enter_context(run(network["mgt1"], SEND))
        assert said(far) == "well"
        network.deafen("mgt2")
        assert near.stdin is not None
        near.stdin.write("go\n")
        assert said(near) == "sent"
        wait_until(lambda: tries(network["mgt1"]) >= 3, TRIES_SECONDS, "the kernel tries again")
        assert reset_stuck(near.pid, {"10.77.0.3"}) == 0
        network.restore("mgt2")
        assert reset_stuck(near.pid, {"10.77.0.2"}) == 1
        assert said(near) == "woken"
        assert said(far) == "reset"


def is_written(server: Server) -> bool:
    """Tell whether a write at a server's etcd is answered."""
    gateway = Gateway(Path(server.layout.etcd_socket))
    try:
        with within(1.0):
            gateway.transact({}, [PutRequest("test/heal", server.name)])
        return True
    except EtcdError:
        return False
    finally:
        gateway.close()


def test_writes_are_answered_soon_after_a_silent_partition(
    cluster: Cluster, make_network: MakeNetwork
) -> None:
    """etcd 3.5 alone waits for as long again as the network was gone, with 3.4 it is quick."""
    network = make_network(**HOSTS)
    network.pin()
    spread(cluster, network)
    servers = cluster.join_all()
    for name in network.hosts:
        network.deafen(name)
    wait_until(lambda: tries(network["mgt1"]) >= TRIES, TRIES_SECONDS, "the kernel tries again")
    for name in network.hosts:
        network.restore(name)
    wait_until(lambda: all(is_written(s) for s in servers), BACK_SECONDS, "writes are answered")
    cluster.wait_until_all_active(servers[0], servers)
