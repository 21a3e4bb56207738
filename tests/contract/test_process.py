"""The supervision of a real etcd: started, started again, stopped, and never two at a time."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from collective.errors import EtcdError
from collective.etcd.api import EtcdMember
from collective.etcd.binary import Etcd
from collective.etcd.process import EtcdProcess
from collective.etcd.requests import PutRequest
from collective.files import FolderLock
from tests.contract.conftest import START_SECONDS, Member, enrolled
from tests.harness import temporary_folder, wait_until
from tests.harness.processes import processes_in, send

pytestmark = pytest.mark.contract


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def data_holders(member: Member) -> set[int]:
    """Return the processes that have etcd's database open."""
    found, folder = set(), f"{member.layout.etcd_data}/"
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{entry}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{entry}/fd/{fd}").startswith(folder):
                        found.add(int(entry))
    return found


def listening(pid: int) -> set[tuple[str, int]]:
    """Return address and port of every TCP socket that a process listens on."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, port = words[1].split(":")
                raw = bytes.fromhex(address)
                raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def test_nothing_but_the_peer_door_is_on_the_network(member: Member) -> None:
    """The client API listens on no TCP port at all, not even on loopback."""
    assert listening(member.pid) == {("127.0.0.2", member.plan.peer_port)}


def test_client_socket_is_behind_a_folder_of_ours_alone(member: Member) -> None:
    """etcd makes the socket with the rights of the umask, so the folder has to guard it."""
    folder = Path(member.layout.etcd_run)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.geteuid()
    sockets = [p for p in folder.iterdir() if stat.S_ISSOCK(p.stat().st_mode)]
    assert [str(p) for p in sockets] == [member.layout.etcd_socket]


def test_folder_that_others_could_enter_is_closed_before_etcd_starts(idle: Member) -> None:
    """Also one that an earlier release, or somebody by hand, made too open."""
    folder = Path(idle.layout.etcd_run)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    idle.start()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_user_does_not_reach_the_socket(member: Member) -> None:
    """Tried, as nobody, rather than read from the modes."""
    run = Path(member.layout.run)
    run.parent.chmod(0o755)

    def sees(test: str, path: str) -> bool:
        words = ["/usr/bin/test", test, path]
        return subprocess.run(words, user=65534, group=65534, extra_groups=[]).returncode == 0

    assert sees("-d", str(run))
    assert not sees("-S", member.layout.etcd_socket)


def test_arguments_and_environment_hold_no_secret(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user can read the one, and a crash report may show the other (P9)."""
    words = Path(f"/proc/{member.pid}/cmdline").read_bytes()
    key = Path(member.layout.pki, "server.pem").read_bytes().split(b"\n")[1]
    assert b"PRIVATE" not in words
    assert key not in words
    names = {
        entry.partition(b"=")[0]
        for entry in Path(f"/proc/{member.pid}/environ").read_bytes().split(b"\0")
    }
    assert names <= {b"", b"PATH", b"HOME", b"LANG", b"TZ", b"GOMAXPROCS"}


