"""Joins that meet trouble: wrong addresses, closed ports, rivals, kill -9, learners that are lost.

After each the collective has the members that it should have, no more, and the next join works.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from collective.daemon.joining import preflight
from collective.daemon.joining.preflight import Checks, reach_members
from collective.errors import InvitationError, RefusedError, UnreachableError
from collective.failpoints import Step
from collective.protocol.messages import Voter
from tests.harness import Cluster, Result, Server, temporary_folder, wait_until
from tests.harness.cluster import states
from tests.harness.failpoints import FailPoints
from tests.harness.running import Running
from tests.harness.trouble import assert_explained, assert_refused, facts, one_etcd, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 20.0
# Sum of all deadlines that a join which is refused may run into, and a busy machine.
REFUSAL_SECONDS = 15.0


@pytest.fixture
def etcd() -> Etcd:
    """One version: what etcd itself does in a join is tried on all of them elsewhere."""
    return one_etcd()


def listed(server: Server) -> dict[str, bool]:
    """Return etcd's members by their peer address, and whether each is a learner."""
    found = json.loads(server.etcdctl("member", "list", "-w", "json").out)["members"]
    return {url: member.get("isLearner", False) for member in found for url in member["peerURLs"]}


def voters(*servers: Server) -> dict[str, bool]:
    """Return what ``listed`` has when these servers, and no others, are voters."""
    plans = [
        json.loads(Path(server.layout.state, "server.json").read_text()) for server in servers
    ]
    return {f"https://{plan['address']}:{plan['peer_port']}": False for plan in plans}


def assert_collective_is(*servers: Server) -> None:
    """See that these and no others are members, as etcd, show and records have it."""
    for server in servers:
        wait_until(
            lambda server=server: listed(server) == voters(*servers),  # type: ignore[misc]
            SECONDS,
            f"{server.name} lists {[s.name for s in servers]} alone",
        )
        names = [member["name"] for member in server.show_json()["members"]]
        assert names == sorted(s.name for s in servers)


# Before any change ----------------------------------------------------------------------------


@pytest.mark.peers(4)
@pytest.mark.parametrize("address", ["127.0.0.9", "127.0.0.3"])
def test_wrong_advertised_address_is_found_by_dial_back(cluster: Cluster, address: str) -> None:
    """Nobody is there, or another server is: told before the membership changes."""
    mgt1 = cluster.add()
    mgt2 = cluster.add(address=address, listen="127.0.0.2")
    mgt3 = cluster.add()
    cluster.start_all([mgt1, mgt2, mgt3])
    for server in (mgt1, mgt2, mgt3):
        settle(server)
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1), facts(mgt2)

    result = mgt2.run("join", mgt1.door_name, input=token, timeout=REFUSAL_SECONDS)
    assert_refused(result, UnreachableError, f"{address}:{mgt2.port}", "setting 'address' on mgt2")
    after = facts(mgt1), facts(mgt2)
    assert after[0].members == before[0].members
    assert after[1] == before[1]
    assert_claimed_and_nothing_else(before[0].records, after[0].records)

    mgt2.configure(address="127.0.0.2")
    mgt2.restart()
    assert mgt2.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"
    # Alone it looks for nobody: a detour restarts etcd, which a dial-back would find closed.
    assert "detour" not in mgt2.log_text
    assert_collective_is(mgt1, mgt2)


def assert_claimed_and_nothing_else(before: Sequence[str], after: Sequence[str]) -> None:
    """See that of all records only an invitation differs, and that by its claim alone."""
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    for old, new in changed:
        assert {**json.loads(old), "claimed_by": None} == {**json.loads(new), "claimed_by": None}


def crashing_etcd(folder: Path) -> str:
    """Write a program that has a version and does nothing else."""
    path = folder / "etcd"
    path.write_text("#!/bin/sh\n[ $1 = --version ] && echo 'etcd Version: 3.5.9' || exit 1\n")
    path.chmod(0o755)
    return str(path)


