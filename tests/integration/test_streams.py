"""Commands and a daemon whose standard streams take nothing: see ``unit/cli/test_streams`` too."""

from __future__ import annotations

import json

import pytest

from collective.errors import OutputError
from tests.harness import Cluster, Server

pytestmark = pytest.mark.integration


def pending(server: Server) -> list[str]:
    listed = json.loads(server.run("invite", "--list", "--json", check=True).out)
    return [invitation["name"] for invitation in listed["invitations"]]


def test_token_that_nobody_gets_lets_nobody_in(cluster: Cluster) -> None:
    """The invitation is taken back, and no other one is (submit50 121)."""
    (mgt1,) = cluster.add_running(1)
    mgt1.run("invite", "mgt3", check=True)
    command = mgt1.popen("invite", "mgt2")
    assert command.stdout is not None
    command.stdout.close()  # long before Python has started there
    _, told = command.communicate()
    assert command.returncode == OutputError.exit_code
    assert "the invitation for mgt2 was taken back" in told
    assert pending(mgt1) == ["mgt3"]


@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-", "2> >(true)"])
def test_daemon_whose_log_goes_nowhere_works_and_ends_well(cluster: Cluster, streams: str) -> None:
    """Its sockets and files do not get the numbers of the streams, and the status is 0."""
    mgt1 = cluster.add()
    mgt1.start(["bash", "-c", f'exec "$@" {streams}', "bash"])
    mgt1.wait_for_quorum()
    assert mgt1.stop() == 0
