"""Promises P4, P10 and P6: one deleted voter at its own door does a returning voter no harm.

The returning one was off when the other was deleted, so it takes it for a voter, and hears it
before it hears anybody else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import raft
from tests.attacks.hostile import identity
from tests.attacks.stand import Said, Stand
from tests.harness import Cluster, Server, wait_until
from tests.harness.health import state_of
from tests.harness.trouble import settle

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
SECONDS = 60.0
#: Four times in a row one voter's word once was enough; each is asked at most twice a second.
TOLD = 16


class Liar:
    """A deleted voter, mgt4, and what it says to mgt2, which does not know that it was deleted."""

    def __init__(self, cluster: Cluster, pem: Path) -> None:
        """Have mgt2 go off and mgt4 deleted.

        Args:
            cluster: of four voters.
            pem: where its key is kept.
        """
        mgt1, mgt2, _, mgt4 = cluster.servers.values()
        for server in cluster.servers.values():
            settle(server)
        pem.write_bytes(identity(Path(mgt4.layout.pki)).read_bytes())
        self._place, self._pem = (mgt4.address, mgt4.port), pem
        self._mgt2_id = f"{raft.Cluster.seen_by(mgt1).ids['mgt2']:016x}"
        self._collective = state_of(mgt2)["cluster_token"]
        mgt2.kill()
        mgt1.run("delete", "--force", "mgt4", check=True)
        mgt4.kill()

    def saying_deleted(self) -> Stand:
        """Say that mgt2 was deleted."""

        def answer(path: str, _raw: dict[str, Any]) -> Said:
            if path == "/v1/deleted":
                return Said.one(deleted=True)
            if path == "/v1/return":
                return self._remembers(0, 0)
            told = {"code": "removed", "message": "mgt2 was deleted from this collective"}
            return Said(({"error": told},), 403)

        return Stand(self._place, self._pem, answer)

    def saying_old(self) -> Stand:
        """Say that mgt2 once had a longer log than it has."""

        def answer(path: str, _raw: dict[str, Any]) -> Said:
            return self._remembers(9, 10**9) if path == "/v1/return" else Said.one(deleted=False)

        return Stand(self._place, self._pem, answer)

    def _remembers(self, term: int, index: int) -> Said:
        view = {"format": 1, "collective": self._collective, "revision": 1, "items": {}}
        return Said.one(view=json.dumps(view), member_id=self._mgt2_id, term=term, index=index)


def mode_of(server: Server) -> str:
    """Return what a server says that it is, "" while it does not answer."""
    document = server.ask_show()
    return str(document["mode"]) if document is not None else ""


def wait_for_quorum_as_member(server: Server) -> None:
    """Wait until a server proves a quorum; see that nothing else becomes of it meanwhile."""

    def back() -> bool:
        document = server.ask_show()
        assert mode_of(server) in ("", "member"), server.log_text[-2000:]
        return bool(document and document["quorum"])

    wait_until(back, SECONDS, f"{server.name} is back")


def test_deleted_voter_puts_no_returning_voter_to_rest(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """After a power cut it is the first to answer, and says so over and over; then others boot."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, _ = cluster.servers.values()
    liar = Liar(cluster, tmp_path / "kept.pem")
    mgt1.kill()
    mgt3.kill()

    with liar.saying_deleted().standing() as stand:
        mgt2.launch()
        mgt2.wait_until_ready()
        wait_until(
            lambda: len(stand.requests) >= TOLD or mode_of(mgt2) == "removed",
            SECONDS,
            "mgt2 is told over and over that it was deleted",
        )
        assert mode_of(mgt2) == "member"
        for server in (mgt1, mgt3):
            server.launch()
        for server in (mgt1, mgt2, mgt3):
            wait_for_quorum_as_member(server)
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3], SECONDS)


def test_deleted_voter_makes_the_data_of_no_returning_voter_old(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It is heard first, one honest voter is there, and the next one boots a moment later."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, _ = cluster.servers.values()
    liar = Liar(cluster, tmp_path / "kept.pem")
    mgt3.kill()

    with liar.saying_old().standing() as stand:
        mgt2.launch()
        wait_until(lambda: stand.count("/v1/return") > 0, SECONDS, "mgt2 has heard the liar")
        mgt3.launch()
        wait_for_quorum_as_member(mgt2)
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3], SECONDS)
