"""Promise P4: a serial number that somebody chose to be another's opens no door after `delete`.

etcd's revocation list names numbers alone. So who gave a certificate of its own the number of an
honest voter cannot be named there without that voter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks import raft
from tests.attacks.hostile import MEMBERS, at_door, at_peer_port, held_for, identity, propose
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import served_by
from tests.harness.health import records
from tests.harness.odd_certificates import PLAIN
from tests.harness.trouble import settle
from tests.integration.test_nonvoting import roles

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
SECONDS = 60.0
WATCHED_SECONDS = 3.0


def wait_until_taken_up(servers: list[Server], word: str) -> None:
    """Wait until servers have taken records with a word in them up, and restart nothing for it."""

    def done(server: Server) -> bool:
        heard = word in Path(server.layout.state, "view.json").read_text()
        shown = server.ask_show()
        return heard and bool(shown and shown["quorum"] and shown["restarting"] is None)

    for server in servers:
        wait_until(lambda s=server: done(s), SECONDS, f"{server.name} has taken it up")  # type: ignore[misc]


def test_deleted_voter_with_the_serial_number_of_another_is_out_of_every_etcd(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It has written the certificate into its own record, as a voter can; others live on."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    rest = [mgt1, mgt2]
    settle(mgt3)
    seen = raft.Cluster.seen_by(mgt1)
    record = json.loads(records(mgt1)[MEMBERS + "mgt3"])
    own, others = tmp_path / "own.pem", tmp_path / "mgt1.pem"
    own.write_bytes(identity(Path(mgt3.layout.pki)).read_bytes())
    others.write_bytes(identity(Path(mgt1.layout.pki)).read_bytes())
    addresses = [mgt3.address, "127.0.0.1", "::1"]
    made = PLAIN.made("mgt3", addresses, served_by(mgt1).serial_number)
    twin = tmp_path / "twin.pem"
    twin.write_bytes(made.key_pem + made.pem.encode())
    recorded = {**record, "certificates": [*record["certificates"], made.pem]}

    # Its own daemon would have the second one revoked at once; it does not run that any more.
    mgt3.kill()
    mgt2.etcdctl("put", MEMBERS + "mgt3", "--", json.dumps(recorded))
    wait_until_taken_up(rest, made.pem.splitlines()[3])
    # Each starts its etcd anew: now it lets in all whom it ever will by these records.
    for server in rest:
        server.kill()
        server.launch()
        server.wait_for_quorum(SECONDS)
    wait_until_taken_up(rest, made.pem.splitlines()[3])

    mgt1.run("delete", "--force", "mgt3", check=True)

    for pem in (twin, own):
        assert {s.name: at_peer_port(s, pem).status for s in rest} == dict.fromkeys(
            ("mgt1", "mgt2")
        )
    entry = raft.put(MEMBERS + "mgt3", json.dumps({**recorded, "role": "nonvoting"}))
    for server in rest:
        assert propose(server, twin, seen, entry).status is None
        assert not at_door(server, twin, "GET", "/v1/status").is_good
    assert held_for(
        WATCHED_SECONDS, lambda: all(at_peer_port(s, twin).status is None for s in rest)
    )
    assert set(roles(mgt1)) == {"mgt1", "mgt2"}
    cluster.wait_until_all_active(mgt2, rest)
    assert at_peer_port(mgt2, others).is_good, "the one that has the number is not shut out"
