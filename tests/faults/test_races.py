"""Two or more commands at once, held at the moments that matter: joins, deletes, and both.

Each ends with a collective that is whole, and every command has either done what it was asked
for or said plainly why not. See test_leader_changes for leaders that change meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import pytest

from collective.errors import InvitationError, PendingError, QuorumError, RefusedError
from collective.failpoints import Step
from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.failpoints import FailPoints
from tests.harness.health import WITNESS, records, state_of, wait_until_whole
from tests.harness.running import Running
from tests.harness.server import CommandError
from tests.harness.trouble import one_etcd

pytestmark = [pytest.mark.integration, pytest.mark.faults]

SECONDS = 20.0
OK = "ended with 0"
ON_SPONSOR = [
    Step.SPONSOR_CLAIM,
    Step.SPONSOR_DIAL_BACK,
    Step.SPONSOR_RECORD,
    Step.SPONSOR_TRUST,
    Step.SPONSOR_ADD,
    Step.SPONSOR_RECORDED,
]


def named(step: Step) -> str:
    """Return a parameter's name."""
    return step.value


def ended(error: type[InvitationError | PendingError | QuorumError | RefusedError]) -> str:
    """Return how a command that was refused so ended."""
    return f"ended with {error.exit_code}"


@dataclass(frozen=True)
class Troupe:
    """A collective, and servers that are to join it."""

    cluster: Cluster
    points: FailPoints
    members: list[Server]
    joiners: list[Server]

    @property
    def everybody(self) -> list[Server]:
        return [*self.members, *self.joiners]


Gather = Callable[[int, int], Troupe]


@pytest.fixture
def gather(new_cluster: Callable[..., Cluster]) -> Iterator[Gather]:
    """Makes a collective of so many, and so many more servers."""
    opened: list[FailPoints] = []

    def make(members: int, joiners: int) -> Troupe:
        cluster = new_cluster()
        points = FailPoints(cluster)
        opened.append(points)
        inside = cluster.grow(members)
        inside[0].etcdctl("put", WITNESS, "kept")
        return Troupe(cluster, points, inside, cluster.add_running(joiners))

    yield make
    for points in opened:
        points.close()


def run(server: Server, *arguments: str, token: str = "") -> Running:
    """Start a command."""
    return Running(server, arguments, token)


def join(server: Server, sponsor: Server, token: str) -> Running:
    """Start a join."""
    return run(server, "join", f"{sponsor.address}:{sponsor.port}", "-i", "-", token=token)


@contextmanager
def join_beside_a_delete(
    troupe: Troupe, step: Step, sponsor: Server, token: str, delete: tuple[Server, Server]
) -> Iterator[Running]:
    """Have a server stand at a step of its join while another one is deleted, and go on then.

    The joiner may vote already, and cannot say there that it has cut the deleted server off.

    Args:
        troupe: with one joiner.
        step: where it stands.
        sponsor: through whom it joins.
        token: its own.
        delete: who deletes whom.
    """
    (joiner,), (by, target) = troupe.joiners, delete
    with troupe.points.at(step) as held, join(joiner, sponsor, token) as command:
        held.wait(SECONDS)
        with run(by, "delete", target.name, "--force") as deletion:
            said = deletion.end()
        waits = f"not cut off yet by {joiner.name} ("
        assert OK in said or (ended(PendingError) in said and waits in said), said
        held.go()
        yield command


def assert_joined(command: Running, joiner: Server, sponsor: Server, token: str) -> None:
    """See that a join that a test held has succeeded.

    Where it was held for longer than the call that waited for it, it says so, and the same
    command goes on; every other failure is one.
    """
    said = command.end()
    if "no answer within" in said:
        with join(joiner, sponsor, token) as again:
            said = again.end()
    assert OK in said


def invite(issuer: Server, server: Server) -> str:
    """Return a token."""
    return issuer.run("invite", server.name, check=True).out


# Joins ----------------------------------------------------------------------------------------


@pytest.fixture
def twin() -> Iterator[Server]:
    """A second server of the name mgt2, of which the first knows nothing."""
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        server = cluster.add("mgt2")
        server.start()
        server.wait_for_quorum()
        yield server


