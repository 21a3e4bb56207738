"""The journal tells the story: each member writes what happens, with priorities, a line each."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.harness import Cluster, Server, wait_until
from tests.harness.trouble import one_etcd
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 40.0


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: what they write to their logs is alike."""
    return one_etcd()


def into_the_journal(server: Server) -> None:
    """Have a daemon's standard error taken for the journal from its next start on."""
    facts = server.log_file.stat()
    server.environment["JOURNAL_STREAM"] = f"{facts.st_dev}:{facts.st_ino}"


def wait_for_line(servers: list[Server], begin: str, *words: str) -> None:
    """Wait until each of these has a line with this beginning and these words."""

    def all_have_it() -> bool:
        return all(
            any(line.startswith(begin) and all(w in line for w in words) for line in lines)
            for lines in (server.log_text.splitlines() for server in servers)
        )

    wait_until(all_have_it, SECONDS, f"{begin} {' '.join(words)} is told by {servers}")


@pytest.fixture
def manager(cluster: Cluster) -> Iterator[socket.socket]:
    """A service manager's socket, whose address is in the environment of all servers."""
    path = cluster.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(SECONDS)
        yield sock


def wait_for_status(manager: socket.socket, *words: str) -> None:
    """Wait until a status has been sent that has these words."""
    while True:
        text = manager.recv(65536).decode()
        if text.startswith("STATUS=") and all(word in text for word in words):
            return


def test_quorum_members_and_commands_are_in_the_journal_of_every_member(
    cluster: Cluster, manager: socket.socket
) -> None:
    """Joined, lost and back, deleted, and who typed it; ``systemctl status`` says it too."""
    mgt1, mgt2, mgt3 = servers = cluster.grow(3)
    for told in (
        "a server joins name=mgt3",
        "a member restarts its etcd: taking up mgt3 name=mgt1",
        "the trust round is over",
        "a member votes now name=mgt3",
    ):
        # It neither took mgt3 in nor is it mgt3.
        wait_for_line([mgt2], "INFO", told)
    for server in servers:
        into_the_journal(server)
    mgt1.environment["NOTIFY_SOCKET"] = str(cluster.root / "notify")
    for server in servers:
        server.stop()
    for server in servers:
        server.start()
    wait_for_line(servers, "<6>INFO", "there is a quorum leader=mgt")
    wait_for_status(manager, "voter in a collective of 3", "leads", "3 of 3 voters answer")
    mgt2.kill()
    mgt3.kill()
    wait_for_line([mgt1], "<4>WARNING", "no quorum: 1 of 3 voters answer, quorum is 2")
    wait_for_line([mgt1], "<4>WARNING", "a member does not answer", "refused", "name=mgt3")
    wait_for_status(manager, "no quorum: 1 of 3 voters answer", "silent: mgt2, mgt3")
    mgt2.start()
    wait_for_line([mgt1], "<6>INFO", "there is a quorum again leader=")
    wait_for_line([mgt1], "<6>INFO", "a member is well again name=mgt2")
    assert mgt1.run("delete", "mgt3", "--force").code == 0
    wait_for_line([mgt1, mgt2], "<6>INFO", "a member was deleted name=mgt3")
    typed = f"a command was typed command=delete server=mgt3 force=True uid={os.getuid()} login="
    wait_for_line([mgt1], "<6>INFO", typed)


def test_daemon_that_does_not_start_says_so_as_an_error(cluster: Cluster) -> None:
    """Its last line is not one of information: ``journalctl -p err`` finds it."""
    server = cluster.add(etcd="/no/such/etcd")
    server.log_file.touch()
    into_the_journal(server)
    server.launch()
    assert server.wait_for_end() != 0
    assert server.log_text.startswith("<3>collectived: error: ")
