"""Trust rounds: whom the voters' etcds let in, when they are restarted for it, and what waits."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from collective.errors import QuorumError
from collective.failpoints import Step
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import own, restarts_to_take_up, trusted_by_etcd
from tests.harness.cluster import is_calm, states
from tests.harness.failpoints import FailPoints
from tests.harness.trouble import settle
from tests.integration.test_nonvoting import join_nonvoting
from tests.integration.test_trouble_join import begin_join, finish

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 30.0


def assert_trust_is(*servers: Server) -> None:
    """See that the trust file of each of these voters has these, and nobody else."""
    wanted = {own(server) for server in servers}
    for server in servers:
        wait_until(lambda s=server: is_calm(s), SECONDS, f"{server.name} has calmed")  # type: ignore[misc]
        assert trusted_by_etcd(server) == wanted, server.name


def test_voters_trust_the_voters_and_no_server_without_a_vote(make_cluster: MakeCluster) -> None:
    """Each other's certificates are all that the trust files have."""
    cluster = make_cluster(3)
    voters = list(cluster.servers.values())
    assert_trust_is(*voters)
    mgt4 = join_nonvoting(cluster, voters[0])
    cluster.wait_until_all_active(voters[0], [*voters, mgt4])
    assert_trust_is(*voters)
    voters[0].run("promote", "mgt4", check=True)
    cluster.wait_until_all_active(mgt4, [*voters, mgt4])
    assert_trust_is(*voters, mgt4)


def test_joiners_that_wait_together_are_taken_up_by_one_restart(cluster: Cluster) -> None:
    """Two come while the sponsor's etcd waits for its turn: each voter restarts once for both."""
    with FailPoints(cluster) as points:
        mgt1, *_ = voters = cluster.grow(3)
        joiners = cluster.add_running(3)
        for server in (*voters, *joiners):
            settle(server)
        tokens = [mgt1.run("invite", joiner.name, check=True).out for joiner in joiners]
        before = {server: len(restarts_to_take_up(server)) for server in voters}
        # Whoever is restarted for the first of them is held in its turn, until all are recorded.
        points.forget()
        with points.at(Step.TRUST_RESTART) as held:
            waiting = [
                begin_join(joiner, mgt1.door_name, token)
                for joiner, token in zip(joiners, tokens, strict=True)
            ]
            first = held.wait(SECONDS)

            def recorded() -> bool:
                reached = [r.step for r in points.reached]
                return reached.count(Step.SPONSOR_RECORD) == len(joiners)

            wait_until(recorded, SECONDS, "all joiners are recorded")
            held.go()
            for result in [finish(command) for command in waiting]:
                assert (result.code, result.out) == (0, "Success\n"), result.err
        for server in (*voters, *joiners):
            cluster.wait_until_all_active(server, [*voters, *joiners])
        for server in voters:
            restarts = restarts_to_take_up(server)[before[server] :]
            # Its first restart was for those that were there by then.
            assert len(restarts) <= (2 if server is first else 1), restarts
        assert_trust_is(*voters, *joiners)


@pytest.mark.peers(6)
def test_member_that_is_off_blocks_no_join_and_takes_it_up_when_it_returns(
    make_cluster: MakeCluster,
) -> None:
    """Not even with none to spare; nor does a server without a vote that is off."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt4 = join_nonvoting(cluster, mgt1)
    mgt5, mgt6 = cluster.add_running(2)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3, mgt4])
    mgt3.kill()
    mgt4.kill()
    for joiner, via in ((mgt5, mgt1), (mgt6, mgt2)):
        token = via.run("invite", joiner.name, check=True).out
        result = joiner.run("join", via.door_name, "-i", "-", input=token, check=True)
        assert result.out == "Success\n"
    mgt3.start()
    mgt4.start()
    everybody = list(cluster.servers.values())
    for server in everybody:
        cluster.wait_until_all_active(server, everybody, SECONDS)
    assert_trust_is(mgt1, mgt2, mgt3, mgt5, mgt6)


def test_voter_whose_etcd_is_broken_blocks_no_join(make_cluster: MakeCluster) -> None:
    """Its daemon answers, and says so; it has had no part in the restarts of the others."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    (mgt4,) = cluster.add_running(1)
    mgt3.stop()
    store = Path(mgt3.layout.etcd_data, "member", "snap", "db")
    kept = store.read_bytes()
    store.write_bytes(b"garbage" * 10_000)
    mgt3.start()
    wait_until(lambda: states(mgt1)["mgt3"] != "active", SECONDS, "mgt3 takes no part")
    cluster.join(mgt4, mgt1)
    mgt3.stop()
    store.write_bytes(kept)
    mgt3.start()
    everybody = [mgt1, mgt2, mgt3, mgt4]
    for server in everybody:
        cluster.wait_until_all_active(server, everybody, SECONDS)
    assert_trust_is(*everybody)


