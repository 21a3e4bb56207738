"""One real server: its daemon, the commands run on it, and its etcd.

It does not know the other servers; ``cluster`` does.

Invariants:
  * A command is the real one, in a process of its own, from this checkout; so is the daemon,
    which is a copy of a process that has imported it (``forge``) where nothing is around it.
  * What the caller's environment holds reaches neither daemon nor command, but for the few
    variables that any process needs. Tests add what they want to try.
  * Every call has a deadline. Standard input is in no error: it may be a token.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collective.client import ask
from collective.errors import CollectiveError
from collective.model.layout import ROOT_VARIABLE, Layout
from tests.harness.at_once import Ended
from tests.harness.forge import Forged, forge
from tests.harness.processes import end_processes_in, processes_in, send, spawn
from tests.harness.waiting import HarnessError, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 13002

_READY_SECONDS = 20.0
_STOP_SECONDS = 30.0
_DEATH_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
_ASK_SECONDS = 5.0
_LOOK_SECONDS = 5.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Result:
    """How a command ended.

    Attributes:
        command: as one would type it.
        code: exit status, negative for a signal.
        out, err: what it printed.
        seconds: how long it took, process start included.
    """

    command: str
    code: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.splitlines()


class CommandError(HarnessError):
    """A command that was to succeed did not."""

    def __init__(self, server: str, result: Result) -> None:
        super().__init__(
            f"[{server}]# {result.command}\nended with {result.code} after "
            f"{result.seconds:.2f} s\n{result.out}{result.err}"
        )
        self.result = result


class Server:
    """One server of a cluster.

    Attributes:
        name: of the server.
        address: loopback address.
        port, peer_port: TCP ports of daemon and etcd.
        root: its COLLECTIVE_ROOT, also the daemon's working directory.
        layout: the paths below it.
        log_file: what the daemon printed, over all its starts.
        environment: further variables of daemon and commands.
        prefix: a command that runs the daemon at each of its starts, such as ``nsenter``.
    """

    def __init__(
        self, root: Path, etcd: Path, settings: Mapping[str, str], *, outlive: bool = False
    ) -> None:
        """Write the settings file; nothing runs yet.

        Args:
            root: a folder of its own, with a short path.
            etcd: the program; etcdctl is expected beside it.
            settings: as in the settings file; name, address, port and peer_port are needed.
            outlive: whether the daemon lives on when this process ends.
        """
        self.name = settings["name"]
        self.address = settings["address"]
        self.port = int(settings["port"])
        self.peer_port = int(settings["peer_port"])
        self.root = root
        self.layout = Layout.from_environment({ROOT_VARIABLE: str(root)})
        self.log_file = root / "log"
        self.environment: dict[str, str] = {}
        self.prefix: tuple[str, ...] = ()
        self._settings = {"etcd": str(etcd), **settings}
        self._etcdctl = etcd.with_name("etcdctl")
        self._outlive = outlive
        self._daemon: subprocess.Popen[bytes] | Forged | None = None
        root.mkdir()
        self.configure()

    def __repr__(self) -> str:
        return f"Server({self.name} {self.address}:{self.port})"

    def configure(self, **changes: str) -> None:
        """Write the settings file anew; the daemon reads it at its next start."""
        self._settings.update(changes)
        path = Path(self.layout.settings_file)
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{key} = {value}\n" for key, value in self._settings.items()))

    def forget(self, *keys: str) -> None:
        """Take lines out of the settings file, so that the defaults hold."""
        self._settings = {k: v for k, v in self._settings.items() if k not in keys}
        self.configure()

    # The daemon ------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The daemon's process id, None while it does not run."""
        daemon = self._daemon
        return daemon.pid if daemon is not None and daemon.poll() is None else None

    @property
    def etcd_pid(self) -> int | None:
        """The process id of the daemon's etcd, None while there is none."""
        pids = processes_in(Path(self.layout.etcd_run), below=False)
        return pids[0] if pids else None

    @property
    def is_running(self) -> bool:
        """Whether the daemon runs, be it paused."""
        return self.pid is not None

    def launch(self, prefix: Sequence[str] = ()) -> None:
        """Start the daemon without waiting for it.

        Args:
            prefix: a command that runs the daemon, such as ``prlimit --nofile=64``.
        """
        if self.is_running:
            raise HarnessError(f"{self.name} runs already")
        environment = self._environment({})
        for_python = any(name.startswith("PYTHON") for name in self.environment)
        if not (self.prefix or prefix or for_python or self._outlive):
            self._daemon = forge().start(self.root, environment, self.log_file)
            return
        command = [*self.prefix, *prefix, sys.executable, "-m", "collective.daemon.main"]
        self._daemon = spawn(command, self.root, environment, self.log_file, self._outlive)

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start the daemon and wait until commands can talk to it.

        Raises:
            HarnessError: it ended, or did not get there; the text has its log.
        """
        self.launch(prefix)
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until the daemon takes commands."""

        def ready() -> bool:
            if not self.is_running:
                raise HarnessError(f"the daemon of {self.name} ended\n{self.log_text}")
            return self._is_answering()

        wait_until(ready, seconds, f"{self.name} takes commands")

    def wait_for_quorum(self, seconds: float = _READY_SECONDS) -> dict[str, Any]:
        """Wait until this server proves a quorum, and return what it shows then."""

        def shown() -> dict[str, Any] | None:
            document = self.ask_show()
            return document if document is not None and document["quorum"] else None

        document = wait_until(shown, seconds, f"{self.name} shows a quorum")
        assert document is not None
        return document

    def stop(self, seconds: float = _STOP_SECONDS) -> int:
        """End the daemon with SIGTERM, as systemd does, and return its exit status.

        Raises:
            HarnessError: it did not end.
        """
        daemon = self._require_daemon()
        daemon.terminate()
        return self._reap(seconds)

    def kill(self) -> None:
        """Kill the daemon with SIGKILL and wait until its etcd, too, is gone."""
        self._require_daemon().kill()
        self._reap(_DEATH_SECONDS)
        wait_until(lambda: self.etcd_pid is None, _DEATH_SECONDS, f"end of {self.name}'s etcd")

    def restart(self) -> None:
        """Stop cleanly and start again."""
        self.stop()
        self.start()

    def kill_etcd(self) -> int:
        """Kill etcd alone; return the process id that it had."""
        # One that is just being started has no name for a moment, between fork and exec.
        pid = wait_until(lambda: self.etcd_pid, _LOOK_SECONDS, f"an etcd of {self.name} to kill")
        assert pid is not None
        send([pid], signal.SIGKILL)
        wait_until(lambda: self.etcd_pid != pid, _DEATH_SECONDS, f"end of {self.name}'s etcd")
        return pid

    def pause(self) -> None:
        """Stop daemon and etcd in their tracks: they keep all they have, and answer nobody."""
        send(processes_in(self.root), signal.SIGSTOP)

    def resume(self) -> None:
        """Let daemon and etcd go on."""
        send(processes_in(self.root), signal.SIGCONT)

    def wait_for_end(self, seconds: float = _STOP_SECONDS) -> int:
        """Wait until the daemon ends by itself, and return its exit status."""
        self._require_daemon()
        return self._reap(seconds)

    def end(self) -> None:
        """End whatever runs of this server, in whatever state it is."""
        end_processes_in(self.root)
        if self._daemon is not None:
            self._daemon.wait(_DEATH_SECONDS)

    def _require_daemon(self) -> subprocess.Popen[bytes] | Forged:
        if self._daemon is None:
            raise HarnessError(f"{self.name} was not started")
        return self._daemon

    def _reap(self, seconds: float) -> int:
        try:
            return self._require_daemon().wait(seconds)
        except subprocess.TimeoutExpired:
            if isinstance(self._daemon, Forged):
                self._daemon.tell_stacks()
            raise HarnessError(
                f"the daemon of {self.name} did not end within {seconds:g} s\n{self.log_text}"
            ) from None

    def _is_answering(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.layout.control_socket)
            except OSError:
                return False
            return True

    # Commands --------------------------------------------------------------------------------

    @property
    def door_name(self) -> str:
        """What to write after ``collective join`` to name this server."""
        return self.name if self.port == DEFAULT_PORT else f"{self.name}:{self.port}"

    def run(
        self,
        *arguments: str,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        timeout: float = _COMMAND_SECONDS,
    ) -> Result:
        """Run ``collective`` with these arguments on this server.

        Args:
            arguments: such as ``"invite", "mgt2"``.
            input: standard input, for a token; None for none.
            env: further variables.
            check: whether an exit status other than 0 raises.
            timeout: deadline in seconds.

        Raises:
            CommandError: with ``check``, it failed.
            HarnessError: it did not end in time.
        """
        command = [sys.executable, "-m", "collective.cli.main", *arguments]
        typed = shlex.join(["collective", *arguments])
        return self._execute(command, typed, self._environment(env or {}), input, check, timeout)

    def run_daemon(self, *arguments: str, timeout: float = _COMMAND_SECONDS) -> Result:
        """Run ``collectived`` in the foreground on this server's folders, until it ends.

        It is for starts that fail, and for options that print something.
        """
        command = [sys.executable, "-m", "collective.daemon.main", *arguments]
        typed = shlex.join(["collectived", *arguments])
        environment = self._environment({})
        return self._execute(command, typed, environment, None, False, timeout, self.root)

    def run_at_once(
        self, lines: Sequence[Sequence[str]], *, input: str = "", timeout: float
    ) -> list[Ended]:
        """Run several command lines at the same time on this server, see ``at_once``."""
        asked = json.dumps({"lines": lines, "text": input})
        command = [sys.executable, "-m", "tests.harness.at_once"]
        environment = self._environment({})
        result = self._execute(command, "(many)", environment, asked, True, timeout)
        return [Ended(**each) for each in json.loads(result.out)]

    def popen(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start ``collective`` with pipes and return it: to talk to it, or to end it half-way."""
        # A shell has Ctrl-C ignored by what it starts in the background, and by its children.
        heard = ("env", "--default-signal=INT")
        return subprocess.Popen(
            [*heard, sys.executable, "-m", "collective.cli.main", *arguments],
            env=self._environment(env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def etcdctl(self, *arguments: str, check: bool = True, timeout: float = 10.0) -> Result:
        """Run etcdctl on this server's own etcd, over its socket."""
        command = [str(self._etcdctl), "--endpoints=unix://etcd:1", *arguments]
        environment = {**self._environment({}), "ETCDCTL_API": "3"}
        typed = shlex.join(["etcdctl", *arguments])
        folder = Path(self.layout.etcd_run)
        return self._execute(command, typed, environment, None, check, timeout, folder)

    def show_json(self) -> dict[str, Any]:
        """Run ``collective show --json`` and return its document, with or without a quorum."""
        result = self.run("show", "--json")
        try:
            document: dict[str, Any] = json.loads(result.out)
        except ValueError:
            raise CommandError(self.name, result) from None
        return document

    def ask_show(self) -> dict[str, Any] | None:
        """Ask the daemon what ``show --json`` prints, without a process: for waiting.

        Returns:
            The document, or None where the daemon does not answer.
        """
        try:
            document: dict[str, Any] = ask(
                self.layout.control_socket, "GET", "/v1/show", None, _ASK_SECONDS
            )
        except CollectiveError:
            return None
        return document

    @property
    def is_removed(self) -> bool:
        """Whether this server says that it was deleted from its collective."""
        document = self.ask_show()
        return document is not None and document["mode"] == "removed"

    @property
    def log_text(self) -> str:
        """All that the daemon printed."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        ours = {ROOT_VARIABLE: str(self.root), "PYTHONPATH": str(CHECKOUT)}
        return {**kept, **ours, **self.environment, **more}

    def _execute(
        self,
        command: Sequence[str],
        typed: str,
        environment: Mapping[str, str],
        text: str | None,
        check: bool,
        timeout: float,
        folder: Path | None = None,
    ) -> Result:
        begun = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                # An empty input, not the caller's: a command must not wait for a person.
                input=text or "",
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HarnessError(f"[{self.name}]# {typed}\ndid not end in {timeout:g} s") from None
        seconds = time.monotonic() - begun
        result = Result(typed, done.returncode, done.stdout, done.stderr, seconds)
        if check and result.code != 0:
            raise CommandError(self.name, result)
        return result
