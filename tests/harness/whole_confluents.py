"""Whole Confluents: each one's own main, in namespaces of its own, and its own programs there.

Each has a private ``/etc/confluent``, ``/opt/confluent`` and so on, below one folder; the rest of
the machine is as it is. It is alone (or in Confluent's built-in collective, if its own command is
told to), or started as the drop-in ``deploy/confluent.conf`` says, beside one of our servers.

::

    installed = Installed(python, library, programs)
    with Network.of(1) as network, temporary_folder() as folder:
        confluent = WholeConfluent(installed, "mgt1", folder / "cf", network["mgt1"].prefix)
        confluent.prepare()
        confluent.start()
        confluent.run("nodedefine", "n[1:4]")
        confluent.close()

It needs root, nsenter(1), unshare(1), mount(8) and openssl(1).

Invariants:
  * Namespaces end with their processes, and these with us: nothing is mounted in our own.
  * What one runs does not see what another one has, but for the network between them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collective.model.layout import ROOT_VARIABLE
from tests.harness.processes import forked_by_one_thread, send, with_us
from tests.harness.server import CHECKOUT, CommandError, Result, Server
from tests.harness.waiting import HarnessError, wait_until

DROP_IN = CHECKOUT / "deploy" / "confluent.conf"
NEEDED = ("nsenter", "unshare", "mount", "setpriv", "openssl")

_READY_SECONDS = 90.0
_STOP_SECONDS = 20.0
_COMMAND_SECONDS = 60.0
_BUILT_IN_SECONDS = 60.0
#: Where Confluent has folders; below the folder of one they have the same names.
_PLACES = ("/etc", "/opt", "/var/lib", "/var/log", "/var/cache", "/run")
_OPT = Path("opt/confluent")

# Called with the folder of one, Confluent's library, its name, and what to run then. What else
# stands beside Confluent's folders stays where it is, by links to where it is mounted once more.
_ENTER = """
set -e
own=$1 library=$2
hostname "$3"
shift 3
for place in PLACES; do
    mkdir -p "$own/host$place"
    mount --rbind "$place" "$own/host$place"
    mount -t tmpfs tmpfs "$place"
    ln -s "$own/host$place"/* "$place"
    rm -f "$place/confluent" "$place/confluent-collective"
    mkdir "$place/confluent"
    mount --bind "$own$place/confluent" "$place/confluent"
done
mount --bind "$library" /opt/confluent/lib/python
ln -s "$own/opt/confluent-collective" /opt/confluent-collective
exec "$@"
""".replace("PLACES", " ".join(_PLACES))


@dataclass(frozen=True)
class Installed:
    """A Confluent that is there to be run.

    Attributes:
        python: its interpreter.
        library: the folder that holds the package confluent.
        programs: the folders of its programs, such as nodedefine, collective and vtbufferd.
    """

    python: str
    library: Path
    programs: tuple[Path, ...]


class WholeConfluent:
    """One of them.

    Attributes:
        name: of its server.
        folder: what is private to it: ``etc/confluent`` and so on.
        server: ours that it runs beside; None for one that is alone.
        environment: further variables, at its next start.
    """

    def __init__(
        self,
        installed: Installed,
        name: str,
        folder: Path,
        prefix: Sequence[str],
        server: Server | None = None,
    ) -> None:
        """Plan it; nothing is made.

        Args:
            installed: what to run.
            name: of its server.
            folder: a folder of its own, with a short path.
            prefix: puts a command into its network, see ``Host.prefix``.
            server: one of ours, in the same network, whose collective it is on.
        """
        self.name, self.folder, self.server = name, folder, server
        self.environment: dict[str, str] = {}
        self._installed = installed
        self._prefix = tuple(prefix)
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def cfg(self) -> Path:
        """Its configuration folder."""
        return self.folder / "etc/confluent/cfg"

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its process, which runs."""
        assert self._pid is not None
        return self._pid

    def prepare(self) -> None:
        """Make its folders, its name and, with its own command, its certificate."""
        for place in _PLACES:
            (self.folder / place[1:] / "confluent").mkdir(parents=True)
        self.cfg.mkdir()
        (self.cfg / "myname").write_text(f"{self.name}\n")
        programs = self.folder / _OPT / "bin"
        for source in self._installed.programs:
            shutil.copytree(source, programs, dirs_exist_ok=True)
        (self.folder / _OPT / "lib/python").mkdir(parents=True)
        ours = self.folder / "opt/confluent-collective"
        ours.mkdir()
        for package in ("collective", "confluent_collective"):
            (ours / package).symlink_to(CHECKOUT / package)
        self.run("collective", "gencert", check=True)

    # The process -----------------------------------------------------------------------------

    def launch(self) -> None:
        """Start it without waiting for it."""
        if self.is_running:
            raise HarnessError(f"the Confluent of {self.name} runs already")
        self._forget_run()
        command = [*with_us(), *self._fresh(self._own_main(), "--pid", "--fork", "--kill-child")]

        def fork() -> subprocess.Popen[bytes]:
            with self._log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

        self._process = forked_by_one_thread(fork)
        self._pid = wait_until(self._child, 10.0, f"the process of {self.name}'s Confluent")

    def start(self) -> None:
        """Start it, and wait until its programs can talk to it."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Wait until its programs can talk to it.

        Raises:
            HarnessError: it ended, or did not get there; the text has its log.
        """

        def ready() -> bool:
            if not self.is_running:
                raise HarnessError(f"the Confluent of {self.name} ended\n{self.log_text}")
            return self._is_answering()

        try:
            wait_until(ready, seconds, f"the Confluent of {self.name} takes commands")
        except HarnessError as error:
            raise HarnessError(f"{error}\n{self.log_text}") from None

    def kill(self) -> None:
        """Kill it, and what it has started with it."""
        if self._process is not None:
            send([self.pid], signal.SIGKILL)
            self._process.wait(_STOP_SECONDS)

    def stop(self) -> None:
        """Have it end in order, as systemd does."""
        if self._process is None:
            return
        send([self.pid], signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise HarnessError(f"the Confluent of {self.name} did not end") from None

    def close(self) -> None:
        """End it, in whatever state it is."""
        if self._process is not None:
            self._process.kill()
            self.kill()

    @property
    def log_text(self) -> str:
        """What it has printed, and its own logs of that."""
        own = [self.folder / "var/log/confluent" / name for name in ("stdout", "stderr")]
        return "".join(
            path.read_text(errors="replace") for path in (self._log, *own) if path.exists()
        )

    # Its programs ----------------------------------------------------------------------------

    def run(
        self,
        program: str,
        *arguments: str,
        input: str | None = None,
        check: bool = False,
        timeout: float = _COMMAND_SECONDS,
    ) -> Result:
        """Run one of Confluent's programs on this server, whether it runs or not.

        Args:
            program: such as ``nodedefine``.
            arguments: of it.
            input: standard input.
            check: whether an exit status other than 0 raises.
            timeout: deadline in seconds.

        Raises:
            CommandError: with ``check``, it failed.
            HarnessError: it did not end in time.
        """
        own = [self._installed.python, f"/opt/confluent/bin/{program}", *arguments]
        return self._execute(own, [program, *arguments], input, check, timeout)

    def adapter(self, *arguments: str, check: bool = False) -> Result:
        """Run ``python3 -m confluent_collective`` on this server."""
        words = ["-m", "confluent_collective", *arguments]
        return self._execute(
            [self._installed.python, *words], ["python3", *words], None, check, _COMMAND_SECONDS
        )

    def popen(
        self, program: str, *arguments: str, tty: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one of Confluent's programs, to talk to it.

        Args:
            program: such as ``nodeconsole``.
            arguments: of it.
            tty: the terminal that it has; None for pipes.
        """
        own = [self._installed.python, f"/opt/confluent/bin/{program}", *arguments]
        ends = subprocess.PIPE if tty is None else tty
        environment = {**self._environment(), "TERM": "linux"}
        return subprocess.Popen(
            self._enter(own), env=environment, stdin=ends, stdout=ends, stderr=subprocess.STDOUT
        )

    def _execute(
        self,
        command: Sequence[str],
        typed: Sequence[str],
        text: str | None,
        check: bool,
        timeout: float,
    ) -> Result:
        begun = time.monotonic()
        try:
            done = subprocess.run(
                self._enter(command),
                env=self._environment(),
                input=text or "",
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"[{self.name}]# {shlex.join(typed)}\ndid not end in {timeout:g} s"
            raise HarnessError(f"{said}\n{self.log_text}") from None
        seconds = time.monotonic() - begun
        result = Result(shlex.join(typed), done.returncode, done.stdout, done.stderr, seconds)
        if check and result.code != 0:
            raise CommandError(self.name, result)
        return result

    # Namespaces ------------------------------------------------------------------------------

    def _own_main(self) -> list[str]:
        """Return the command of its service: its own, or that of our drop-in."""
        if self.server is None:
            return [self._installed.python, "/opt/confluent/bin/confluent", "-f"]
        _, *words = shlex.split(_drop_in("ExecStart")[-1])
        return [self._installed.python, *words]

    def _environment(self) -> dict[str, str]:
        given = {"PATH": os.environ.get("PATH", ""), "HOME": "/root"}
        if self.server is not None:
            given[ROOT_VARIABLE] = str(self.server.root)
            given.update(_pairs(_drop_in("Environment")))
        return {**given, **self.environment}

    def _enter(self, command: Sequence[str]) -> list[str]:
        """Return what runs a command in the namespaces of this server, which runs or not."""
        if not self.is_running:
            return self._fresh(command)
        where = ("--target", str(self.pid), "--mount", "--net", "--uts", "--pid")
        return ["nsenter", *where, "--", *command]

    def _fresh(self, command: Sequence[str], *more: str) -> list[str]:
        """Return what runs a command in new namespaces with the folders of this server."""
        own = ("--mount", "--uts", "--propagation", "private", *more)
        if "--pid" in more:
            own = (*own, "--mount-proc")
        script = ("sh", "-c", _ENTER, "enter")
        given = (str(self.folder), str(self._installed.library), self.name)
        return [*self._prefix, "unshare", *own, "--", *script, *given, *command]

    def _child(self) -> int | None:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            found = children.read_text().split()
        except OSError:
            found = []
        if not found and not self.is_running:
            raise HarnessError(f"the Confluent of {self.name} ended\n{self.log_text}")
        return int(found[0]) if found else None

    def _forget_run(self) -> None:
        """Empty its ``/run/confluent``, as systemd does when a service ends."""
        folder = self.folder / "run/confluent"
        shutil.rmtree(folder)
        folder.mkdir()

    def _is_answering(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.folder / "run/confluent/api.sock"))
                return bool(probe.recv(1))
            except OSError:
                return False


def join_built_in(confluents: Sequence[WholeConfluent], address: str) -> None:
    """Make Confluent's built-in collective of some that run alone, and wait for its quorum.

    Args:
        confluents: the first one invites the others.
        address: of the first one.
    """
    first, *others = confluents
    for number, other in enumerate(others, start=1):
        token = first.run("collective", "invite", other.name, check=True)
        if not token.out:
            raise HarnessError(f"{first.name} does not invite {other.name}: {token.err}")
        given = ("-i", token.out.strip())
        other.run("collective", "join", address, *given, check=True)
        for each in confluents[: number + 1]:
            _wait_for_built_in(each)


def _wait_for_built_in(confluent: WholeConfluent) -> None:
    def is_led() -> bool:
        shown = confluent.run("collective", "show").out
        return "Quorum: True" in shown or "on leader for more data" in shown

    wait_until(is_led, _BUILT_IN_SECONDS, f"{confluent.name} is in the built-in collective")


def missing() -> list[str]:
    """Return the programs of the machine that are needed and are not there."""
    return [tool for tool in NEEDED if shutil.which(tool) is None]


def _drop_in(key: str) -> list[str]:
    """Return the values of a key in our drop-in."""
    pairs = (line.partition("=") for line in DROP_IN.read_text().splitlines())
    return [value for name, _, value in pairs if name == key]


def _pairs(assignments: Sequence[str]) -> Mapping[str, str]:
    split = (each.partition("=") for each in assignments)
    return {name: value for name, _, value in split}
