"""Leases belong to who made them: promises P4 and P12."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import collective
from collective.model.keyspace import COORDINATION, online_key
from tests.attacks.hostile import (
    REVOKED,
    Answer,
    Kept,
    at_door,
    at_peer_port,
    held_for,
    identity,
    through_relay,
)
from tests.harness import Cluster, Server
from tests.harness.health import records
from tests.harness.trouble import settle
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
Connect = Callable[[Server], collective.Collective]
#: For so long the doors are watched after an attack.
WATCHED_SECONDS = 3.0


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes handles, and closes them in the end."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(collective.connect(server.root, seconds=20.0))


def leases(server: Server) -> set[int]:
    """Return the leases that there are."""
    return {int(line, 16) for line in server.etcdctl("lease", "list").lines[1:] if line}


def bound(server: Server) -> dict[str, int]:
    """Return the places in queues for locks, and the invitations, with the lease of each."""
    found: dict[str, int] = {}
    for prefix in ("collective/coordination/", "collective/v1/invitations/"):
        listed = json.loads(server.etcdctl("get", "--prefix", prefix, "-w", "json").out)
        found |= {
            base64.b64decode(kv["key"]).decode(): kv["lease"] for kv in listed.get("kvs", ())
        }
    return found


def of_others(server: Server, name: str) -> set[int]:
    """Return the leases that there are, but for the one by which a server is known to be there."""
    own = bound(server).get(COORDINATION + online_key(name))
    return leases(server) - ({own} if own else set())


def attack_leases(voters: list[Server], pem: Path, found: set[int]) -> dict[str, Answer]:
    """Ask every voter's daemon to prolong, and to end, every lease that is another's."""
    return {
        f"{call} {lease:x} at {voter.name}": through_relay(
            voter, pem, f"/lease/{call}", {"ID": str(lease)}
        )
        for call in ("keepalive", "revoke")
        for lease in sorted(found)
        for voter in voters
    }


def good(answers: dict[str, Answer]) -> list[str]:
    """Return what was done."""
    return [asked for asked, answer in answers.items() if answer.is_good]


def keep_the_authority(server: Server) -> list[str]:
    """Return the option that lets a deletion replace no CA, where there are such.

    What is tried is that the *revocation* holds; a new CA would hide that it does not.
    """
    option = "--no-rekey"
    return [option] if option in server.run("delete", "--help").out else []


def test_revocation_of_a_deleted_server_outlives_every_lease(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """A server without a vote ends all leases that there are: both doors stay shut."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    rest = [mgt1, mgt2]
    mgt4 = join_nonvoting(cluster, mgt1)
    pem = identity(Path(mgt4.layout.pki))
    settle(mgt3)
    kept = Kept.of(mgt3, tmp_path / "kept", as_name="mgt2").pem
    assert all(at_peer_port(server, kept).is_good for server in rest), "or it proves nothing"
    mgt1.run("delete", "--force", *keep_the_authority(mgt1), "mgt3", check=True)
    mgt3.kill()
    revoked = {key for key in records(mgt1) if key.startswith(REVOKED)}
    assert revoked

    answers = attack_leases(rest, pem, of_others(mgt1, "mgt4"))

    assert held_for(WATCHED_SECONDS, lambda: are_shut(rest, kept)), "it is let in again"
    for server in rest:
        server.etcdctl("put", "written", server.name)
        assert {key for key in records(server) if key.startswith(REVOKED)} == revoked
    assert good(answers) == []


def are_shut(servers: list[Server], pem: Path) -> bool:
    """Tell whether both doors of some servers are shut to a certificate."""
    return not any(
        at_peer_port(server, pem).status is not None
        or at_door(server, pem, "GET", "/v1/status").is_good
        for server in servers
    )


def held(server: Server) -> dict[str, int]:
    """Return the lease of each key that is bound to one, but for what daemons and writes have."""
    found = bound(server).items()
    return {key: lease for key, lease in found if not ("/guards/" in key or "/online/" in key)}


def test_lease_is_prolonged_and_ended_by_its_creator_alone(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Sessions at a voter and at another server without a vote, and an invitation, live on."""
    cluster = make_cluster(2)
    mgt1, mgt2 = voters = [cluster["mgt1"], cluster["mgt2"]]
    mgt3, mgt4 = join_nonvoting(cluster, mgt1), join_nonvoting(cluster, mgt2)
    pem = identity(Path(mgt4.layout.pki))
    mgt1.run("invite", "mgt9", check=True)
    handles = [connect(server) for server in (mgt1, mgt3)]
    sessions = [handle.session() for handle in handles]
    holds = [
        handle.lock(f"of {handle.name}", session).acquire()
        for handle, session in zip(handles, sessions, strict=True)
    ]
    others = of_others(mgt1, "mgt4")
    before = held(mgt1)
    assert len(set(before.values()) & others) == 3, "or this test proves nothing"

    answers = attack_leases(voters, pem, others)

    assert held(mgt1) == before
    assert leases(mgt1) >= set(before.values())
    assert [session.is_held for session in sessions] == [True, True]
    assert good(answers) == []
    for hold in holds:
        hold.release()
    own = connect(mgt4).session()
    assert (made := leases(mgt1) - others), "a server without a vote has leases of its own"
    assert own.is_held
    assert good(attack_leases([mgt2], pem, made)), "and may end them itself"