def test_closed_peer_port_of_joiner_is_named(cluster: Cluster, tmp_path: Path, etcd: Etcd) -> None:
    """Its daemon answers, its etcd does not: a learner there could never catch up."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt1)
    settle(mgt2)
    mgt2.configure(etcd=crashing_etcd(tmp_path))
    mgt2.restart()
    token = mgt1.run("invite", "mgt2", check=True).out
    before = facts(mgt1)

    result = mgt2.run("join", mgt1.door_name, input=token, timeout=REFUSAL_SECONDS)
    assert_refused(
        result, UnreachableError, f"{mgt2.address}:{mgt2.peer_port}", "peer port", "mgt2"
    )
    after = facts(mgt1)
    assert after.members == before.members
    assert_claimed_and_nothing_else(before.records, after.records)

    mgt2.configure(etcd=str(etcd.etcd))
    mgt2.restart()
    mgt2.wait_for_quorum()
    assert mgt2.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"
    assert_collective_is(mgt1, mgt2)


def test_voter_whose_etcd_is_broken_is_no_reason_to_wait(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """The sponsor knows that it takes no part; nor is one that is down altogether."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    mgt4, mgt5 = cluster.add_running(2)
    mgt3.configure(etcd=crashing_etcd(tmp_path))
    mgt3.restart()
    wait_until(lambda: states(mgt1).get("mgt3") == "degraded", SECONDS, "mgt1 knows of it")
    cluster.join(mgt4, mgt1)
    mgt3.stop()
    wait_until(lambda: states(mgt1).get("mgt3") == "offline", SECONDS, "mgt1 knows that it is off")
    cluster.join(mgt5, mgt1)
    wait_until(
        lambda: listed(mgt1) == voters(mgt1, mgt2, mgt3, mgt4, mgt5), SECONDS, "mgt5 is a voter"
    )