@pytest.mark.parametrize("step", [*ON_SPONSOR, Step.JOIN_ADOPT, Step.LEADER_PROMOTE], ids=named)
def test_second_server_with_a_token_in_use_is_refused(
    gather: Gather, twin: Server, step: Step
) -> None:
    """One token, two servers of that name: wherever the first one stands, the second is told."""
    troupe = gather(1, 1)
    (mgt1,), (mgt2,) = troupe.members, troupe.joiners
    token = invite(mgt1, mgt2)
    with troupe.points.at(step) as held, join(mgt2, mgt1, token) as first:
        held.wait(SECONDS)
        with join(twin, mgt1, token) as second:
            said = second.end()
        held.go()
        assert_joined(first, mgt2, mgt1, token)
    assert ended(InvitationError) in said
    assert "claimed by another server" in said
    wait_until_whole([mgt1, mgt2])
    assert state_of(twin)["mode"] == "member"


@pytest.mark.parametrize("via", ["one-sponsor", "two-sponsors"])
@pytest.mark.parametrize("step", [*ON_SPONSOR, Step.JOIN_ADOPT], ids=named)
@pytest.mark.peers(2)
def test_two_joins_at_once_both_succeed(gather: Gather, step: Step, via: str) -> None:
    """The second one comes while the first stands at a step of its own; they queue."""
    troupe = gather(2, 2)
    sponsors = troupe.members if via == "two-sponsors" else troupe.members[:1] * 2
    tokens = [invite(s, j) for s, j in zip(sponsors, troupe.joiners, strict=True)]
    with troupe.points.at(step) as held, join(troupe.joiners[0], sponsors[0], tokens[0]) as first:
        held.wait(SECONDS)
        second_at = Step.JOIN_PROVE
        with (
            troupe.points.at(second_at, troupe.joiners[1]) as beside,
            join(troupe.joiners[1], sponsors[1], tokens[1]) as second,
        ):
            beside.wait(SECONDS)
            beside.go()
            held.go()
            assert_joined(first, troupe.joiners[0], sponsors[0], tokens[0])
            assert OK in second.end()
    wait_until_whole(troupe.everybody)


@pytest.mark.peers(30)
def test_three_joins_at_once_all_succeed(gather: Gather) -> None:
    """Three servers, three tokens, one member, the same moment."""
    troupe = gather(1, 3)
    (mgt1,) = troupe.members
    tokens = [invite(mgt1, joiner) for joiner in troupe.joiners]
    commands = [join(j, mgt1, t) for j, t in zip(troupe.joiners, tokens, strict=True)]
    for command in commands:
        with command:
            assert OK in command.end()
    wait_until_whole(troupe.everybody)


@pytest.mark.peers(6)
def test_joiners_that_wait_together_are_taken_up_by_one_restart(gather: Gather) -> None:
    """The first voter stands in its turn meanwhile; those after it restart once for both."""
    troupe = gather(3, 2)
    mgt1, (first, second) = troupe.members[0], troupe.joiners
    tokens = [invite(mgt1, joiner) for joiner in troupe.joiners]
    with troupe.points.at(Step.TRUST_RESTART) as held, join(first, mgt1, tokens[0]) as one:
        standing = held.wait(SECONDS)
        with join(second, mgt1, tokens[1]) as other:
            key = f"collective/v1/members/{second.name}"
            wait_until(lambda: key in records(mgt1), SECONDS, "the second one is recorded")
            held.go()
            assert_joined(one, first, mgt1, tokens[0])
            assert_joined(other, second, mgt1, tokens[1])
    wait_until_whole(troupe.everybody)
    both = f"to take up names={first.name}, {second.name}"
    for server in (member for member in troupe.members if member is not standing):
        assert both in server.log_text, server.name


@pytest.mark.peers(6)
def test_voter_that_is_off_blocks_no_join_and_lets_the_joiner_in_later(gather: Gather) -> None:
    """It takes the certificate up when it starts, before its etcd does."""
    troupe = gather(3, 1)
    mgt1, mgt2, off = troupe.members
    (joiner,) = troupe.joiners
    off.kill()
    troupe.cluster.wait_for_leader([mgt1, mgt2], other_than=off)
    with join(joiner, mgt1, invite(mgt2, joiner)) as command:
        assert OK in command.end()
    off.start()
    wait_until_whole(troupe.everybody)


@pytest.mark.peers(7)
def test_token_is_good_at_another_member_after_its_issuer_is_gone(gather: Gather) -> None:
    """peers 7: any member, any time until it expires."""
    troupe = gather(3, 1)
    issuer, sponsor, _ = troupe.members
    (joiner,) = troupe.joiners
    token = invite(issuer, joiner)
    issuer.kill()
    troupe.cluster.wait_for_leader(troupe.members[1:], other_than=issuer)
    with join(joiner, sponsor, token) as command:
        assert OK in command.end()
    issuer.start()
    wait_until_whole(troupe.everybody)


