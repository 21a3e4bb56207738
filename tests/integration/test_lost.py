"""Servers that come back without their data, or that cannot move it: they rest, and say why.

The numbers are those of the list of what users of such systems suffer from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collective.errors import CollectiveError, LostError, RemovedError
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import own
from tests.harness.cluster import states
from tests.harness.trouble import assert_explained, assert_refused, settle, state_file

pytestmark = pytest.mark.integration

SECONDS = 20.0


def assert_lost(server: Server, *words: str) -> None:
    """See that a server rests since its data is not what it was, and says so."""
    wait_until(lambda: mode(server) == "lost", SECONDS, f"{server.name} knows that it is lost")
    shown = server.run("show")
    assert shown.code == LostError.exit_code, shown.err
    assert shown.lines[0] == "Quorum: False"
    assert_explained(shown.err, *words)
    assert server.etcd_pid is None
    for command in (["invite", "mgt9"], ["delete"]):
        assert server.run(*command).code == LostError.exit_code


def mode(server: Server) -> str:
    document = server.ask_show()
    return str(document["mode"]) if document else ""


def replace_by_join(server: Server, via: Server) -> None:
    """Take a server that is lost in again."""
    token = via.run("invite", "--replace", server.name, check=True).out
    server.run("join", via.door_name, "-i", "-", input=token, check=True)


def test_peers_8_member_with_lost_data_rests_until_it_is_invited_again(cluster: Cluster) -> None:
    """Neither an empty member that votes nor a second collective under the old name."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    mgt3.stop()
    shutil.rmtree(mgt3.layout.etcd_data)
    mgt3.start()
    assert_lost(mgt3, mgt3.layout.etcd_data, "mgt3", "collective join")
    assert not Path(mgt3.layout.etcd_data).exists()
    mgt3.restart()
    assert_lost(mgt3, mgt3.layout.etcd_data)
    assert states(mgt1) == {"mgt1": "active", "mgt2": "active", "mgt3": "offline"}

    former = own(mgt3)
    replace_by_join(mgt3, mgt1)
    for server in (mgt1, mgt2, mgt3):
        cluster.wait_until_all_active(server, [mgt1, mgt2, mgt3])
    assert own(mgt3) != former, "the former one was revoked when it was put out"


def test_data_that_is_put_back_makes_a_member_again(cluster: Cluster) -> None:
    """Etcd's data or the certificates, gone at a start and there at the next."""
    mgt1, mgt2 = cluster.grow(2)
    settle(mgt2)
    for path in (Path(mgt2.layout.etcd_data), Path(mgt2.layout.pki)):
        mgt2.stop()
        away = path.rename(path.with_name("kept"))
        mgt2.start()
        assert_lost(mgt2, str(path))
        mgt2.stop()
        away.rename(path)
        mgt2.start()
        for server in (mgt1, mgt2):
            cluster.wait_until_all_active(server, [mgt1, mgt2])
    assert mode(mgt2) == "member"


def test_server_without_data_and_certificates_can_join_again(cluster: Cluster) -> None:
    """All but the state file is gone: it still knows that it was a member."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    mgt3.stop()
    shutil.rmtree(mgt3.layout.etcd_data)
    shutil.rmtree(mgt3.layout.pki)
    mgt3.start()
    assert_lost(mgt3, mgt3.layout.etcd_data, mgt3.layout.pki)
    replace_by_join(mgt3, mgt2)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])


def test_data_that_goes_away_under_a_running_server_is_not_made_anew(cluster: Cluster) -> None:
    """Etcd, restarted on an empty folder, would be the old member that forgot its promises."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    settle(mgt3)
    shutil.rmtree(mgt3.layout.etcd_data)
    mgt3.kill_etcd()
    assert_lost(mgt3, mgt3.layout.etcd_data)
    assert not (Path(mgt3.layout.etcd_data) / "member" / "wal").exists()
    replace_by_join(mgt3, mgt1)
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2, mgt3])


