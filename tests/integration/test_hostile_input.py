"""A real daemon's network door under hostile input: clean answers, flat memory, members served."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from collective.etcd.arguments import CLIENT_SOCKET
from tests.fuzz.__main__ import parse
from tests.fuzz.crowd import claim_badly, dawdlers, idle
from tests.fuzz.hostile_server import join_without_vote, try_certificates
from tests.fuzz.inputs import Input, certificates, inputs, tokens, values
from tests.fuzz.target import Target, secrets_of
from tests.harness import Cluster
from tests.harness.doors import connect_unix, http_over
from tools.etcd_versions import etcds_in_use

# The door does not know which etcd is behind it.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize(
        "etcd", etcds_in_use()[-1:], indirect=True, ids=lambda e: e.version_text
    ),
]

MakeCluster = Callable[..., Cluster]

MEMORY = 24 << 20  # what the daemon may grow by, whatever a crowd or a flood of nonsense does
CROWD = 64 << 20  # the places for connections, all taken, and those that are being turned away
IN_TIME = 10.0  # a member's answer on a machine that is busy with other tests
RANGES = re.compile(r'grpc_server_handled_total\{.*grpc_method="Range"')
QUICK = settings(
    max_examples=250,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def target(make_cluster: MakeCluster) -> Target:
    """A member of two, with an invitation open."""
    cluster = make_cluster(2)
    token = cluster["mgt1"].run("invite", "mgt9", check=True).out
    return Target(cluster["mgt1"], cluster["mgt2"], secrets_of(cluster["mgt1"], token))


def linearizable_reads(target: Target) -> float:
    """Return how many ranges etcd was asked for, by what it says itself."""
    etcd = http_over(connect_unix(Path(target.server.layout.etcd_run) / CLIENT_SOCKET))
    etcd.request("GET", "/metrics")
    lines = etcd.getresponse().read().decode().splitlines()
    etcd.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if RANGES.match(line))


def test_hostile_requests_get_a_clean_answer_or_none(target: Target) -> None:
    """No traceback, no secret, no stranger let in; memory stays flat and members are answered."""

    @QUICK
    @given(inputs)
    @example(
        Input((b"POST /v1/enroll/admit HTTP/2.0\r\n\r\n0\r\n\r\n",), whole=False, member=False)
    )
    def attack(attempt: Input) -> None:
        target.attack(attempt)

    target.ask_as_member()
    before = target.memory()
    attack()
    slowest = target.ask_as_member()
    print(f"{target.sent} requests: {(target.memory() - before) / 2**20:.1f} MiB, {slowest:.3f} s")
    assert slowest < IN_TIME
    assert target.memory() - before < MEMORY
    # Or the inputs are too wild to reach what they are for.
    assert {200, 400, 403} <= target.answers.keys()


def test_hostile_texts_are_refused_in_our_own_words(target: Target) -> None:
    """Tokens, certificates, records, what members say: any garbage is an error that we know."""

    @QUICK
    @given(certificates, tokens, st.binary(max_size=200), values)
    def attack(certificate: str, token: str, octets: bytes, value: object) -> None:
        parse(certificate, token, octets, value)

    attack()


@pytest.mark.peers(2)
def test_certificates_that_are_none_of_ours_are_taken_nowhere(make_cluster: MakeCluster) -> None:
    """By who holds a good token, by members with a good certificate, and in the handshake."""
    cluster = make_cluster(2)
    server, member = cluster.servers.values()
    (guest,) = cluster.add_running(1)
    join_without_vote(guest, server)
    token = server.run("invite", "mgt9", check=True).out
    target = Target(server, member, secrets_of(server, token))
    assert try_certificates(target, guest, token) == []


def test_thousands_of_idle_connections_cost_little_and_keep_no_member_out(target: Target) -> None:
    """2,000 connections from 2,000 addresses, a few hundred with TLS; and then all that again."""
    target.ask_as_member()
    memory = [target.memory()]
    for _ in range(3):
        with ExitStack() as crowd:
            assert idle(target, crowd, count=2000, with_tls=300) > 1000
            assert target.ask_as_member() < IN_TIME
            memory.append(target.memory())
            assert target.server.run("show").code == 0
    print(f"idle connections: {[f'{m / 2**20:.1f} MiB' for m in memory]}")
    assert max(memory) - memory[0] < CROWD
    assert memory[-1] - memory[1] < MEMORY, "what a crowd takes is used again for the next one"
    target.judge_log()


def test_peers_that_send_a_byte_a_second_keep_nobody_out(target: Target) -> None:
    """In the handshake, in the head of a request, and in its body."""
    target.ask_as_member()
    before = target.memory()
    with dawdlers(target, each=50):
        assert max(target.ask_as_member() for _ in range(5)) < IN_TIME
        count, statuses = claim_badly(target, 20.0, 3)
        assert (count, statuses) == (3, {403})
    print(f"150 slow peers: {(target.memory() - before) / 2**20:.1f} MiB")
    assert target.memory() - before < MEMORY
    target.judge_log()


def test_flood_of_bad_proofs_does_not_ask_etcd_each_time(target: Target) -> None:
    """From however many addresses they come: the proof is judged on what is known here."""
    target.ask_as_member()
    before, reads = target.memory(), linearizable_reads(target)
    count, statuses = claim_badly(target, 60.0, 200)
    caused = linearizable_reads(target) - reads
    assert statuses == {403}
    assert target.ask_as_member() < IN_TIME
    assert target.memory() - before < MEMORY
    target.judge_log()
    print(f"{count} bad proofs: {caused:.0f} reads, {(target.memory() - before) / 2**20:.1f} MiB")
    assert caused < 0.8 * count