# Joins and deletes ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [Step.DELETE_BEGIN, Step.DELETE_REMOVE], ids=named)
def test_join_during_the_delete_of_another_succeeds(gather: Gather, step: Step) -> None:
    """The delete stands at a step while a server joins from begin to end, or waits for it."""
    troupe = gather(3, 1)
    mgt1, mgt2, mgt3 = troupe.members
    (joiner,) = troupe.joiners
    token = invite(mgt2, joiner)
    with (
        troupe.points.at(step, mgt1) as held,
        run(mgt1, "delete", mgt3.name, "--force") as delete,
    ):
        held.wait(SECONDS)
        with join(joiner, mgt2, token) as command:
            # Whoever leads finishes the delete, so the join need not wait for what is held.
            assert OK in command.end()
        held.go()
        assert OK in delete.end()
    wait_until_whole([mgt1, mgt2, joiner], [mgt3])


@pytest.mark.parametrize(
    "step",
    [
        *ON_SPONSOR,
        Step.JOIN_CONFIRM,
        Step.TRUST_RESTART,
        Step.TRUST_DONE,
        Step.JOIN_ADOPTING,
        Step.JOIN_START,
        Step.LEADER_PROMOTE,
    ],
    ids=named,
)
def test_delete_of_another_during_a_join_succeeds(gather: Gather, step: Step) -> None:
    """The join stands at a step while a delete is made from begin to end."""
    troupe = gather(3, 1)
    mgt1, mgt2, mgt3 = troupe.members
    (joiner,) = troupe.joiners
    token = invite(mgt2, joiner)
    with join_beside_a_delete(troupe, step, mgt2, token, (mgt1, mgt3)) as command:
        assert_joined(command, joiner, mgt2, token)
    wait_until_whole([mgt1, mgt2, joiner], [mgt3])


@pytest.mark.parametrize("step", [*ON_SPONSOR, Step.JOIN_ADMITTED, Step.JOIN_ADOPT], ids=named)
def test_sponsor_is_deleted_while_it_takes_a_server_in(gather: Gather, step: Step) -> None:
    """The same token is good at another member, and no learner is left behind."""
    troupe = gather(3, 1)
    mgt1, sponsor, mgt3 = troupe.members
    (joiner,) = troupe.joiners
    token = invite(sponsor, joiner)
    with join_beside_a_delete(troupe, step, sponsor, token, (mgt1, sponsor)) as command:
        said = command.end()
    if OK not in said:
        with join(joiner, mgt3, token) as again:
            assert OK in again.end()
    wait_until_whole([mgt1, mgt3, joiner], [sponsor])


@pytest.mark.parametrize("step", [Step.JOIN_PROVE, Step.SPONSOR_ADD, Step.JOIN_START], ids=named)
def test_issuer_is_deleted_while_its_token_is_used(gather: Gather, step: Step) -> None:
    """A token is the collective's, not its issuer's."""
    troupe = gather(3, 1)
    issuer, sponsor, mgt3 = troupe.members
    (joiner,) = troupe.joiners
    token = invite(issuer, joiner)
    with join_beside_a_delete(troupe, step, sponsor, token, (mgt3, issuer)) as command:
        assert_joined(command, joiner, sponsor, token)
    wait_until_whole([sponsor, mgt3, joiner], [issuer])


@pytest.mark.parametrize("drop", [True, False], ids=["dropped", "joiner-killed"])
@pytest.mark.parametrize("step", ON_SPONSOR, ids=named)
def test_sponsor_of_a_broken_admission_can_itself_join_later(
    gather: Gather, step: Step, drop: bool
) -> None:
    """What a sponsor holds while it takes a server in is let go when that breaks off."""
    troupe = gather(2, 1)
    mgt1, sponsor = troupe.members
    (joiner,) = troupe.joiners
    token = invite(sponsor, joiner)
    with troupe.points.at(step) as held, join(joiner, sponsor, token) as command:
        held.wait(SECONDS)
        if drop:
            held.drop()
        else:
            joiner.kill()
            held.go()
            joiner.start()
        command.end()
    with join(joiner, mgt1, token) as again:
        assert OK in again.end()
    wait_until_whole(troupe.everybody)
    with run(sponsor, "delete") as leave:
        assert OK in leave.end()
    with join(sponsor, joiner, invite(mgt1, sponsor)) as back:
        assert OK in back.end()
    wait_until_whole(troupe.everybody)


