"""A power cut in the very first seconds of a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Cluster, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]


def test_server_killed_while_its_etcd_makes_its_log_comes_up(cluster: Cluster) -> None:
    """Nothing was ever acknowledged, so the half-made data must be in nobody's way (P5, P10)."""
    server = cluster.add("mgt1")
    server.launch()
    data = Path(server.layout.etcd_data)
    wait_until((data / "member" / "wal").exists, 10.0, "etcd's first log")
    server.kill()
    server.start()
    server.wait_for_quorum()
