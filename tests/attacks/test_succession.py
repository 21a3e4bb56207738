"""Promise P4: who once proved to be a member's successor is not believed for ever.

A voter that shows a new certificate with a signature by its recorded key is recognised, so that
those that were off meanwhile know it again. Whoever had that key once can make such a proof.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from collective.pki import ReplacementStatement, sign_replacement
from tests.attacks import raft
from tests.attacks.hostile import identity
from tests.attacks.stand import Said, Stand
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import fingerprint_of, own, recorded
from tests.harness.cluster import states
from tests.harness.odd_certificates import PLAIN
from tests.harness.trouble import settle

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
SECONDS = 60.0
STATUS, SUCCESSION = "/v1/status", "/v1/succession"
#: So often is the thief asked for its proof, by two voters, before neither is sure to believe it.
ASKED = 6


class Thief:
    """It has a voter's key, a certificate that the key has signed for, and the voter's place."""

    def __init__(self, server: Server, seen_by: Server, folder: Path) -> None:
        """Steal what there is.

        Args:
            server: whose place it takes.
            seen_by: another voter.
            folder: for its key.
        """
        self.server = server
        stolen = identity(Path(server.layout.pki)).read_bytes()
        begin = stolen.index(b"-----BEGIN CERTIFICATE")
        former = stolen[begin:].decode()
        made = PLAIN.made(server.name, [server.address, "127.0.0.1", "::1"])
        statement = ReplacementStatement(
            name=server.name, former=fingerprint_of(former), following=made.fingerprint
        )
        signature = sign_replacement(stolen[:begin], statement).hex()
        self._steps = [{"certificate": former, "signature": signature}]
        self._pem = folder / "thief.pem"
        self._pem.write_bytes(made.key_pem + made.pem.encode())
        seen = raft.Cluster.seen_by(seen_by)
        self._status: dict[str, Any] = {
            "name": server.name,
            "release": "0.1.0",
            "etcd_version": "3.4.23",
            "member_id": f"{seen.ids[server.name]:016x}",
            "leader": f"{seen.ids[seen_by.name]:016x}",
            "term": seen.term,
            "index": seen.index,
            "applied": seen.index,
            "db_size": 1,
            "learner": False,
            "certificate": "",
            "errors": [],
        }

    def standing(self) -> AbstractContextManager[Stand]:
        """Stand at the voter's door, while that one is off."""
        place = (self.server.address, self.server.port)
        return Stand(place, self._pem, self._answer).standing()

    def _answer(self, path: str, _raw: dict[str, Any]) -> Said:
        if path == SUCCESSION:
            return Said.one(steps=self._steps)
        if path == STATUS:
            return Said.one(**self._status)
        return Said.one(deleted=False, wants="")


def gencert(_by: Server, server: Server) -> None:
    """Have the voter change its key, since it may have been stolen."""
    server.launch()
    server.wait_for_quorum(SECONDS)
    server.run("gencert", check=True)


def reinstalled(by: Server, server: Server) -> None:
    """Delete the voter, install its machine anew, and take it in under the same name."""
    by.run("delete", "--force", server.name, check=True)
    shutil.rmtree(server.layout.data)
    server.start()
    server.wait_for_quorum(SECONDS)
    token = by.run("invite", server.name, check=True).out
    server.run("join", by.door_name, "-i", "-", input=token, check=True)


@pytest.mark.parametrize("change", [gencert, reinstalled])
def test_successor_that_was_recognised_is_believed_until_the_record_changes(
    make_cluster: MakeCluster, tmp_path: Path, change: Callable[[Server, Server], None]
) -> None:
    """Then nobody takes the thief for the voter, whatever it proved before."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    for server in cluster.servers.values():
        settle(server)
    thief = Thief(mgt3, mgt1, tmp_path)
    mgt3.kill()
    with thief.standing() as stand:
        wait_until(
            lambda: stand.count(SUCCESSION) >= 2 and stand.count(STATUS) >= 2,
            SECONDS,
            "both voters recognise it, or this test proves nothing",
        )

    change(mgt1, mgt3)
    for server in (mgt1, mgt2):
        wait_until(
            lambda s=server: own(mgt3) in recorded(s, "mgt3"),  # type: ignore[misc]
            SECONDS,
            "the voter's own certificate is recorded",
        )
    cluster.wait_until_all_active(mgt1, cluster.servers.values(), SECONDS)
    mgt3.kill()

    with thief.standing() as stand:
        wait_until(
            lambda: stand.count(STATUS) or stand.count(SUCCESSION) >= ASKED,
            SECONDS,
            "the thief is asked",
        )
        assert {request.path for request in stand.requests} == {SUCCESSION}
        assert "active" not in {states(s).get("mgt3") for s in (mgt1, mgt2)}
    mgt3.launch()
    cluster.wait_until_all_active(mgt1, cluster.servers.values(), SECONDS)
