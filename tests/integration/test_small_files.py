"""Every small file of a server, damaged in every way, on real daemons."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from collective.errors import AccessError, LostError
from tests.harness import Cluster, Server, wait_until
from tests.harness.short_run import is_full
from tests.harness.small_files import LOCKS, RESTS
from tests.harness.trouble import assert_explained, one_etcd, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 30.0
DAMAGES = ("missing", "empty", "garbage", "foreign", "locked")
# Root, too, may then not read what is of mode 000.
_CAPABILITIES = "-dac_override,-dac_read_search"
NO_OVERRIDE = ("setpriv", "--bounding-set", _CAPABILITIES, "--inh-caps", _CAPABILITIES, "--")


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: etcd is not even started."""
    return one_etcd()


def small_files(server: Server) -> dict[str, Path]:
    """Return all files in a server's data folder but etcd's data and what is set aside."""
    own = (Path(server.layout.etcd_data), Path(server.layout.aside))
    found = [p for p in Path(server.layout.data).rglob("*") if p.is_file()]
    return {p.name: p for p in found if not any(folder in p.parents for folder in own)}


def may_lock() -> bool:
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


@dataclass
class Victim:
    """A server that is damaged again and again, and one whose files are another's."""

    server: Server
    other: Server

    def look(self, path: Path, damage: str) -> str:
        """Return the mode in which the server starts, having seen that it says why."""
        begun = len(self.server.log_text)
        prefix = NO_OVERRIDE if damage == "locked" and os.geteuid() == 0 else ()
        self.server.start(prefix)
        document = wait_until(self.server.ask_show, SECONDS, "it answers")
        assert document is not None
        if document["mode"] == "lost":
            shown = self.server.run("show")
            assert shown.code == LostError.exit_code
            assert_explained(shown.err, str(path), "restart collectived")
            assert self.server.etcd_pid is None
        self.server.kill()
        assert "Traceback" not in self.server.log_text[begun:]
        return str(document["mode"])


def spoil(path: Path, damage: str, other: Server) -> None:
    """Damage a file."""
    content = {"empty": b"", "garbage": b"\x00\xffgarbage{"}
    if damage == "missing":
        path.unlink()
    elif damage == "locked":
        path.chmod(0)
    elif damage == "foreign":
        theirs = small_files(other).get(path.name)
        path.write_bytes(b"" if theirs is None else theirs.read_bytes())
    else:
        path.write_bytes(content[damage])


def damages_of(name: str) -> tuple[str, ...]:
    """Return the damages to try: in a short run one of each file, each time another one."""
    if is_full() or name == "server.json":
        return DAMAGES
    number = (*RESTS, *LOCKS).index(name)
    return (DAMAGES[number % len(DAMAGES)],)


@pytest.mark.slow
def test_server_with_a_damaged_small_file_rests(cluster: Cluster) -> None:
    """No traceback, no second collective; with the file put back it is the member again."""
    mgt1, mgt2 = cluster.grow(2)
    (other,) = cluster.add_running(1)
    for server in (mgt2, other):
        server.run("gencert", check=True)
        settle(server)
        server.stop()
    make_the_rare_ones(mgt2)
    files = small_files(mgt2)
    assert files.keys() == {*RESTS, *LOCKS}, "each is in the table, or it is forgotten"
    victim = Victim(mgt2, other)
    for name in RESTS:
        path, content = files[name], files[name].read_bytes()
        for damage in damages_of(name):
            if damage == "locked" and not may_lock():
                continue
            spoil(path, damage, other)
            expected = "lost" if damage in RESTS[name] else "member"
            # Nothing is in these but what is made in the middle of a change.
            foreign_is_empty = damage == "foreign" and name not in small_files(other)
            if foreign_is_empty and "empty" in RESTS[name]:
                expected = "lost"
            assert victim.look(path, damage) == expected, (name, damage, mgt2.log_text[-3000:])
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            path.chmod(0o600)
    mgt2.start()
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])


