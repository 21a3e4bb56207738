"""Confluent's master key is on the servers that have it, and in no key and no snapshot of etcd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Cluster
from tests.harness.confluents import Confluent
from tests.harness.spellings import is_in

pytestmark = pytest.mark.integration

SECRET = "secret.hardwaremanagementpassword"
HUSH = b"hush, nobody is to read this"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_master_key_is_in_no_key_of_the_store_and_in_no_snapshot(
    three: list[Confluent], cluster: Cluster, tmp_path: Path
) -> None:
    """Nor is what it encrypts, in clear; not in what the daemons have on disk, and in no log."""
    mgt1, mgt2, mgt3 = three
    mgt2.mutate("set_node_attributes", {"n1": {SECRET: HUSH.decode()}})
    mgt3.mutate("add_node_attributes", {"marker-of-this-test": {"groups": ["rack"]}})
    mgt3.stop()
    mgt3.start()
    found = mgt3.ask("attributes", ["n1"], [SECRET])["n1"][SECRET]["value"]
    assert found == HUSH.decode(), "the key went to a server that was started anew"
    key = bytes.fromhex(mgt1.ask("key"))
    assert len(key) == 32
    places: dict[str, bytes] = {}
    for server in cluster.servers.values():
        snapshot = tmp_path / f"snapshot-{server.name}"
        server.etcdctl("snapshot", "save", str(snapshot))
        places[snapshot.name] = snapshot.read_bytes()
        text = server.etcdctl("get", "", "--from-key", "--write-out=json").out
        places[f"keys of {server.name}"] = text.encode()
        places |= files_of(Path(server.root))
    for each in three:
        places[f"log of {each.name}"] = each.log_text().encode()
    marked = [name for name, text in places.items() if is_in(b"marker-of-this-test", text)]
    assert {f"keys of {name}" for name in cluster.servers} <= set(marked)
    assert {f"snapshot-{name}" for name in cluster.servers} <= set(marked)
    own = {name for name, text in files_of(mgt1.cfg).items() if is_in(key, text)}
    assert own, "it is looked for as it is written"
    for secret in (key, HUSH):
        assert [name for name, text in places.items() if is_in(secret, text)] == []