def test_pause_for_all_is_told_before(make_cluster: MakeCluster) -> None:
    """With one voter, or two, none can be spared; with three there is nothing to tell."""
    cluster = make_cluster(1)
    (mgt1,) = cluster.servers.values()
    told = []
    for joiner in cluster.add_running(3):
        token = mgt1.run("invite", joiner.name, check=True).out
        result = joiner.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
        steps = [line.split(": ")[1] for line in result.err.splitlines()]
        told.append([line for line in result.err.splitlines() if ": pause: " in line])
        assert [s for s in steps if s in ("record", "trust", "add")] == ["record", "trust", "add"]
    assert [len(lines) for lines in told] == [1, 1, 0]
    assert "once for less than a second" in told[0][0]
    assert "2 times for less than a second" in told[1][0]


def test_steps_of_a_join_are_told_in_their_order(make_cluster: MakeCluster) -> None:
    """Those of the design, by their names, with and without a vote."""
    cluster = make_cluster(3)
    mgt1 = cluster["mgt1"]
    mgt4, mgt5 = cluster.add_running(2)
    begin = ["preflight", "dial", "prove", "confirm", "dial-back", "record"]
    for joiner, option, rest in (
        (mgt4, (), ["trust", "add", "adopt", "start", "promote", "ready"]),
        (mgt5, ("-n",), ["adopt", "start", "ready"]),
    ):
        token = mgt1.run("invite", *option, joiner.name, check=True).out
        result = joiner.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
        lines = [line.split(": ") for line in result.err.splitlines()]
        steps = [words[1] for words in lines if words[1] in {*begin, *rest}]
        assert steps == [*begin, *rest]


# A record that is of no use --------------------------------------------------------------------


def put_certificates(via: Server, name: str, certificates: list[str]) -> None:
    """Write other certificates into a member's record, as an etcdctl by hand would."""
    key = f"collective/v1/members/{name}"
    record = json.loads(via.etcdctl("get", key, "--print-value-only").out)
    record["certificates"] = certificates
    via.etcdctl("put", key, "--", json.dumps(record))


BROKEN = {
    "no certificate": "hello",
    "no base64": "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
    "no DER": (
        "-----BEGIN CERTIFICATE-----\n"
        + base64.b64encode(b"\x30\x03\x02\x01\x01" * 20).decode()
        + "\n-----END CERTIFICATE-----\n"
    ),
    "too long": "x" * 100_000,
}


@pytest.mark.parametrize("how", BROKEN)
def test_member_whose_certificate_is_broken_is_left_out_alone_and_named(
    make_cluster: MakeCluster, how: str
) -> None:
    """The others go on, also over restarts, take a server in, and can delete it."""
    cluster = make_cluster(4)
    mgt1, mgt2, mgt3, mgt4 = cluster.servers.values()
    (mgt5,) = cluster.add_running(1)
    settle(mgt4)
    put_certificates(mgt1, "mgt4", [BROKEN[how]])

    def named(server: Server) -> bool:
        document = server.ask_show()
        told = document["errors"] if document is not None and document["quorum"] else []
        return any(text.startswith("mgt4 is left out") for text in told)

    others = [mgt1, mgt2, mgt3]
    for server in others:
        wait_until(lambda s=server: named(s), SECONDS, f"{server.name} names mgt4")  # type: ignore[misc]
    shown = mgt1.run("show")
    assert "warning: mgt4 is left out, and not let in" in shown.err
    assert "Traceback" not in "".join(server.log_text for server in others)
    mgt2.restart()
    cluster.wait_for_leader(others)
    cluster.join(mgt5, mgt1)
    assert states(mgt5)["mgt5"] == "active"
    mgt1.run("delete", "--force", "mgt4", check=True)
    now = [*others, mgt5]
    for server in now:
        cluster.wait_until_all_active(server, now, SECONDS)


# Before etcd starts ----------------------------------------------------------------------------


def test_etcd_of_a_voter_waits_for_a_majority_and_show_names_whom(
    make_cluster: MakeCluster,
) -> None:
    """Alone it starts nothing and says for whom it waits; one more, and both begin."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = servers = list(cluster.servers.values())
    for server in servers:
        settle(server)
    for server in servers:
        server.kill()
    mgt2.start()

    def waits() -> bool:
        return "mgt2 waits for mgt1 or mgt3" in mgt2.run("show").err

    wait_until(waits, SECONDS, "mgt2 says for whom it waits")
    shown = mgt2.run("show")
    assert shown.code == QuorumError.exit_code
    assert "etcd does not start before a majority of the voters has answered" in shown.err
    assert mgt2.etcd_pid is None
    listed = {member["name"] for member in mgt2.show_json()["members"]}
    assert listed == {"mgt1", "mgt2", "mgt3"}

    mgt3.start()
    cluster.wait_for_leader([mgt2, mgt3])
    assert "waits for" not in mgt2.run("show", check=True).err
    mgt1.start()
    for server in servers:
        cluster.wait_until_all_active(server, servers)


def test_restart_of_the_daemon_alone_waits_for_others_that_run(make_cluster: MakeCluster) -> None:
    """Two voters: the second must answer, since it may know of a deletion; and it does."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    settle(mgt2)
    mgt2.pause()
    mgt1.restart()
    wait_until(
        lambda: "mgt1 waits for mgt2" in mgt1.run("show").err, SECONDS, "mgt1 waits for mgt2"
    )
    assert mgt1.etcd_pid is None
    mgt2.resume()
    for server in (mgt1, mgt2):
        cluster.wait_until_all_active(server, [mgt1, mgt2])