@pytest.mark.parametrize("broken", [False, True])
def test_closed_peer_port_of_member_is_named(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joiner finds it itself, where its etcd runs: it would have to talk to it."""
    ports = 13002, 13003
    member = Voter("mgt3", "127.0.0.1", *ports, "0" * 64, broken)
    shown = {ports[0]: member.fingerprint}
    monkeypatch.setattr(preflight, "_fingerprint_at", lambda _, port: shown.get(port))
    checks, asked = Checks("join mgt1"), list[str]()

    def again() -> list[Voter]:
        asked.append("again")
        return [member]

    reach_members(checks, [member], again)
    if broken:
        assert checks.error is None
        return
    error = checks.error
    assert isinstance(error, UnreachableError)
    assert asked == ["again"], "it may have been deleted meanwhile"
    assert error.message == (
        f"mgt3 answers at 127.0.0.1:{ports[0]}, but its peer port {ports[1]} cannot be reached "
        "from here"
    )
    assert f"open TCP port {ports[1]}" in (error.hint or "")


@pytest.mark.parametrize("etcd_runs", [True, False])
def test_member_that_sees_no_other_does_not_join_elsewhere(
    make_cluster: MakeCluster, tmp_path: Path, etcd: Etcd, etcd_runs: bool
) -> None:
    """Just restarted, its records not read yet or not to be read, it still is of a collective."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    token = mgt3.run("invite", "mgt2", check=True).out
    before = facts(mgt1)
    mgt1.stop()
    mgt2.configure(etcd=str(etcd.etcd) if etcd_runs else crashing_etcd(tmp_path))
    mgt2.restart()

    result = mgt2.run("join", mgt3.door_name, input=token, timeout=60)
    assert_refused(result, RefusedError, "mgt2", "mgt1", "in a collective already")
    mgt2.configure(etcd=str(etcd.etcd))
    mgt2.restart()
    mgt1.start()
    mgt1.wait_for_quorum()
    assert facts(mgt1) == before
    assert_collective_is(mgt1, mgt2)


# Rivals ---------------------------------------------------------------------------------------


def finish(command: subprocess.Popen[str], seconds: float = 60.0) -> Result:
    """Wait for a command that was started with pipes."""
    out, err = command.communicate(timeout=seconds)
    return Result("join", command.returncode, out, err, 0.0)


def begin_join(server: Server, where: str, token: str) -> subprocess.Popen[str]:
    """Start a join and give it its token."""
    command = server.popen("join", where)
    assert command.stdin is not None
    command.stdin.write(token)
    command.stdin.flush()
    return command


@pytest.mark.peers(2, 30)
@pytest.mark.parametrize("via", ["one member", "two members"])
def test_parallel_joins_queue_and_all_succeed(make_cluster: MakeCluster, via: str) -> None:
    """Two servers at the same moment, through one member or two."""
    cluster = make_cluster(2 if via == "two members" else 1)
    members = list(cluster.servers.values())
    joiners = cluster.add_running(2)
    sponsors = [members[0], members[-1]]
    tokens = [
        s.run("invite", j.name, check=True).out for s, j in zip(sponsors, joiners, strict=True)
    ]
    commands = [
        begin_join(joiner, sponsor.door_name, token)
        for joiner, sponsor, token in zip(joiners, sponsors, tokens, strict=True)
    ]
    for result in [finish(command) for command in commands]:
        assert (result.code, result.out) == (0, "Success\n"), result.err
    assert_collective_is(*members, *joiners)


@pytest.fixture
def strangers() -> Iterator[Cluster]:
    """A second cluster, for a second server of the same name."""
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        yield cluster


def test_same_token_on_two_servers_lets_one_in(cluster: Cluster, strangers: Cluster) -> None:
    """Whoever is first has it; the other one is told, and is what it was."""
    mgt1, mgt2 = cluster.add_running(2)
    twin = strangers.add("mgt2", address="127.0.0.9")  # that of mgt1 would be refused
    strangers.start_all([twin])
    for server in (mgt1, mgt2, twin):
        settle(server)
    token = mgt1.run("invite", "mgt2", check=True).out
    alone = {server: facts(server) for server in (mgt2, twin)}

    where = f"{mgt1.address}:{mgt1.port}"
    commands = {server: begin_join(server, where, token) for server in (mgt2, twin)}
    results = {server: finish(command) for server, command in commands.items()}
    winners = [server for server, result in results.items() if result.code == 0]
    assert len(winners) == 1, [result.err for result in results.values()]
    (loser,) = results.keys() - set(winners)
    assert_refused_after_steps(results[loser])
    assert facts(loser) == alone[loser]
    assert_collective_is(mgt1, winners[0])


def assert_refused_after_steps(result: Result) -> None:
    assert (result.code, result.out) == (InvitationError.exit_code, "")
    assert_explained(result.err, "mgt2", "collective invite mgt2")


def test_second_join_on_one_server_is_refused(cluster: Cluster, strangers: Cluster) -> None:
    """A join that hangs is not overtaken by another one, and leaves nothing when it fails."""
    mgt1, mgt2 = cluster.add_running(2)
    (other,) = strangers.add_running(1)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    alone = facts(mgt2)
    other.pause()
    first = begin_join(mgt2, f"{other.address}:{other.port}", token)
    wait_until(lambda: first.poll() is None and "preflight" in peek(first), SECONDS, "it dials")
    second = mgt2.run("join", mgt1.door_name, input=token, timeout=REFUSAL_SECONDS)
    assert_refused(second, RefusedError, "another join is under way here")
    assert finish(first).code == UnreachableError.exit_code
    other.resume()
    assert facts(mgt2) == alone
    assert mgt2.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"


def peek(command: subprocess.Popen[str]) -> str:
    """Read one line of what a command tells of its steps."""
    assert command.stderr is not None
    return command.stderr.readline()


# Cut off --------------------------------------------------------------------------------------


def join_until(step: Step, cluster: Cluster, server: Server, where: str, token: str) -> None:
    """Run a join, and kill -9 the daemon of its server when it stands at a step."""
    with FailPoints(cluster) as points:
        server.environment.update(cluster.environment)
        server.restart()
        server.wait_for_quorum()
        command = ("join", where, "-i", "-")
        with points.at(step, server) as held, Running(server, command, token) as joining:
            held.wait(SECONDS)
            server.kill()
            joining.end()


@pytest.mark.peers(5)
def test_join_cut_off_is_finished_by_the_daemon_itself(cluster: Cluster) -> None:
    """Without the command: once the server has become a learner a restart is enough."""
    mgt1, mgt2 = cluster.add_running(2)
    token = mgt1.run("invite", "mgt2", check=True).out
    join_until(Step.JOIN_ADOPT, cluster, mgt2, mgt1.door_name, token)
    mgt2.start()
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    assert_collective_is(mgt1, mgt2)


def test_same_command_after_the_join_is_done_succeeds(cluster: Cluster) -> None:
    """Who repeats a join that was finished behind his back is told that all is well."""
    mgt1, mgt2 = cluster.add_running(2)
    token = mgt1.run("invite", "mgt2", check=True).out
    join_until(Step.JOIN_PROMOTE, cluster, mgt2, mgt1.door_name, token)
    mgt2.start()
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])
    mode = Path(mgt2.layout.state, "server.json")
    wait_until(lambda: '"mode": "member"' in mode.read_text(), SECONDS, "mgt2 is done")
    again = mgt2.run("join", mgt1.door_name, input=token)
    assert (again.code, again.out) == (0, "Success\n"), again.err


