"""What hurts users of other systems and is tried nowhere else: lines of docs/peers.md."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import Cluster, Server

pytestmark = pytest.mark.integration


@pytest.mark.peers(6, 7)
def test_server_joins_with_a_member_and_the_issuer_of_its_token_dead(
    make_cluster: Callable[..., Cluster],
) -> None:
    """A quorum is enough to be taken in, and any of its members redeems the token."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = (cluster[f"mgt{n}"] for n in (1, 2, 3))
    (mgt4,) = cluster.add_running(1)
    token = mgt3.run("invite", "mgt4", check=True).out
    mgt3.kill()
    cluster.wait_for_leader(of=[mgt1, mgt2], other_than=mgt3)
    mgt4.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    assert mgt1.show_json()["quorum"]


def opens_peer_port(server: Server, by: Server) -> bool:
    """Tell whether etcd's peer port answers to the certificate of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(Path(by.layout.pki, "server.pem"))
    place = server.address, server.peer_port
    connection = http.client.HTTPSConnection(*place, timeout=10.0, context=context)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/version")
        return connection.getresponse().status == http.client.OK
    return False


def test_peers_45_member_without_a_vote_does_not_get_in_at_the_consensus_port(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Its certificate is recorded, and good at every daemon: that is not enough there."""
    cluster = make_cluster(2)
    voters = mgt1, mgt2 = cluster["mgt1"], cluster["mgt2"]
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "-n", "mgt3", check=True).out
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    cluster.wait_until_all_active(mgt3, [mgt1, mgt2, mgt3])
    assert [opens_peer_port(server, by=mgt2) for server in voters] == [True, True]
    assert [opens_peer_port(server, by=mgt3) for server in voters] == [False, False]