def make_the_rare_ones(server: Server) -> None:
    """Make what is there only in the middle of a change, of a form that is good."""
    pki, state = Path(server.layout.pki), Path(server.layout.state)
    for name in ("next.pem", "detour.pem"):
        shutil.copy(pki / "server.pem", pki / name)
    (state / "whereabouts.json").write_text('{"mgt1": "127.0.0.1"}')


@pytest.mark.parametrize("name", LOCKS)
def test_lock_file_that_may_not_be_opened_is_named(cluster: Cluster, name: str) -> None:
    """Without it nobody can tell that no other daemon runs; what is in it does not count."""
    if not may_lock():
        pytest.skip("root needs setpriv to do without its rights")
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.stop()
    path = small_files(mgt1)[name]
    path.chmod(0)
    prefix = NO_OVERRIDE if os.geteuid() == 0 else ()
    begun = len(mgt1.log_text)
    if name == "daemon.lock":
        mgt1.launch(prefix)
        assert mgt1.wait_for_end() == AccessError.exit_code
        said = mgt1.log_text[begun:]
    else:
        mgt1.start(prefix)
        # Until it was tried once, it is only told that it starts.
        wait_until(lambda: str(path) in _errors(mgt1), SECONDS, "it says why etcd does not run")
        said = _errors(mgt1)
        mgt1.stop()
    assert str(path) in said
    assert "Traceback" not in mgt1.log_text[begun:]
    path.unlink()
    path.write_bytes(b"garbage")
    mgt1.start()
    mgt1.wait_for_quorum()


def _errors(server: Server) -> str:
    document = server.ask_show() or {"errors": []}
    return "".join(document["errors"])


def test_server_without_its_state_file_joins_again(cluster: Cluster) -> None:
    """It began a collective of one, silently; now it rests, and its way out works."""
    mgt1, _, mgt3 = servers = cluster.grow(3)
    settle(mgt3)
    mgt3.stop()
    path = Path(mgt3.layout.state, "server.json")
    path.write_text("garbage")
    mgt3.start()
    shown = mgt3.run("show")
    assert shown.code == LostError.exit_code
    assert_explained(shown.err, str(path), "collective join")
    assert mgt3.run("gencert").code == LostError.exit_code
    assert path.read_text() == "garbage"
    token = mgt1.run("invite", "--replace", "mgt3", check=True).out
    mgt3.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    for server in servers:
        cluster.wait_until_all_active(server, servers)
    (kept,) = Path(mgt3.layout.aside).glob("*-damaged-state/server.json")
    assert kept.read_text() == "garbage"


def test_only_server_without_its_state_file_begins_again_when_told(cluster: Cluster) -> None:
    """Its data is moved aside then, not before."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.stop()
    Path(mgt1.layout.state, "server.json").unlink()
    mgt1.start()
    shown = mgt1.run("show")
    assert shown.code == LostError.exit_code
    assert_explained(shown.err, "server.json", "collective gencert")
    assert Path(mgt1.layout.etcd_log).exists()
    mgt1.run("gencert", check=True)
    mgt1.wait_for_quorum()
    assert list(Path(mgt1.layout.aside).glob("*/etcd/member/wal"))


def test_server_without_a_vote_that_lost_its_memory_rests_and_comes_back(
    cluster: Cluster,
) -> None:
    """Without the records it knows no voter to ask; with them it takes part at once."""
    mgt1, mgt2 = cluster.add_running(2)
    token = mgt1.run("invite", "-n", "mgt2", check=True).out
    mgt2.run("join", mgt1.door_name, "-i", "-", input=token, check=True)
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])
    mgt2.stop()
    path = Path(mgt2.layout.state, "view.json")
    content = path.read_bytes()
    path.unlink()
    mgt2.start()
    shown = mgt2.run("show")
    assert shown.code == LostError.exit_code
    assert_explained(shown.err, str(path))
    mgt2.stop()
    path.write_bytes(content)
    mgt2.start()
    wait_until(lambda: (mgt2.ask_show() or {}).get("mode") == "nonvoting", SECONDS, "it is back")
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
