"""A server without a vote that speaks raft: promise P12, and P1 where it would stop all etcds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks import raft
from tests.attacks.hostile import MEMBERS, identity, propose, through_relay
from tests.harness import Cluster, Server
from tests.harness.health import records
from tests.integration.test_nonvoting import join_nonvoting, roles

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]


def write_through(servers: list[Server]) -> list[int]:
    """Write through each of some etcds; return how the commands ended.

    What was proposed to one of them before is in the log before it.
    """
    return [
        server.etcdctl("put", "written", server.name, check=False, timeout=30.0).code
        for server in servers
    ]


def test_forged_proposal_of_a_server_without_a_vote_makes_it_no_voter(
    make_cluster: MakeCluster,
) -> None:
    """With its own good certificate, at the peer port of each voter: no door opens."""
    cluster = make_cluster(3)
    voters = list(cluster.servers.values())
    mgt1 = voters[0]
    mgt4 = join_nonvoting(cluster, mgt1)
    pem = identity(Path(mgt4.layout.pki))
    before = records(mgt1)[MEMBERS + "mgt4"]
    forged = json.loads(before)
    assert forged["role"] == "nonvoting", "or this test proves nothing"
    forged |= {"role": "voter", "target": "voter"}
    seen = raft.Cluster.seen_by(mgt1)

    entry = raft.put(MEMBERS + "mgt4", json.dumps(forged, sort_keys=True))
    answers = {server.name: propose(server, pem, seen, entry) for server in voters}

    assert write_through(voters) == [0, 0, 0]
    assert {records(server)[MEMBERS + "mgt4"] for server in voters} == {before}
    assert {server.name: roles(server)["mgt4"] for server in voters} == dict.fromkeys(
        ("mgt1", "mgt2", "mgt3"), "nonvoting"
    )
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers)
    put = through_relay(mgt1, pem, "/kv/put", {"key": "Y29sbGVjdGl2ZS92MS9jaGFuZ2U="})
    assert not put.is_good, "a voter's daemon writes it no record either"


def test_garbage_of_a_server_without_a_vote_ends_no_etcd(make_cluster: MakeCluster) -> None:
    """What cannot be read would be in every log for good, and end every etcd at every start."""
    cluster = make_cluster(3)
    voters = list(cluster.servers.values())
    mgt4 = join_nonvoting(cluster, voters[0])
    pem = identity(Path(mgt4.layout.pki))
    seen = raft.Cluster.seen_by(voters[0])
    before = {server.name: server.etcd_pid for server in voters}
    assert None not in before.values()

    answers = {server.name: propose(server, pem, seen, raft.GARBAGE) for server in voters}
    written = write_through(voters)

    assert {server.name: server.etcd_pid for server in voters} == before
    assert written == [0, 0, 0]
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(answers)
    voters[0].wait_for_quorum()