def test_variables_of_etcd_do_not_overrule_its_arguments(
    idle: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """etcd reads options that it was not given from ETCD_*."""
    monkeypatch.setenv("ETCD_LISTEN_METRICS_URLS", "http://127.0.0.2:1")
    monkeypatch.setenv("ETCD_ENABLE_V2", "true")
    monkeypatch.setenv("ETCD_FORCE_NEW_CLUSTER", "true")
    idle.start()
    assert listening(idle.pid) == {("127.0.0.2", idle.plan.peer_port)}


def test_stop_ends_etcd_and_says_no_failure(member: Member) -> None:
    """It is no crash, so nothing is reported, nothing is started again, nobody was removed."""
    pid = member.pid
    member.process.stop(10.0)
    assert not alive(pid)
    assert (member.process.pid, member.process.failure) == (None, None)
    assert not member.removed.wait(0.5)
    assert member.process.pid is None


def test_etcd_starts_again_after_a_stop_with_its_data(member: Member) -> None:
    """Also at once, several times over; no stop is taken for a failure."""
    member.gateway.transact({}, [PutRequest("k/a", "1")])
    for _ in range(3):
        pid = member.pid
        member.process.stop(10.0)
        member.process.start(member.arguments)
        member.wait(other_than=pid)
        assert member.process.failure is None
    assert [kv.key for kv in member.gateway.range("k/")[1]] == ["k/a"]
    assert not member.removed.is_set()


def test_stop_of_a_stopped_process_ends_it_too(member: Member) -> None:
    """One that does not react to SIGTERM is killed when the time is over."""
    pid = member.pid
    send([pid], signal.SIGSTOP)
    begun = time.monotonic()
    member.process.stop(0.5)
    wait_until(lambda: not alive(pid), 5.0, "end of the stopped etcd")
    assert 0.4 < time.monotonic() - begun < 5


def test_stop_of_nothing_returns_at_once(idle: Member) -> None:
    """Twice, before any start, and after the end."""
    begun = time.monotonic()
    idle.process.stop(5.0)
    idle.process.close(5.0)
    idle.process.close(5.0)
    assert time.monotonic() - begun < 4


def test_killed_etcd_is_started_again_with_its_data(member: Member) -> None:
    """kill -9 loses no acknowledged write, and the failure is told until it answered again."""
    for n in range(3):
        _, revision = member.gateway.transact({}, [PutRequest("k/n", str(n))])
        pid = member.pid
        os.kill(pid, signal.SIGKILL)
        member.wait(other_than=pid)
        (kv,) = member.gateway.range("k/")[1]
        assert (kv.value, kv.mod_revision) == (str(n).encode(), revision)
        assert "was killed (9)" in str(member.process.failure)
        member.process.has_answered()
        assert member.process.failure is None
    assert not member.removed.is_set()


def test_socket_file_of_a_killed_etcd_is_in_nobody_s_way(idle: Member) -> None:
    """A power cut leaves it behind; etcd would not bind over it."""
    folder = Path(idle.layout.etcd_run)
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(idle.layout.etcd_socket)
    idle.start()


def test_etcd_that_cannot_start_is_tried_again_ever_more_slowly(idle: Member) -> None:
    """It says why, in etcd's words, and stop ends the waiting at once."""
    begun = time.monotonic()
    idle.process.start([*idle.arguments, "--no-such-option=1"])
    wait_until(lambda: idle.process.failure, 10.0, "a failure")
    assert "no-such-option" in str(idle.process.failure)
    wait_until(lambda: time.monotonic() - begun > 2.0, 5.0, "two seconds")
    begun = time.monotonic()
    idle.process.stop(5.0)
    assert time.monotonic() - begun < 4
    idle.start()
    assert idle.process.failure is None


def test_port_that_is_taken_is_told(idle: Member) -> None:
    """The reason of etcd's own log, not a guess of ours; when it is free, etcd runs."""
    with socket.socket() as other:
        other.bind(("127.0.0.2", idle.plan.peer_port))
        other.listen()
        idle.process.start(idle.arguments)
        wait_until(lambda: idle.process.failure, START_SECONDS, "a failure")
        assert "address already in use" in str(idle.process.failure)
    idle.wait()


def test_program_that_is_gone_is_told(idle: Member) -> None:
    """An upgrade that went wrong does not end the supervision."""
    with temporary_folder() as folder:
        gone = Etcd(folder / "etcd", (3, 5, 16))
        process = EtcdProcess(gone, folder / "run", folder / "lock", lambda *_: None)
        process.start(["--version"])
        wait_until(lambda: process.failure, 10.0, "a failure")
        assert "etcd" in str(process.failure)
        process.close(2.0)


def test_removed_member_is_not_started_again(member: Member, stranger: Member) -> None:
    """etcd that was removed ends with code 0, also on its old data; its owner is told."""
    joiner = enrolled(stranger, member)
    joiner.process.start(joiner.arguments)

    def others() -> list[EtcdMember]:
        return [each for each in member.gateway.members() if each.name != "mgt1"]

    # Two voters elect one of them anew where a disk is slow: nothing is asked only once.
    def promoted() -> bool:
        with suppress(EtcdError):
            (learner,) = others()
            if not learner.learner:
                return True
            member.gateway.promote(learner.id)
        return False

    def removed() -> bool:
        with suppress(EtcdError):
            for each in others():
                member.gateway.remove(each.id)
            return not others()
        return False

    wait_until(promoted, START_SECONDS, "promotion")
    joiner.wait()
    wait_until(removed, START_SECONDS, "removal")
    for _ in range(2):
        assert joiner.removed.wait(START_SECONDS)
        wait_until(lambda: joiner.process.pid is None, 10.0, "end of etcd")
        assert "when its member was removed" in (joiner.process.failure or "")
        joiner.removed.clear()
        joiner.process.start(joiner.arguments)


@pytest.fixture
def second(member: Member) -> Iterator[EtcdProcess]:
    """The supervision of another daemon, on the same data folder."""
    process = EtcdProcess(
        member.binary, Path(member.layout.etcd_run), Path(member.layout.etcd_lock), lambda *_: None
    )
    yield process
    process.close(2.0)


def test_second_etcd_is_never_beside_the_first(member: Member, second: EtcdProcess) -> None:
    """Looked at often while both want to run: at most one process has the data open."""
    second.start(member.arguments)
    most, until = 0, time.monotonic() + 3.0
    while time.monotonic() < until:
        most = max(most, len(data_holders(member)))
    assert most == 1


def test_second_etcd_does_not_start(member: Member, second: EtcdProcess) -> None:
    """Its supervision finds the lock taken by an etcd whose daemon lives, and leaves it alone."""
    pid = member.pid
    second.start(member.arguments)
    wait_until(lambda: second.failure or not alive(pid), 20.0, "a decision")
    assert alive(pid)
    assert second.pid is None
    assert "already runs" in str(second.failure)


def test_lock_is_held_while_etcd_lives_and_no_longer(member: Member) -> None:
    """The child holds it, whatever becomes of the parent."""
    path = Path(member.layout.etcd_lock)
    assert path.read_text() == f"{member.pid}\n"
    with pytest.raises(Exception, match="already runs"):
        FolderLock.acquire(path)
    member.process.stop(10.0)
    FolderLock.acquire(path).release()


_DAEMON = """
import sys
import threading
from pathlib import Path
from collective.etcd.binary import Etcd
from collective.etcd.process import EtcdProcess
binary, run, lock, *arguments = sys.argv[1:]
process = EtcdProcess(Etcd(Path(binary), (3, 5, 16)), Path(run), Path(lock), lambda *_: None)
process.start(arguments)
sys.stdin.read()
"""


def daemon(member: Member) -> subprocess.Popen[bytes]:
    """Start a process that supervises etcd and does nothing else.

    It ends when its standard input does, so also when this process is killed.
    """
    layout = member.layout
    words = [str(member.binary.path), layout.etcd_run, layout.etcd_lock, *member.arguments]
    return subprocess.Popen([sys.executable, "-c", _DAEMON, *words], stdin=subprocess.PIPE)


def test_etcd_dies_with_a_killed_daemon(idle: Member) -> None:
    """kill -9 of the parent: the kernel ends etcd, and nothing holds data or lock."""
    parent = daemon(idle)
    try:
        lock = Path(idle.layout.etcd_lock)
        run = Path(idle.layout.etcd_run)
        idle.wait_for_answer()
        pid = int(lock.read_text())
        assert processes_in(run) == [pid]
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not alive(pid), 5.0, "etcd's end")
    assert not data_holders(idle)
    idle.start()


