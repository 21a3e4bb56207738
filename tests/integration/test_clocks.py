"""Time has no part in trust: servers whose clocks say another year, without a battery for example.

Daemon and etcd of such a server both live in that year. The numbers are those of the list of what
users of such systems suffer from.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collective.errors import InvitationError
from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.clocks import ClockShifter, NoClockError, clock_shifter
from tests.harness.trouble import settle
from tools.etcd_versions import Etcd, etcds_in_use

pytestmark = pytest.mark.integration

YEARS = (1970, 2012, 2099)
SECONDS = 60.0


@pytest.fixture(scope="module")
def shifter() -> Iterator[ClockShifter]:
    """What gives a process another time; skips where there is no such thing."""
    with temporary_folder() as folder:
        try:
            yield clock_shifter(folder)
        except NoClockError as error:
            pytest.skip(f"no other time of day: {error}")


def add_in(cluster: Cluster, year: int, shifter: ClockShifter) -> Server:
    """Add a server for which a year has just begun, and start it."""
    server = cluster.add()
    server.prefix = shifter.to(year)
    server.start()
    server.wait_for_quorum(SECONDS)
    return server


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("etcd", etcds_in_use(), ids=lambda etcd: f"etcd-{etcd.version_text}")
def test_etcd_lives_in_another_year(shifter: ClockShifter, etcd: Etcd, year: int) -> None:
    """Or the other tests here would prove nothing of it; Go asks for the time without libc."""
    assert etcd.etcdctl is not None
    command = [str(etcd.etcdctl), "--endpoints=127.0.0.1:1", "endpoint", "health"]
    said = subprocess.run(
        [*shifter.to(year), *command],
        env={"ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert f'"ts":"{year}-01-01T' in said.stderr


@pytest.mark.peers(16, 17)
@pytest.mark.parametrize("year", YEARS)
def test_server_of_another_year_forms_joins_and_is_joined(
    cluster: Cluster, shifter: ClockShifter, year: int
) -> None:
    """It is the first one, joined by one of today; and then one more of it joins these."""
    mgt1 = add_in(cluster, year, shifter)
    (mgt2,) = cluster.add_running(1)
    cluster.join(mgt2, mgt1)
    mgt3 = add_in(cluster, year, shifter)
    token = mgt2.run("invite", "mgt3", check=True).out
    checked = mgt3.run("join", "--check", mgt2.door_name, "-i", "-", input=token, check=True)
    (clock,) = [line for line in checked.lines if " clock: " in line]
    assert clock.startswith("ok ")
    assert "warning: the clock here is" in clock
    joined = mgt3.run("join", mgt2.door_name, "-i", "-", input=token, check=True)
    assert joined.out == "Success\n"
    servers = [mgt1, mgt2, mgt3]
    for server in servers:
        cluster.wait_until_all_active(server, servers, SECONDS)

    for server in (mgt3, mgt2):
        server.run("gencert", check=True)
        settle(server)
    for server in servers:
        server.restart()
        cluster.wait_until_all_active(server, servers, SECONDS)
    mgt2.run("delete", "--force", "mgt3", check=True)
    wait_until(lambda: mgt3.is_removed, SECONDS, "mgt3 knows that it was deleted")
    assert mgt1.wait_for_quorum(SECONDS)["voters"] == 2


@pytest.mark.peers(16, 17)
def test_server_that_wakes_up_in_another_year_takes_part_and_lets_nobody_in_longer(
    cluster: Cluster, shifter: ClockShifter
) -> None:
    """A battery that died, or a clock that was set: neither trust nor an invitation's time."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    (mgt4,) = cluster.add_running(1)
    for server, year in zip(servers, YEARS, strict=True):
        settle(server)
        server.stop()
        server.prefix = shifter.to(year)
        server.start()
        cluster.wait_until_all_active(server, servers, SECONDS)
    token = mgt1.run("invite", "--ttl", "10s", "mgt4", check=True).out
    good = mgt3.run("invite", "mgt5", check=True).out
    wait_until(
        lambda: "mgt4" not in mgt2.run("invite", "--list", check=True).out,
        SECONDS,
        "the invitation has ended",
    )
    assert "mgt5" in mgt1.run("invite", "--list", check=True).out
    late = mgt4.run("join", mgt3.door_name, "-i", "-", input=token)
    assert late.code == InvitationError.exit_code, late.err
    (mgt5,) = cluster.add_running(1)
    mgt5.run("join", mgt2.door_name, "-i", "-", input=good, check=True)
    for server in (*servers, mgt5):
        cluster.wait_until_all_active(server, [*servers, mgt5], SECONDS)
    assert Path(mgt5.layout.etcd_data).exists()
