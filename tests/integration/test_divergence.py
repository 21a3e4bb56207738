"""A member whose data differs from that of the others (peers 28)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Cluster, wait_until
from tests.harness.trouble import settle

pytestmark = pytest.mark.integration

SECONDS = 60.0


def test_peers_28_divergence_is_found_and_stops_writes(cluster: Cluster) -> None:
    """Bytes that changed on one disk raise etcd's alarm, and every member shows it."""
    mgt1, mgt2, mgt3 = servers = cluster.add_running(3, corruption_check="2s")
    for joiner in (mgt2, mgt3):
        cluster.join(joiner, mgt1)
    for server in servers:
        settle(server)
    mgt1.etcdctl("put", "test/divergent", "good" * 64)
    mgt3.stop()
    path = Path(mgt3.layout.etcd_data, "member", "snap", "db")
    content = path.read_bytes()
    assert b"good" * 64 in content
    path.write_bytes(content.replace(b"good" * 64, b"evil" * 64))
    mgt3.start()
    for server in servers:
        wait_until(
            lambda server=server: (
                {"member": None, "alarm": "CORRUPT"}  # type: ignore[misc]
                in (server.ask_show() or {"alarms": []})["alarms"]
            ),
            SECONDS,
            f"{server.name} shows the alarm",
        )
    assert "the data of a member differs" in mgt1.run("show").err
    assert mgt2.run("invite", "mgt9").code != 0
    # What the manual says: whose hash differs is told by etcdctl, on each server.
    hashes = [server.etcdctl("endpoint", "hashkv").out.split(",")[1] for server in servers]
    assert hashes[0] == hashes[1] != hashes[2]
