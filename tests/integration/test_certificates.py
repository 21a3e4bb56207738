"""Certificates that have expired, are not valid yet, or are not the ones that are shown.

The numbers are those of the list of what users of such systems suffer from.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from collective.daemon.certificates.credentials import Credentials
from collective.errors import AccessError
from collective.failpoints import Step
from collective.pki import Authority, LeafInfo, make_request, new_key, read_leaf
from collective.protocol.peer import Peer, served_chain
from tests.harness import Cluster, HarnessError, Server, wait_until
from tests.harness.failpoints import FailPoints
from tests.harness.running import Running
from tests.harness.trouble import settle

pytestmark = pytest.mark.integration

SECONDS = 30.0
YEAR = timedelta(days=365)


def put_leaf(server: Server, issued: datetime) -> LeafInfo:
    """Give a server that is stopped a certificate of its CA that was issued at some time."""
    pki = Path(server.layout.pki)
    ca = (pki / "ca.pem").read_bytes()
    authority = Authority.from_pem(ca, (pki / "ca.key").read_bytes())
    key = new_key()
    request = make_request(key, server.name)
    leaf = authority.issue(request, server.name, [server.address], issued, YEAR)
    (pki / "leaf.pem").write_bytes(key + leaf + ca)
    return read_leaf(leaf)


def now() -> datetime:
    return datetime.now(timezone.utc)


def served_by(server: Server) -> LeafInfo:
    return read_leaf(served_chain(server.address, server.port, 5.0)[0])


def records_of(server: Server) -> str:
    return server.etcdctl("get", "collective/v1/", "--prefix").out


@pytest.mark.parametrize("issued", [-2 * YEAR, YEAR])
def test_peers_17_server_whose_certificate_is_not_valid_any_more_finds_its_way_back(
    cluster: Cluster, issued: timedelta
) -> None:
    """After a year without power, or a certificate that a wrong clock dated into the future."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    bad = put_leaf(mgt3, now() + issued)
    mgt3.start()
    for server in servers:
        cluster.wait_until_all_active(server, servers)
    good = served_by(mgt3)
    assert good.serial != bad.serial
    assert good.not_before < now() < good.not_after
    assert good.fingerprint in records_of(mgt1)
    assert "is written down" in mgt3.log_text
    mgt3.restart()
    cluster.wait_until_all_active(mgt2, servers)
    assert served_by(mgt3) == good


def test_certificate_that_is_being_made_is_not_revoked_by_another_thread(
    cluster: Cluster,
) -> None:
    """It is written down and not in use yet, when all that are not in use are to be revoked.

    A live member once took itself for deleted, since it then used one that was revoked.
    """
    with FailPoints(cluster) as points:
        mgt1, mgt2 = servers = cluster.grow(2)
        settle(mgt2)
        with points.at(Step.RENEW_RECORD, mgt2) as held, Running(mgt2, ("gencert",)) as made:
            held.wait(SECONDS)
            mgt2.configure(address=f"{mgt2.address}9")
            with Running(mgt2, ("readdress",)) as moved:
                with pytest.raises(HarnessError):
                    wait_until(lambda: False, 4.0, "time for the other thread")
                held.go()
                assert "ended with 0" in made.end()
                assert "ended with 0" in moved.end()
            with pytest.raises(HarnessError):
                wait_until(lambda: mgt2.is_removed, 3.0, "mgt2 takes itself for deleted")
        for server in servers:
            cluster.wait_until_all_active(server, servers)
        assert "the certificate in use is written down" not in mgt2.log_text, "one was used unseen"
        shown = read_leaf(served_chain(f"{mgt2.address}9", mgt2.port, 5.0)[0])
        assert shown.fingerprint in records_of(mgt1)


def test_peers_17_collective_that_was_off_for_a_year_comes_back(cluster: Cluster) -> None:
    """Nobody has a certificate that is good, and nobody is left to ask."""
    servers = cluster.grow(3)
    for server in servers:
        settle(server)
        server.stop()
    for server in servers:
        put_leaf(server, now() - 2 * YEAR)
    cluster.start_all(reversed(servers))
    for server in servers:
        cluster.wait_until_all_active(server, servers, SECONDS)
    found = records_of(servers[0])
    for server in servers:
        assert served_by(server).fingerprint in found


def test_certificate_that_a_deleted_server_mints_opens_no_door(cluster: Cluster) -> None:
    """The way back is through a member's own etcd: at the doors a kept CA key is worthless."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    kept = Path(mgt3.layout.pki)
    mgt1.run("delete", "mgt3", "--no-rekey", check=True)
    minted = put_leaf(mgt3, now())
    peer = Peer(mgt1.address, mgt1.port, Credentials(kept).client_context)
    with pytest.raises(AccessError, match="belongs to no member"):
        peer.call("GET", "/v1/status", None, 5.0)
    peer.close()
    assert minted.fingerprint not in records_of(mgt2)


def test_peers_18_show_tells_the_certificate_that_is_served(cluster: Cluster) -> None:
    """One that is on the disk alone is renewed for nobody, and show says so."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.stop()
    mgt1.start()
    mgt1.wait_for_quorum()
    mgt1.run("gencert", check=True)
    served = served_by(mgt1)
    (member,) = mgt1.show_json()["members"]
    assert member["certificate_ends"] == served.not_after.isoformat()
    assert member["errors"] == []

    put_leaf(mgt1, now() - timedelta(days=30))
    wait_until(
        lambda: mgt1.show_json()["members"][0]["errors"], 60.0, "show tells of the other file"
    )
    (member,) = mgt1.show_json()["members"]
    assert "restart collectived" in member["errors"][0]
    assert member["certificate_ends"] == served.not_after.isoformat()


def test_peers_16_clock_that_is_behind_believes_a_new_certificate(cluster: Cluster) -> None:
    """A certificate is backdated: it is good for servers whose clocks are up to an hour behind."""
    _, mgt2 = servers = cluster.grow(2)
    settle(mgt2)
    mgt2.stop()
    # As a server would make it whose clock is 50 minutes ahead of the others.
    put_leaf(mgt2, now() + timedelta(minutes=50))
    mgt2.start()
    for server in servers:
        cluster.wait_until_all_active(server, servers)
    assert "was not valid at this time" not in mgt2.log_text
