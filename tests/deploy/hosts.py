"""Hosts that are booted, with systemd and sshd, each in a network namespace of its own.

::

    with Hosts(["mgt1", "mgt2", "mgt3"]) as hosts:
        hosts.run("mgt1", "collective", "show")     # over ssh, from the controller
        hosts.reboot("mgt2")

All of it runs in mount and process namespaces of its own (see ``make test-deploy``), so that
nothing is left mounted, and no host is left running, when this process is killed.

Invariants:
  * Traffic stays within the namespaces that are made here.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.deploy.image import image, nspawn
from tests.harness.network import Network
from tests.harness.processes import send, spawn
from tests.harness.waiting import wait_until
from tools.steps import run

CONTROLLER = "controller"
_BOOT_SECONDS = 60.0
_STOP_SECONDS = 40.0
_RUN_SECONDS = 120.0
_SHOW_SECONDS = 60.0


class Hosts:
    """A few hosts, and the controller's network namespace.

    Attributes:
        network: in which they are.
        folder: of everything that is not on the hosts: the key, the overlays, the logs.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        """Plan them.

        Args:
            names: of the hosts.
            folder: an empty one.
        """
        self.folder = folder
        self.names = list(names)
        numbered = {name: (f"10.99.0.{n}/24",) for n, name in enumerate(names, 11)}
        self.network = Network({CONTROLLER: ("10.99.0.1/24",), **numbered})
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Hosts:
        """Make the network and boot all hosts."""
        self.network.__enter__()
        try:
            run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(self.key)], _RUN_SECONDS)
            for name in self.names:
                self._lay_out(name)
                self.boot(name)
            for name in self.names:
                self.wait_for(name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._running):
            self.power_off(name)
        for name in self.names:
            subprocess.run(["umount", "--lazy", str(self.root(name))], check=False)
        self.network.__exit__(kind, error, trace)

    @property
    def key(self) -> Path:
        """The controller's private key for ssh."""
        return self.folder / "key"

    def root(self, name: str) -> Path:
        """Return where the files of a host are."""
        return self.folder / name / "root"

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return self.network[name].address

    def boot(self, name: str) -> None:
        """Switch a host on; it is not up yet."""
        program, environment = nspawn()
        options = [
            "--quiet",
            f"--directory={self.root(name)}",
            f"--machine={name}",
            f"--network-namespace-path=/run/netns/{self.network[name].namespace}",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
            "--capability=CAP_NET_ADMIN",
            # Its own filter has less than a machine: that of the unit is what is tried.
            "--system-call-filter=pidfd_getfd",
            "--boot",
        ]
        log = self.folder / f"{name}.log"
        self._running[name] = spawn(
            [*program, *options], self.folder, environment, log, outlive=False
        )

    def wait_for(self, name: str) -> None:
        """Wait until a host lets the controller in."""
        wait_until(lambda: self._answers(name), _BOOT_SECONDS, f"{name} is up")

    def power_off(self, name: str) -> None:
        """Take a host's power away, in the middle of whatever it does."""
        child = self._running.pop(name)
        # Its first process: the kernel ends all others of the host with it. That of systemd-nspawn
        # outside would leave them running.
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        send([int(pid) for pid in children], signal.SIGKILL)
        child.wait(_STOP_SECONDS)

    def reboot(self, name: str) -> None:
        """Shut a host down as an administrator does, and switch it on again."""
        self.ssh(name, "systemctl poweroff --no-block", check=False)
        self._running.pop(name).wait(_STOP_SECONDS)
        self.boot(name)
        self.wait_for(name)

    def reinstall(self, name: str) -> None:
        """Take a host's power and its disk, and boot it with an empty one."""
        if name in self._running:
            self.power_off(name)
        run(["umount", "--lazy", str(self.root(name))], _RUN_SECONDS)
        shutil.rmtree(self.folder / name)
        self._lay_out(name)
        self.boot(name)
        self.wait_for(name)

    def let_in(self, name: str, other: str) -> None:
        """Have root of one host be let in by another, over ssh."""
        target = self.root(name) / "root/.ssh"
        shutil.copy(self.key, target / "id_ed25519")
        (target / "config").write_text("StrictHostKeyChecking no\nLogLevel ERROR\n")
        assert self.ssh(name, f"ssh {other} true").returncode == 0

    def ssh_options(self) -> list[str]:
        """Return what ssh is to be told, for any host."""
        return [
            f"-oIdentityFile={self.key}",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
            "-oConnectTimeout=5",
            "-oBatchMode=yes",
        ]

    def ssh(
        self, name: str, command: str, *, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of shell on a host, over ssh, from the controller."""
        return self.on_controller(
            ["ssh", *self.ssh_options(), f"root@{self.address(name)}", command],
            check=check,
            text=text,
        )

    def on_controller(
        self, command: Sequence[str], *, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the controller's network namespace."""
        done = subprocess.run(
            [*self.network[CONTROLLER].prefix, *command],
            capture_output=True,
            text=True,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            timeout=_RUN_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command[-1]} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def show(self, name: str) -> dict[str, Any]:
        """Return what a server shows, or a document without members where none runs."""
        said = self.ssh(name, "collective show --json", check=False).stdout
        found: dict[str, Any] = {"mode": "none", "members": []}
        return found | (json.loads(said) if said.strip() else {})

    def states(self, name: str) -> dict[str, str]:
        """Return the state of each member, as a server shows it."""
        return {member["name"]: member["state"] for member in self.show(name)["members"]}

    def wait_active(self, name: str, *members: str) -> None:
        """Wait until a server shows these members, and no other, and all are well."""
        wanted = dict.fromkeys(members, "active")
        wait_until(lambda: self.states(name) == wanted, _SHOW_SECONDS, f"{members} are active")

    def _answers(self, name: str) -> bool:
        return self.ssh(name, "true", check=False).returncode == 0

    def _lay_out(self, name: str) -> None:
        """Give a host a disk: the image below, and what it writes above."""
        folder = self.folder / name
        for part in ("root", "upper", "work"):
            (folder / part).mkdir(parents=True)
        layers = f"lowerdir={image()},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        mount = ["mount", "-t", "overlay", name, "-o", layers, str(self.root(name))]
        run(mount, _RUN_SECONDS)
        root = self.root(name)
        (root / "etc/hostname").write_text(f"{name}\n")
        hosts = [f"{self.address(other)} {other}" for other in self.names]
        (root / "etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        keys = root / "root/.ssh"
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        run(["ssh-keygen", "-q", "-A", "-f", str(root)], _RUN_SECONDS)
