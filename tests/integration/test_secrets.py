"""No token and no key where it does not belong (promise P9), on servers that log all they can."""

from __future__ import annotations

import base64
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Cluster

pytestmark = pytest.mark.integration


def traces_of(token: str) -> list[bytes]:
    """Return the forms in which a token, or the seed in it, could have been written down."""
    seed = base64.b64decode(token).split(b"@", 1)[1][:32]
    return [token.encode(), token[8:40].encode(), seed, seed.hex().encode()]


def files_below(root: Path) -> list[Path]:
    """Return every file of every server: data, certificates, state, logs."""
    return [path for path in root.rglob("*") if path.is_file()]


def test_join_leaves_no_trace_of_its_token(new_cluster: Callable[..., Cluster]) -> None:
    """Neither the stores with their logs of changes, nor the state files, nor the logs have it."""
    cluster = new_cluster(log_level="debug")
    mgt1, mgt2 = cluster.add_running(2)
    token = mgt1.run("invite", "mgt2", check=True).out.strip()
    mgt2.run("join", mgt1.door_name, "-i", "-", input=f"{token}\n", check=True)
    for server in (mgt1, mgt2):
        server.stop()
    files = files_below(cluster.root)
    assert any(path.name.endswith(".wal") for path in files)
    traces = traces_of(token)
    found = {path: path.read_bytes() for path in files}
    assert [path for path, data in found.items() if any(each in data for each in traces)] == []


def test_keys_and_state_are_for_the_daemon_alone(make_cluster: Callable[..., Cluster]) -> None:
    """Also those of the former life, and the folders above them."""
    cluster = make_cluster(2)
    for server in cluster.servers.values():
        server.stop()
    for server in cluster.servers.values():
        data = Path(server.layout.data)
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        secret = [p for p in files_below(data) if p.suffix in (".key", ".pem", ".json")]
        assert {p.name for p in secret} >= {"server.pem", "trusted.pem", "server.json"}
        assert [p for p in secret if stat.S_IMODE(p.stat().st_mode) & 0o077] == []