def test_etcd_of_a_learner_that_is_killed_at_its_birth_comes_up(gather: Gather) -> None:
    """Killed before it had its first entry, or any moment later, it goes on catching up."""
    troupe = gather(1, 1)
    (mgt1,), (joiner,) = troupe.members, troupe.joiners
    for pause in (0.0, 0.01, 0.02, 0.04, 0.08, 0.16):
        token = invite(mgt1, joiner)
        with (
            troupe.points.at(Step.JOIN_ADOPT, joiner) as held,
            join(joiner, mgt1, token) as command,
        ):
            held.wait(SECONDS)
            held.go()
            wait_until(lambda: joiner.etcd_pid is not None, SECONDS, "etcd of the learner", 0.001)
            Event().wait(pause)
            joiner.kill_etcd()
            assert OK in command.end()
        wait_until_whole(troupe.everybody)
        mgt1.run("delete", joiner.name, "--force", check=True)
        wait_until(lambda: joiner.is_removed, SECONDS, "the joiner rests")


# Deletes --------------------------------------------------------------------------------------


def four_of_which_one_is_dead(gather: Gather) -> tuple[Troupe, list[Server]]:
    """Return four voters, three of which answer: so one may go, and no more."""
    troupe = gather(4, 0)
    *alive, dead = troupe.members
    dead.kill()
    troupe.cluster.wait_for_leader(alive, other_than=dead)
    return troupe, alive


@pytest.mark.parametrize("step", [Step.DELETE_BEGIN, Step.DELETE_REMOVE], ids=named)
def test_second_delete_that_would_cost_the_quorum_is_refused(gather: Gather, step: Step) -> None:
    """Each deletion alone is harmless, both are not: the second one sees the first (P1)."""
    troupe, (mgt1, mgt2, mgt3) = four_of_which_one_is_dead(gather)
    with (
        troupe.points.at(step, mgt1) as held,
        run(mgt1, "delete", mgt3.name, "--force") as first,
    ):
        held.wait(SECONDS)
        with run(mgt2, "delete", mgt1.name, "--force") as second:
            said = second.end()
        held.go()
        assert OK in first.end()
    assert ended(RefusedError) in said or ended(QuorumError) in said
    mgt1.wait_for_quorum()
    troupe.members[3].start()
    wait_until_whole([mgt1, mgt2, troupe.members[3]], [mgt3])


def test_two_members_that_delete_each_other_keep_the_quorum(gather: Gather) -> None:
    """Started at the same moment: at most one goes (P1)."""
    troupe, (mgt1, mgt2, mgt3) = four_of_which_one_is_dead(gather)
    with (
        run(mgt1, "delete", mgt2.name, "--force") as first,
        run(mgt2, "delete", mgt1.name, "--force") as second,
    ):
        said = [first.end(), second.end()]
    wait_until(lambda: is_settled(mgt3), SECONDS, "no change under way")
    names = {member["name"] for member in mgt3.wait_for_quorum()["members"]}
    gone = [server for server in (mgt1, mgt2) if server.name not in names]
    assert len(gone) <= 1
    assert sum(OK in text for text in said) <= len(gone), said
    left = [server for server in troupe.members if server not in gone]
    mgt3.wait_for_quorum()
    troupe.members[3].start()
    wait_until_whole(left, gone)


def is_settled(server: Server) -> bool:
    """Tell whether no change is under way: what a command began, whoever leads carries out."""
    try:
        change = records(server).get("collective/v1/change")
    except CommandError:  # no quorum, for a moment
        return False
    return change is None or bool(json.loads(change)["done"])


@pytest.mark.parametrize("step", [None, Step.DELETE_BEGIN, Step.DELETE_REMOVE, Step.DELETE_FINISH])
def test_two_deletes_of_the_same_member_both_succeed(gather: Gather, step: Step | None) -> None:
    """Both ask for the same, and it is made; nobody is told that it is not."""
    troupe = gather(3, 0)
    mgt1, mgt2, mgt3 = troupe.members
    arguments = ("delete", mgt3.name, "--force")
    if step is None:
        with run(mgt1, *arguments) as first, run(mgt2, *arguments) as second:
            assert OK in first.end()
            assert OK in second.end()
    else:
        with troupe.points.at(step) as held, run(mgt1, *arguments) as first:
            held.wait(SECONDS)
            with run(mgt2, *arguments) as second:
                assert OK in second.end()
            held.go()
            assert OK in first.end()
    wait_until_whole([mgt1, mgt2], [mgt3])
