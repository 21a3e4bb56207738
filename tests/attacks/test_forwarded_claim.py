"""Promise P3: a joiner's claim that somebody else makes for it leads nowhere.

A voter that was put out is on the guest list of the tokens from before, so joiners speak to it. It
knows the seed of those that it made, or has seen: so it can claim the invitation at an honest one
for the joiner's own certificate, and a majority of the list has the claim. It hands out what is
true, and itself beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.enrolling import claim
from tests.attacks.hostile import MEMBERS, fingerprint, identity
from tests.attacks.sponsor import admission, challenge, prospect
from tests.attacks.stand import Said, Stand
from tests.attacks.test_false_sponsor import assert_unmoved
from tests.harness import Cluster, Server, wait_until
from tests.harness.health import records, state_of
from tests.harness.running import Running
from tests.harness.trouble import facts, settle, state_file

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
JOIN_SECONDS = 90.0
ADMITTING = "/v1/enroll/admit"


class Forwarder:
    """mgt3, while it is a voter, and then at its door when it is none any more."""

    def __init__(self, cluster: Cluster, pem: Path, token: str, is_in_the_list: bool) -> None:
        """Keep what it has and knows.

        Args:
            cluster: of three voters.
            pem: where its key is kept.
            token: that it has made, or seen.
            is_in_the_list: whether it hands itself out as a member of etcd.
        """
        self._honest = [cluster["mgt1"], cluster["mgt2"]]
        self._server, self._token = cluster["mgt3"], token
        self._is_in_the_list = is_in_the_list
        pem.write_bytes(identity(Path(self._server.layout.pki)).read_bytes())
        self._pem = pem
        self._guests = {fingerprint(server): server.name for server in cluster.servers.values()}
        self._records = {
            name: json.loads(records(self._honest[0])[MEMBERS + name])
            for name in self._guests.values()
        }
        self._collective = state_of(self._server)["cluster_token"]
        self._asked: dict[str, Any] = {}
        self.forwarded: list[tuple[int, str]] = []

    def stand(self) -> Stand:
        """Return where it stands, when it is not a voter any more."""
        return Stand((self._server.address, self._server.port), self._pem, self._answer)

    def _answer(self, path: str, raw: dict[str, Any]) -> Said:
        if path.endswith("/challenge"):
            return Said((challenge("mgt3", self._guests),))
        if path.endswith("/claim"):
            self._asked.update(raw)
            if not raw["dry_run"]:
                self._forward(raw)
            return Said((prospect(self._honest),))
        if path == ADMITTING:
            return Said.one(result=self._admission())
        return Said.one(deleted=False, steps=[], wants="")

    def _forward(self, raw: Mapping[str, Any]) -> None:
        ports = raw["door_port"], raw["peer_port"]
        sponsor = self._honest[0]
        said = claim(sponsor, self._token, raw["certificate"], raw["addresses"], ports)
        self.forwarded.append(said)

    def _admission(self) -> dict[str, Any]:
        itself = {"role": "learner", "member_id": "00000000000000fe"}
        known = {**self._records, "mgt3": {**self._records["mgt3"], **itself}}
        in_etcd = ["mgt3"] if self._is_in_the_list else ["mgt1", "mgt2"]
        return admission(self._asked, self._collective, known, in_etcd)


def wait_for_end_of_join(joiner: Server, sponsor: Server, token: str, before: bytes) -> str:
    """Have a server join; return how the command ended, or what its state has become."""
    with Running(joiner, ("join", sponsor.door_name, "-i", "-"), token) as join:

        def changed() -> str:
            now = state_file(joiner).read_bytes()
            return "" if now == before else f"its state is {json.loads(now)}"

        wait_until(lambda: join.is_over or changed(), JOIN_SECONDS, "an end of the join")
        return changed() or join.end()


DELETE, DEMOTE = ("delete", "--force"), ("demote",)


@pytest.mark.parametrize(
    ("issuer", "command", "is_in_the_list"),
    [
        ("mgt3", DELETE, False),
        ("mgt1", DELETE, False),
        ("mgt1", DELETE, True),
        ("mgt1", DEMOTE, False),
    ],
    ids=["its-own", "seen-by-it", "seen-by-it-and-itself-in-etcd", "seen-by-it-demoted"],
)
def test_voter_that_was_put_out_takes_no_joiner_in_with_a_claim_that_it_forwards(
    make_cluster: MakeCluster,
    tmp_path: Path,
    issuer: str,
    command: tuple[str, ...],
    is_in_the_list: bool,
) -> None:
    """Whoever made the token, whatever it hands out as etcd's members: the joiner is as before."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    settle(mgt3)
    token = cluster[issuer].run("invite", "mgt4", check=True).out
    forwarder = Forwarder(cluster, tmp_path / "kept.pem", token, is_in_the_list)
    (joiner,) = cluster.add_running(1)
    settle(joiner)
    before = facts(joiner)
    mgt1.run(*command, "mgt3", check=True)
    mgt3.kill()

    with forwarder.stand().standing() as stand:
        said = wait_for_end_of_join(joiner, mgt3, token, before.state)

    assert_unmoved(joiner, said, before)
    assert stand.count("/v1/enroll/claim"), "the joiner speaks to it, or this proves nothing"
    if issuer != "mgt3":
        assert [status for status, _ in forwarder.forwarded][:1] == [200], "nor does this"
        assert stand.count(ADMITTING), "nor this"
    assert "mgt4" not in {key.rpartition("/")[2] for key in records(mgt2) if MEMBERS in key}