# Learners that are lost -----------------------------------------------------------------------


@pytest.mark.peers(1)
@pytest.mark.parametrize("step", [Step.JOIN_ADMITTED, Step.JOIN_ADOPT])
def test_learner_that_never_comes_up_is_evicted(make_cluster: MakeCluster, step: Step) -> None:
    """After learner_timeout it is out; others join, and so does it when it is back."""
    cluster = make_cluster(1, learner_timeout="2s")
    (mgt1,) = cluster.servers.values()
    mgt2, mgt3 = cluster.add_running(2)
    token = mgt1.run("invite", "mgt2", check=True).out
    join_until(step, cluster, mgt2, mgt1.door_name, token)
    wait_until(lambda: listed(mgt1) == voters(mgt1), SECONDS, "the learner is evicted")

    assert cluster.join(mgt3, mgt1).out == "Success\n"
    assert_collective_is(mgt1, mgt3)

    mgt2.start()
    if step is Step.JOIN_ADMITTED:
        # It never left its collective of one, whose etcd has just started.
        mgt2.wait_for_quorum()
    else:
        shown = mgt2.run("show")
        assert "error: " in shown.err or "warning: " in shown.err
    assert cluster.join(mgt2, mgt3).out == "Success\n"
    assert_collective_is(mgt1, mgt2, mgt3)


def test_join_waits_for_a_learner_that_is_lost(make_cluster: MakeCluster) -> None:
    """Who comes next has his turn as soon as the lost one is evicted, and says why it takes."""
    # Long enough for two joins to get to it on a busy machine.
    cluster = make_cluster(1, learner_timeout="15s")
    (mgt1,) = cluster.servers.values()
    mgt2, mgt3, mgt4 = cluster.add_running(3)
    token = mgt1.run("invite", "mgt2", check=True).out
    join_until(Step.JOIN_ADOPT, cluster, mgt2, mgt1.door_name, token)
    tokens = {joiner: mgt1.run("invite", joiner.name, check=True).out for joiner in (mgt3, mgt4)}
    waiting = [begin_join(joiner, mgt1.door_name, token) for joiner, token in tokens.items()]
    for result in [finish(command) for command in waiting]:
        assert (result.code, result.out) == (0, "Success\n"), result.err
        assert "another server is being taken in" in result.err
    assert_collective_is(mgt1, mgt3, mgt4)