def test_etcd_that_outlived_its_daemon_is_ended_before_the_next(
    idle: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no setpriv the kernel does not do it, so the next daemon does."""
    with temporary_folder() as empty:
        monkeypatch.setenv("PATH", str(empty))
        parent = daemon(idle)
    monkeypatch.undo()
    idle.wait_for_answer()
    (orphan,) = data_holders(idle)
    parent.kill()
    parent.wait()
    assert alive(orphan)
    idle.start()
    assert not alive(orphan)
    assert data_holders(idle) == {idle.pid}


# A stand-in that takes down what it was started with; only the supervision is real.
_RECORDER = """#!/bin/sh
echo "$1" >> "{log}"
exec sleep 60
"""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[EtcdProcess, Path, Path]]:
    """The supervision of a stand-in, its log and its lock."""
    program, log, lock = tmp_path / "etcd", tmp_path / "log", tmp_path / "lock"
    program.write_text(_RECORDER.format(log=log))
    program.chmod(0o755)
    process = EtcdProcess(Etcd(program, (3, 5, 16)), tmp_path / "run", lock, lambda *_: None)
    yield process, log, lock
    process.close(2.0)


def in_function(name: str) -> bool:
    """Tell whether a thread is in a function of that name."""
    for found in sys._current_frames().values():
        frame = found
        while frame is not None:
            if frame.f_code.co_name == name:
                return True
            frame = frame.f_back  # type: ignore[assignment]
    return False


def test_arguments_of_the_last_start_count(recorder: tuple[EtcdProcess, Path, Path]) -> None:
    """A start that waits for the lock is overtaken by a stop and another start."""
    process, log, lock = recorder
    held = FolderLock.acquire(lock)
    process.start(["old"])
    wait_until(lambda: in_function("_lock"), 5.0, "the wait for the lock")
    process.stop(1.0)
    process.start(["new"])
    held.release()
    # The shell makes the file before it writes to it.
    wait_until(lambda: log.exists() and log.read_text(), 10.0, "a start")
    assert log.read_text() == "new\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_lock_that_cannot_be_taken_is_told_and_tried_again(tmp_path: Path) -> None:
    """A disk that is full, or not there for a moment, does not end the supervision."""
    program, log, lock = tmp_path / "etcd", tmp_path / "log", tmp_path / "missing" / "lock"
    program.write_text(_RECORDER.format(log=log))
    program.chmod(0o755)
    process = EtcdProcess(Etcd(program, (3, 5, 16)), tmp_path / "run", lock, lambda *_: None)
    try:
        process.start(["once"])
        wait_until(lambda: process.failure, 2.0, "a failure")
        assert "cannot lock" in str(process.failure)
        lock.parent.mkdir()
        wait_until(log.exists, 5.0, "a start")
    finally:
        process.close(2.0)


def test_quick_restarts_are_no_failures(recorder: tuple[EtcdProcess, Path, Path]) -> None:
    """A start right after a stop must not take the end of the former child for a crash."""
    process, _, _ = recorder
    for n in range(60):
        process.start([str(n)])
        wait_until(lambda: process.pid, 5.0, f"start {n} ({process.failure})")
        process.stop(5.0)
        process.start([f"{n}b"])
        assert process.failure is None
        wait_until(lambda: process.pid or process.failure, 5.0, "second start")
        assert process.failure is None, f"round {n}"
        process.stop(5.0)


_ENDING = """#!/bin/sh
echo "$1" >> "{folder}/log"
exit $(cat "{folder}/code")
"""


class Ending:
    """The supervision of a program that ends at once, with the code that is asked for."""

    def __init__(self, folder: Path) -> None:
        """Write the program, which fails."""
        program = folder / "etcd"
        program.write_text(_ENDING.format(folder=folder))
        program.chmod(0o755)
        self.code, self._log = folder / "code", folder / "log"
        self.code.write_text("2")
        self.removed = threading.Event()
        binary = Etcd(program, (3, 5, 16))
        self.process = EtcdProcess(binary, folder / "run", folder / "lock", self.removed.set)

    def starts(self, which: str) -> int:
        """Return how many times it was started with an argument."""
        return self._log.read_text().splitlines().count(which) if self._log.exists() else 0

    def fail_often(self) -> None:
        """Start it until its failures add up: the next pause is 1.6 s, the one after it 3.2 s."""
        self.process.start(["first"])
        wait_until(lambda: self.starts("first") >= 4, 10.0, "failures that add up")

    def assert_quick(self) -> None:
        """See to it that what had added up does not count for the second life."""
        wait_until(lambda: self.starts("second") >= 2, 2.9, "a second start")


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Ending]:
    """Such a program."""
    made = Ending(tmp_path)
    yield made
    made.process.close(2.0)


def test_failures_of_a_former_membership_do_not_slow_the_next_one(ending: Ending) -> None:
    """A removed etcd fails a few times before it ends well: the next life starts afresh."""
    ending.fail_often()
    ending.code.write_text("0")
    assert ending.removed.wait(10.0)
    ending.code.write_text("2")
    ending.process.start(["second"])
    ending.assert_quick()


def test_restart_right_after_a_crash_waits_for_nothing(ending: Ending) -> None:
    """Stop and start came before the supervisor, in its pause, had seen the stop."""
    ending.fail_often()
    wait_until(lambda: in_function("_failed"), 5.0, "the pause after the fourth failure")
    with ending.process._change:
        ending.process.stop(1.0)
        ending.process.start(["second"])
    ending.assert_quick()
