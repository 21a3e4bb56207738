"""``show`` tells what goes on: a deletion, a join, a restart; and where members answer."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from collective.errors import RemovedError
from collective.failpoints import Step
from tests.harness import Cluster
from tests.harness.failpoints import FailPoints

pytestmark = pytest.mark.integration

SECONDS = 20.0


def test_deleted_server_says_so_when_delete_returns(make_cluster: Callable[..., Cluster]) -> None:
    """It said "no quorum" for seconds; of three, and of two, where one voice is no majority."""
    cluster = make_cluster(3)
    mgt1, mgt2, mgt3 = cluster.servers.values()
    for deleted in (mgt3, mgt2):
        mgt1.run("delete", deleted.name, "--force", check=True)
        shown = deleted.run("show")
        assert shown.code == RemovedError.exit_code, shown
        assert f"{deleted.name} was deleted from its collective" in shown.err
        assert "start the servers" not in shown.err


def test_join_that_goes_on_after_its_command_was_ended_is_shown(cluster: Cluster) -> None:
    """Before it is taken in the server is a collective of one, and nothing else would tell."""
    with FailPoints(cluster) as points:
        mgt1, mgt2 = cluster.add_running(2)
        token = mgt1.run("invite", "mgt2", check=True).out
        assert mgt2.show_json()["joining"] is None
        with points.at(Step.JOIN_PROVE, mgt2) as held:
            command = mgt2.popen("join", mgt1.door_name, "-i", "-")
            assert command.stdin is not None
            command.stdin.write(token)
            command.stdin.close()
            held.wait(SECONDS)
            command.send_signal(signal.SIGINT)
            command.wait(SECONDS)
            shown = mgt2.run("show", check=True)
            assert f"a join by way of {mgt1.door_name} runs here since" in shown.err
            assert mgt2.show_json()["joining"]["server"] == mgt1.door_name
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
        assert mgt2.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"
        assert mgt2.show_json()["joining"] is None


def test_readdress_says_who_does_not_answer_as_that_member(
    make_cluster: Callable[..., Cluster],
) -> None:
    """A wrong address was taken without a word, as the member was found elsewhere."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    right = mgt1.run("readdress", "--member", f"mgt2={mgt2.address}", check=True)
    assert f"mgt2 answers at {mgt2.address}" in right.err
    own = mgt1.run("readdress", "--member", f"mgt2={mgt1.address}")
    assert f"at {mgt1.address} nobody answers as mgt2: another server answers there" in own.err
    nobody = mgt1.run("readdress", "--member", "mgt2=127.0.0.9")
    assert "at 127.0.0.9 nobody answers as mgt2: cannot reach 127.0.0.9" in nobody.err