def test_only_server_that_lost_its_data_begins_again_when_told(cluster: Cluster) -> None:
    """There is nobody to invite it: gencert makes a new collective, and nothing else does."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.stop()
    shutil.rmtree(mgt1.layout.etcd_data)
    mgt1.start()
    assert_lost(mgt1, mgt1.layout.etcd_data)
    mgt1.run("gencert", check=True)
    mgt1.wait_for_quorum()
    assert list(Path(mgt1.layout.aside).glob("*/pki"))


def test_lost_member_begins_no_collective_of_its_own(cluster: Cluster) -> None:
    """While others hold the collective, gencert is refused, for founder and joiner alike."""
    mgt1, mgt2 = cluster.grow(2)
    for server in (mgt1, mgt2):
        settle(server)
    for server in (mgt1, mgt2):
        server.stop()
        shutil.rmtree(server.layout.etcd_data)
        server.start()
        assert_lost(server)
        assert_refused(server.run("gencert"), LostError, server.layout.etcd_data)


# Data that cannot be moved --------------------------------------------------------------------


@contextmanager
def in_the_way(path: Path) -> Iterator[None]:
    """Put a file in the place of a folder that is not there yet."""
    path.write_text("in the way")
    yield
    assert path.read_text() == "in the way"
    path.unlink()


def test_deleted_server_that_cannot_move_its_data_stays_up_and_goes_on(cluster: Cluster) -> None:
    """No crash loop, nothing lost; mended and restarted, it rests like any other."""
    mgt1, mgt2, mgt3 = cluster.grow(3)
    # It joined, so it has set data aside before.
    shutil.rmtree(mgt3.layout.aside)
    with in_the_way(Path(mgt3.layout.aside)):
        mgt1.run("delete", "mgt3", "--force", check=True)
        wait_until(lambda: mode(mgt3) == "leaving", SECONDS, "mgt3 tried")
        for _ in range(2):
            shown = mgt3.run("show")
            assert shown.code == CollectiveError.exit_code
            assert_explained(shown.err, "could not be moved aside", mgt3.layout.aside, "restart")
            assert mgt3.etcd_pid is None
            assert Path(mgt3.layout.etcd_log).exists()
            mgt3.restart()
    mgt3.restart()
    assert mgt3.run("show").code == RemovedError.exit_code
    assert list(Path(mgt3.layout.aside).glob("*-removed/etcd/member/wal"))
    cluster.join(mgt3, mgt2)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2, mgt3])


def test_joiner_that_cannot_move_its_data_stays_up_and_goes_on(cluster: Cluster) -> None:
    """It is admitted by then: when mended, a restart finishes the join."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt2)
    with in_the_way(Path(mgt2.layout.aside)):
        token = mgt1.run("invite", "mgt2", check=True).out
        result = mgt2.run("join", mgt1.door_name, "-i", "-", input=token)
        assert result.code == CollectiveError.exit_code
        assert mgt2.layout.aside in result.err
        for _ in range(2):
            shown = mgt2.run("show")
            assert shown.code == CollectiveError.exit_code
            assert_explained(shown.err, "could not be moved aside", mgt2.layout.aside, "restart")
            assert '"adopting"' in state_file(mgt2).read_text()
            mgt2.restart()
    mgt2.restart()
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])


def test_joiner_that_could_not_move_its_data_is_mended_by_the_same_command(
    cluster: Cluster,
) -> None:
    """Nobody has to restart anything, where the command is run again."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt2)
    token = mgt1.run("invite", "mgt2", check=True).out
    with in_the_way(Path(mgt2.layout.aside)):
        assert mgt2.run("join", mgt1.door_name, "-i", "-", input=token).code != 0
    mgt2.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])


# Deleted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", ["both", "one"])
def test_peers_8_server_deleted_while_off_rests_when_it_returns(
    cluster: Cluster, others: str
) -> None:
    """On its old data, with two voters left or one; its etcd is not even started.

    One of the two that it knows may be a deleted server that lies: it waits for the other.
    """
    mgt1, mgt2, mgt3 = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    former = own(mgt3)
    mgt1.run("delete", "mgt3", check=True)
    if others == "one":
        mgt2.kill()
    begun = len(mgt3.log_text)
    mgt3.start()
    if others == "one":
        wait_until(
            lambda: "was deleted from its collective, mgt1 says" in mgt3.run("show").err,
            SECONDS,
            "it is told",
        )
        assert not mgt3.is_removed
        mgt2.start()
    wait_until(lambda: mgt3.is_removed, SECONDS, "mgt3 knows that it was deleted")
    assert "etcd started" not in mgt3.log_text[begun:]
    shown = mgt3.run("show")
    assert shown.code == RemovedError.exit_code
    assert_explained(shown.err, "mgt3 was deleted", "set-aside")
    assert list(Path(mgt3.layout.aside).glob("*-removed/etcd/member/wal"))
    assert own(mgt3) != former, "what opens no door any more is of no use to it"
