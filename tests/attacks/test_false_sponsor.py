"""Promise P3: a joiner ends in the collective that its token was made in, or nowhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.hostile import Kept, fingerprint
from tests.attacks.sponsor import FalseSponsor
from tests.harness import Cluster, Server, wait_until
from tests.harness.cluster import states
from tests.harness.running import Running
from tests.harness.trouble import Facts, facts, settle, state_file
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
JOIN_SECONDS = 90.0


def try_to_join(joiner: Server, sponsor: FalseSponsor, token: str, before: Facts) -> str:
    """Have a server join; return what the command said, or how its state has changed.

    Args:
        joiner: the server.
        sponsor: stands already.
        token: for the join.
        before: what the server held.
    """
    place = f"{sponsor.server.address}:{sponsor.server.port}"
    with Running(joiner, ("join", place, "-i", "-"), token) as join:

        def changed() -> str:
            now = state_file(joiner).read_bytes()
            return "" if now == before.state else f"its state is {json.loads(now)}"

        wait_until(lambda: join.is_over or changed(), JOIN_SECONDS, "an end of the join")
        return changed() or join.end()


def assert_unmoved(joiner: Server, said: str, before: Facts) -> None:
    """See that a join failed, and that the server is what it was."""
    assert said.startswith("ended with "), said
    assert not said.startswith("ended with 0\n"), said
    assert "Traceback" not in said
    assert facts(joiner) == before
    aside = Path(joiner.layout.aside)
    assert not aside.exists() or not list(aside.iterdir())
    joiner.wait_for_quorum()


def assert_nothing_was_sent(sponsor: FalseSponsor, token: str) -> None:
    """See that a joiner asked a false sponsor who it is, at most; members ask it other things."""
    enrolling = {request for request in sponsor.requests if "/enroll/" in request.path}
    assert {(each.method, each.path) for each in enrolling} <= {("GET", "/v1/enroll/challenge")}
    assert {each.body for each in enrolling} <= {b""}
    seed = base64.b64decode(token.strip()).partition(b"@")[2][:32]
    assert not any(seed.hex().encode() in request.body for request in sponsor.requests)


def test_joiner_sends_nothing_to_a_server_without_a_vote(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """Its certificate is genuine, and on no guest list: not on the true one, and no other fits."""
    cluster = make_cluster(2)
    mgt1, mgt2 = voters = [cluster["mgt1"], cluster["mgt2"]]
    mgt3 = join_nonvoting(cluster, mgt1)
    (joiner,) = cluster.add_running(1)
    token = mgt1.run("invite", joiner.name, check=True).out
    settle(joiner)
    before = facts(joiner)
    kept = Kept.of(mgt3, tmp_path / "kept", as_name="mgt2").pem
    true = sorted(map(fingerprint, voters))
    lists = [true, sorted([*true, fingerprint(mgt3)]), [fingerprint(mgt3)], []]
    mgt3.kill()

    for guests in lists:
        with FalseSponsor(mgt3, kept, guests, voters).standing() as sponsor:
            said = try_to_join(joiner, sponsor, token, before)
        assert "guest list" in said
        assert_unmoved(joiner, said, before)
        assert_nothing_was_sent(sponsor, token)

    joiner.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    wait_until(
        lambda: states(mgt2).get(joiner.name) == "active", JOIN_SECONDS, "the joiner is taken in"
    )


def test_deleted_voter_takes_no_joiner_in_with_a_token_from_before(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It is on the token's guest list: so the others on it must have the claim, and have not."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    (joiner,) = cluster.add_running(1)
    token = mgt1.run("invite", joiner.name, check=True).out
    settle(joiner)
    settle(mgt3)
    before = facts(joiner)
    kept = Kept.of(mgt3, tmp_path / "kept", as_name="mgt2").pem
    guests = sorted(map(fingerprint, (mgt1, mgt2, mgt3)))
    mgt1.run("delete", "--force", "mgt3", check=True)
    mgt3.kill()

    with FalseSponsor(mgt3, kept, guests, [mgt1, mgt2]).standing() as sponsor:
        said = try_to_join(joiner, sponsor, token, before)

    assert "only 1 of 3 servers on the guest list" in said
    assert_unmoved(joiner, said, before)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
